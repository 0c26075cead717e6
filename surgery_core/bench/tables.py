"""Experiments as tables: one line each, or side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from surgery_core.bench.experiment import Experiment
from surgery_core.bench.readable import readable
from surgery_core.bench.stored import Description
from surgery_core.errors import ExperimentError
from surgery_core.measure.results import Comparison, ScoreTable
from surgery_core.plans.plan import LayerPlan

COLUMNS = (
    "name", "number", "started", "seconds", "outcome", "tools", "arguments", "model", "revision", "commit", "source",
    "file",
)  # fmt: skip
_SCORES = ("n_tokens", "perplexity", "bits_per_byte")
_COMPARED = ("plan", "ratio", "bits_change", "kl", "top1", "top5")


def overview(found: Iterable[Experiment | ExperimentError]) -> pd.DataFrame:
    """Return one line an experiment; see `Bench.experiments`."""
    return pd.DataFrame([_line(item) for item in found], columns=list(COLUMNS))


def side_by_side(found: Mapping[str, Experiment]) -> pd.DataFrame:
    """Return one column an experiment, and a row for each circumstance, argument and figure; see `Bench.compare`."""
    columns = {name: dict(_rows(experiment)) for name, experiment in found.items()}
    names = list(dict.fromkeys(row for column in columns.values() for row in column))
    return pd.DataFrame({key: [column.get(name) for name in names] for key, column in columns.items()}, index=names)


def _line(item: Experiment | ExperimentError) -> dict[str, Any]:
    if isinstance(item, ExperimentError):
        return {"outcome": str(item)}
    return {
        "name": item.name,
        "number": item.number,
        "started": pd.Timestamp(item.started),
        "seconds": item.seconds,
        "outcome": item.outcome,
        "tools": ", ".join(item.tools),
        "arguments": json.dumps(item.arguments, ensure_ascii=False),
        "model": item.model.get("name"),
        "revision": item.model.get("revision"),
        "commit": item.commit,
        "source": (item.source_sha256 or "")[:12] or None,
        "file": item.path.name,
    }


def _rows(experiment: Experiment) -> Iterator[tuple[str, Any]]:
    line = _line(experiment)
    yield from ((name, line[name]) for name in ("number", "started", "seconds", "outcome", "model", "revision"))
    yield from ((f"source: {name}", line[name]) for name in ("commit", "source"))
    yield from ((f"version: {name}", value) for name, value in experiment.versions.items())
    for name, value in experiment.arguments.items():
        yield f"argument: {name}", value if isinstance(value, (str, int, float)) else json.dumps(value)
    yield from _figures("result", experiment.result)


def _figures(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the single figures of a result, under dotted names."""
    if isinstance(value, (Comparison, ScoreTable)):
        yield from _scores(name, value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _figures(f"{name}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for at, item in enumerate(value):
            yield from _figures(f"{name}.{at}", item)
    elif is_dataclass(value) and not isinstance(value, (Description, LayerPlan, type)):
        for field in fields(value):
            yield from _figures(f"{name}.{field.name}", getattr(value, field.name))
    elif value is not None:
        yield name, _figure(value)


def _scores(name: str, value: Comparison | ScoreTable) -> Iterator[tuple[str, Any]]:
    if isinstance(value, ScoreTable):
        yield from ((f"{name}.{figure}", getattr(value, figure)) for figure in _SCORES)
        return
    for side in ("base", "operated"):
        yield from _scores(f"{name}.{side}", getattr(value, side))
    yield from ((f"{name}.{figure}", getattr(value, figure)) for figure in _COMPARED)


def _figure(value: Any) -> Any:
    if isinstance(value, Description):
        return value.text
    if isinstance(value, (torch.Tensor, np.ndarray)):
        one = value.numel() == 1 if isinstance(value, torch.Tensor) else value.size == 1
        return value.item() if one else f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return value if isinstance(value, (str, bool, int, float)) else readable(value)
