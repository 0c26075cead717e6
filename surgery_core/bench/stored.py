"""Results as JSON, and back: numbers, texts and containers; frames, tensors, arrays, charts, plans and records.

What JSON has no form for is an object with the key `stored_as`. Only what this table lists is made when a file is read,
so a file from somewhere else can at worst be refused. A value of any other kind is kept as a description.
"""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import torch

from surgery_core.bench.readable import described
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.measure.generation import Generation
from surgery_core.measure.importance import Importance
from surgery_core.measure.results import Comparison, ScoreTable, TextComparison, TextScore, TokenLosses
from surgery_core.measure.skills import ItemResult, Skill, SkillItem, SkillResult
from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.removal import Removal
from surgery_core.sweeps.rows import SweepRow
from surgery_core.text import Prompt, Text

TAG = "stored_as"
DEPTH = 64
"""How deep containers may be nested; what lies deeper, or holds itself, is described."""
_KINDS = "biufcOMmUT"
_NOT_KEPT = (pd.IntervalDtype, pd.SparseDtype, pd.ArrowDtype)
"""Kinds of columns that are not made again as such: they become columns of objects, and odd cells are described."""
RECORDS: Mapping[str, type[Any]] = {
    record.__name__: record
    for record in (
        Comparison, TextComparison, TextScore, TokenLosses, ScoreTable, Generation, GenerationSettings, Importance,
        ItemResult, Prompt, Removal, Skill, SkillItem, SkillResult, SweepRow, Text, Trajectory,
    )
}  # fmt: skip
"""Records that are made again when a file is read, by name."""


@dataclass(frozen=True)
class Description:
    """Stands for a result of a kind that is not kept: what it was and how it printed."""

    text: str


def stored(value: Any, depth: int = DEPTH) -> Any:
    """Return a value as JSON that `restored` reads again."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {TAG: "float", "value": repr(value)}
    if depth == 0:
        return {TAG: "description", "text": described(value)}
    if type(value) is list:
        return [stored(item, depth - 1) for item in value]
    if type(value) is dict:
        return _stored_dict(value, depth - 1)
    return _tagged(value, depth - 1)


def restored(content: Any) -> Any:
    """Return the value that `stored` wrote.

    Raises:
        ValueError, KeyError, TypeError: when it is none.
    """
    if isinstance(content, list):
        return [restored(item) for item in content]
    if not isinstance(content, dict):
        return content
    if TAG not in content:
        return {key: restored(item) for key, item in content.items()}
    if content[TAG] not in _READERS:
        raise ValueError(f"it is stored as {content[TAG]!r}, which this version does not know")
    return _READERS[content[TAG]](content)


def _stored_dict(value: dict[Any, Any], depth: int) -> Any:
    if all(type(key) is str for key in value) and TAG not in value:
        return {key: stored(item, depth) for key, item in value.items()}
    return {TAG: "dict", "items": [[stored(key, depth), stored(item, depth)] for key, item in value.items()]}


def _tagged(value: Any, depth: int) -> dict[str, Any]:
    if type(value) in (tuple, set, frozenset):
        return {TAG: type(value).__name__, "items": [stored(item, depth) for item in value]}
    if isinstance(value, torch.Tensor):
        return _stored_tensor(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return _stored_array(np.asarray(value), depth, scalar=isinstance(value, np.generic))
    if isinstance(value, pd.DataFrame):
        return _stored_frame(value, depth)
    if isinstance(value, pd.Series):
        return {TAG: "series", "name": stored(value.name), "frame": stored(value.to_frame("values"), depth)}
    if isinstance(value, LayerPlan):
        return {TAG: "plan", "notation": value.notation, "n_layers": value.n_layers}
    if RECORDS.get(type(value).__name__) is type(value):
        kept = {field.name: stored(getattr(value, field.name), depth) for field in fields(value)}
        return {TAG: "record", "type": type(value).__name__, "fields": kept}
    return _stored_chart(value) or {TAG: "description", "text": described(value)}


def _stored_tensor(value: torch.Tensor) -> dict[str, Any]:
    plain = value.detach().cpu()
    if type(value) not in (torch.Tensor, torch.nn.Parameter) or plain.layout != torch.strided or plain.is_quantized:
        return {TAG: "description", "text": described(value)}
    flat = plain.resolve_conj().resolve_neg().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    dtype = str(plain.dtype).removeprefix("torch.")
    return {TAG: "tensor", "dtype": dtype, "shape": list(plain.shape), "bytes": base64.b64encode(data).decode("ascii")}


def _tensor(content: Mapping[str, Any]) -> torch.Tensor:
    dtype = getattr(torch, content["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{content['dtype']!r} is no number format")
    data = bytearray(base64.b64decode(content["bytes"], validate=True))
    flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    return flat.reshape(content["shape"])


def _stored_array(value: np.ndarray[Any, Any], depth: int, *, scalar: bool) -> dict[str, Any]:
    head = {TAG: "array", "dtype": value.dtype.str, "shape": list(value.shape), "scalar": scalar}
    if value.dtype.kind == "O":
        return head | {"items": [stored(item, depth) for item in value.ravel().tolist()]}
    if value.dtype.kind == "V":
        return {TAG: "description", "text": described(value)}
    return head | {"bytes": base64.b64encode(value.tobytes()).decode("ascii")}


def _array(content: Mapping[str, Any]) -> Any:
    shape = tuple(content["shape"])
    if "items" in content:
        flat = np.empty(len(content["items"]), dtype=object)
        flat[:] = [restored(item) for item in content["items"]]
        return flat.reshape(shape)
    data = base64.b64decode(content["bytes"], validate=True)
    found = np.frombuffer(data, dtype=np.dtype(content["dtype"])).reshape(shape).copy()
    return found[()] if content["scalar"] else found


def _stored_frame(frame: pd.DataFrame, depth: int) -> dict[str, Any]:
    labels = {"index": _stored_index(frame.index, depth), "columns": _stored_index(frame.columns, depth)}
    values = [_stored_column(frame.iloc[:, at], depth) for at in range(frame.shape[1])]
    return {TAG: "frame"} | labels | {"values": values}


def _stored_index(index: pd.Index[Any], depth: int) -> dict[str, Any]:
    """Return the labels of rows or columns: a range as its ends, anything else as a column a level."""
    names = [stored(name) for name in index.names]
    if isinstance(index, pd.RangeIndex):
        return {"names": names, "range": [index.start, index.stop, index.step]}
    levels = [index.get_level_values(level).to_series() for level in range(index.nlevels)]
    return {"names": names, "levels": [_stored_column(level, depth) for level in levels]}


def _stored_column(column: pd.Series[Any], depth: int) -> dict[str, Any]:
    known = column.dtype.kind in _KINDS and not isinstance(column.dtype, _NOT_KEPT)
    kept = {"dtype": str(column.dtype) if known else "object"}
    if isinstance(column.dtype, pd.CategoricalDtype):
        categories = _stored_column(column.cat.categories.to_series(), depth)
        return kept | {"values": column.cat.codes.tolist(), "categories": categories, "ordered": column.cat.ordered}
    if column.dtype.kind in "fc" and isinstance(column.dtype, np.dtype):
        return kept | {"values": [stored(item) for item in column.tolist()]}
    return kept | {"values": [_stored_cell(item, depth) for item in column.astype(object).tolist()]}


def _stored_cell(item: Any, depth: int) -> Any:
    """Return a cell; a time as text, which the column's format reads again."""
    if item is pd.NA or item is pd.NaT:
        return None
    return str(item) if isinstance(item, (pd.Timestamp, pd.Timedelta, pd.Period)) else stored(item, depth)


def _frame(content: Mapping[str, Any]) -> pd.DataFrame:
    index, columns = _index(content["index"]), _index(content["columns"])
    values = [_column(column).set_axis(index) for column in content["values"]]
    found = pd.DataFrame(dict(enumerate(values)), index=index)
    found.columns = columns
    return found


def _index(content: Mapping[str, Any]) -> pd.Index[Any]:
    names = [restored(name) for name in content["names"]]
    if "range" in content:
        start, stop, step = content["range"]
        return pd.RangeIndex(start, stop, step, name=names[0])
    levels = [_column(level) for level in content["levels"]]
    if len(levels) > 1:
        return pd.MultiIndex.from_arrays(levels, names=names)
    single: pd.Index[Any] = pd.Index(levels[0], name=names[0], tupleize_cols=False)
    return single


def _column(content: Mapping[str, Any]) -> pd.Series[Any]:
    values = [restored(item) for item in content["values"]]
    if "categories" in content:
        categories = _column(content["categories"])
        return pd.Series(pd.Categorical.from_codes(values, categories=pd.Index(categories), ordered=content["ordered"]))
    column: pd.Series[Any] = pd.Series(values, dtype=content["dtype"])
    return column


def _stored_chart(value: Any) -> dict[str, Any] | None:
    """Return a chart of Altair as its specification with all its data, or None for anything else."""
    altair = sys.modules.get("altair")
    if altair is None or not isinstance(value, altair.TopLevelMixin):
        return None
    with altair.data_transformers.disable_max_rows():
        return {TAG: "chart", "specification": value.to_dict()}


def _chart(content: Mapping[str, Any]) -> Any:
    import altair

    return altair.Chart.from_dict(content["specification"])


def _record(content: Mapping[str, Any]) -> Any:
    record = RECORDS[content["type"]]
    return record(**{name: restored(value) for name, value in content["fields"].items()})


def _several(kind: type[Any]) -> Callable[[Mapping[str, Any]], Any]:
    return lambda content: kind(restored(item) for item in content["items"])


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "float": lambda content: float(content["value"]),
    "dict": lambda content: {restored(key): restored(item) for key, item in content["items"]},
    "tuple": _several(tuple),
    "set": _several(set),
    "frozenset": _several(frozenset),
    "tensor": _tensor,
    "array": _array,
    "frame": _frame,
    "series": lambda content: restored(content["frame"])["values"].rename(restored(content["name"])),
    "plan": lambda content: LayerPlan.parse(content["notation"], content["n_layers"]),
    "record": _record,
    "chart": _chart,
    "description": lambda content: Description(str(content["text"])),
}
