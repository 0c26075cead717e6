"""Results come back as they were: types, values to the bit, names and order."""

from __future__ import annotations

import json
import math
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surgery_core import (
    GenerationSettings,
    LayerPlan,
    LogitLens,
    SweepRow,
    Text,
    compare,
    complete,
    operate,
    read_lens,
    score,
    sweep,
)
from surgery_core.bench.stored import Description, restored, stored
from surgery_core.sweeps.rows import frame as sweep_rows
from tests.tiny import build_tokenizer


def again(value: Any) -> Any:
    """Return a value written as strict JSON and read again."""
    return restored(json.loads(json.dumps(stored(value), allow_nan=False)))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.text() | st.integers() | st.tuples(st.text(), st.integers())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner) | st.frozensets(SCALARS),
    max_leaves=12,
)


@given(VALUES)
def test_plain_values_and_containers(value: Any) -> None:
    assert repr(again(value)) == repr(value) or again(value) == value
    assert type(again(value)) is type(value)


def test_what_json_has_no_form_for() -> None:
    assert again({"stored_as": "tuple", "items": [1]}) == {"stored_as": "tuple", "items": [1]}
    assert again({1: "a", "1": "b", (2, 3): {4.0}}) == {1: "a", "1": "b", (2, 3): {4.0}}
    assert math.isnan(again(float("nan")))
    assert again([math.inf, -math.inf]) == [math.inf, -math.inf]


DTYPES = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "int64", "int8", "uint8", "bool", "complex64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 2), (2, 0, 4)])
def test_tensors_of_every_format(dtype: str, shape: tuple[int, ...]) -> None:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul(3)
    value = (made > 0) if dtype == "bool" else made.to(getattr(torch, dtype))
    found = again(value)
    assert (found.dtype, found.shape) == (value.dtype, value.shape)
    assert torch.equal(found.to(torch.complex128), value.to(torch.complex128))


def test_tensors_that_are_views_or_have_no_numbers() -> None:
    value = torch.tensor([[1.0, math.nan], [math.inf, -0.0]]).T
    found = again(value)
    assert torch.equal(found.isnan(), value.isnan())
    assert torch.equal(found.nan_to_num(), value.nan_to_num())
    assert torch.equal(found.signbit(), value.signbit())
    assert torch.equal(again(torch.nn.Parameter(torch.ones(2))), torch.ones(2))


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3).T,
        np.array([1.5, np.nan]),
        np.array(["a", "öü"]),
        np.array([{"a": 1}, None], dtype=object),
        np.array(7.0),
        np.float32(0.1),
        np.bool_(True),
        np.array(["2026-01-02"], dtype="datetime64[D]"),
    ],
    ids=repr,
)
def test_arrays(value: Any) -> None:
    found = again(value)
    assert type(found) is type(value)
    assert found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)


FRAMES = {
    "plain": pd.DataFrame({"layer": ["L0", "L1"], "loss": [0.1, math.nan], "n": [1, 2], "kept": [True, False]}),
    "infinite": pd.DataFrame({"ratio": [math.inf, -math.inf, 1 / 3]}),
    "missing": pd.DataFrame({"n": pd.array([1, None], "Int64"), "b": pd.array([None, True], "boolean"), "s": ["a", None]}),
    "narrow": pd.DataFrame({"x": np.array([0.1, 2], np.float32), "n": np.array([1, 2], np.uint8)}),
    "times": pd.DataFrame(
        {"at": pd.to_datetime(["2026-01-02T03:04:05.678", None], utc=True), "took": pd.to_timedelta(["1s", "2ms"])}
    ),
    "categories": pd.DataFrame({"c": pd.Categorical(["b", "a", None], ["b", "a", "never"], ordered=True)}),
    "objects": pd.DataFrame({"o": pd.Series([{"a": 1}, (2, 3), None], dtype=object)}),
    "index": pd.DataFrame({"v": [1.0, 2.0]}, index=pd.Index(["x", "y"], name="row")),
    "two levels": pd.DataFrame(
        {"v": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", None])
    ),
    "columns": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", "n"])),
    "numbered columns": pd.DataFrame([[1, 2], [3, 4]]),
    "twice": pd.DataFrame([[1, 2.5]], columns=["same", "same"]),
    "no rows": pd.DataFrame({"a": pd.Series([], dtype="float64"), "b": pd.Series([], dtype="str")}),
    "no columns": pd.DataFrame(index=pd.RangeIndex(3)),
    "other range": pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(5, 9, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_frames(name: str) -> None:
    frame = FRAMES[name]
    pd.testing.assert_frame_equal(
        again(frame), frame, check_exact=True, check_index_type="equiv", check_column_type="equiv"
    )


def test_columns_that_cannot_be_made_again_are_described() -> None:
    frame = pd.DataFrame({"block": pd.interval_range(0, 2), "n": [1, 2]})
    found = again(frame)
    assert list(found["n"]) == [1, 2]
    assert "Interval(0, 1, closed='right')" in found["block"][0].text


def test_series_and_plans() -> None:
    series = pd.Series([1.5, 2.5], index=["a", "b"], name="loss")
    pd.testing.assert_series_equal(again(series), series)
    plan = LayerPlan.parse("0-4,(5|6)*0.5,7.attn,mean(8)", 12)
    assert again(plan) == plan


def test_charts() -> None:
    few, many = (
        alt.Chart(pd.DataFrame({"x": range(rows), "y": [0.5] * rows})).encode(x="x:Q", y="y:Q") for rows in (3, 6_000)
    )
    for chart in (many.mark_bar(), few.mark_line() + few.mark_point(), few.mark_bar() | few.mark_line()):
        found = again({"chart": chart})["chart"]
        with alt.data_transformers.disable_max_rows():
            assert found.to_dict() == chart.to_dict()
            assert type(found) is type(chart)


def test_measurements(tiny_llama: Any) -> None:
    tokenizer, texts = build_tokenizer(), ["There was once a fox.", "And a king."]
    comparison = compare(tiny_llama, operate(tiny_llama, "0,2-3"), tokenizer, texts)
    found = again(comparison)
    pd.testing.assert_frame_equal(found.frame(), comparison.frame(), check_exact=True)
    pd.testing.assert_frame_equal(found.tokens("Text 2"), comparison.tokens("Text 2"), check_exact=True)
    assert (found.kl, found.ratio, found.plan) == (comparison.kl, comparison.ratio, comparison.plan)
    assert again(score(tiny_llama, tokenizer, texts)) == score(tiny_llama, tokenizer, texts)
    written = complete(tiny_llama, tokenizer, "Once", GenerationSettings(max_new_tokens=4))
    assert again((written, Text("a", "b"))) == (written, Text("a", "b"))
    read = read_lens(LogitLens(tiny_llama), tiny_llama, tokenizer, "There was")
    pd.testing.assert_frame_equal(again(read).frame(), read.frame(), check_exact=True)
    rows = list(sweep(tiny_llama, tokenizer, texts, "delete"))
    # as frames: the starting plan has no interval, and what is no number equals nothing
    pd.testing.assert_frame_equal(sweep_rows(again(rows)), sweep_rows(rows), check_exact=True)
    assert isinstance(again(rows)[0], SweepRow)


def test_anything_else_is_described() -> None:
    found = again({"module": torch.nn.Linear(2, 3), "made": [object]})
    assert found["module"] == Description(
        "torch.nn.modules.linear.Linear: Linear(in_features=2, out_features=3, bias=True)"
    )
    assert isinstance(found["made"][0], Description)
    itself: list[Any] = []
    itself.append(itself)
    assert again(itself)
