"""Estimates: what has to run is counted by hand; a timing is held against the sweep itself."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import TextError
from surgery_core.plan import LayerPlan
from surgery_core.prefix_tree import layer_runs
from surgery_core.sweep import Sweep, SweepMeasures
from surgery_core.sweep_estimate import Costs, measure_costs, point_runs
from surgery_core.sweep_plans import KINDS, sweep_points
from surgery_core.text import Text, bundled_texts

BASE = LayerPlan.identity(4)


def test_layers_behind_the_first_change_are_counted() -> None:
    plans = [BASE.delete(at) for at in range(4)]
    # 1,2,3 | 0,2,3 | 0,1,3 | 0,1,2
    assert point_runs(BASE, plans) == [3, 2, 1, 0]
    assert point_runs(BASE, plans, whole=True) == [3, 3, 3, 3]
    assert point_runs(BASE, [BASE.delete(0), BASE.delete(0)]) == [3, 0]
    assert point_runs(BASE, [BASE.parallel(1, 3)]) == [3]


@given(
    st.sampled_from([kind.key for kind in KINDS if not kind.key.startswith(("parallel", "looped", "painters"))]),
    st.integers(4, 9),
)
def test_the_count_is_that_of_the_sweep(kind: str, n_layers: int) -> None:
    start = LayerPlan.identity(n_layers)
    plans = [point.plan for point in sweep_points(kind, start)]
    assert sum(point_runs(start, plans)) + n_layers == layer_runs([start, *plans])


def test_costs_add_up() -> None:
    costs = Costs(layer=2.0, head=1.0, item=0.5, token=0.25, whole=False, n_tokens=10, texts="1 texts, x")
    assert costs.point_seconds(3, SweepMeasures()) == 7.0
    assert costs.point_seconds(0, SweepMeasures(prompt="a", new_tokens=8)) == 3.0
    points = sweep_points("delete", BASE)
    # the base's four layers and head, and the starting plan's head, come with the first
    assert costs.seconds(BASE, points, SweepMeasures()) == [7.0 + 9.0 + 1.0, 5.0, 3.0, 1.0]
    assert costs.seconds(BASE, (), SweepMeasures()) == []


def test_a_timing_is_of_the_order_of_the_sweep_itself(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    model, points = tiny_llama, sweep_points("skip-block", BASE)
    costs = measure_costs(model, tiny_tokenizer, bundled_texts())
    began = time.perf_counter()
    list(Sweep(model, tiny_tokenizer, bundled_texts(), points).rows())
    took = time.perf_counter() - began
    estimate = sum(costs.seconds(BASE, points, SweepMeasures()))
    assert took / 20 < estimate < took * 20
    assert costs.texts.startswith("12 texts")
    assert costs.layer > 0


def test_no_text_and_a_text_of_one_token_are_refused(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(TextError):
        measure_costs(tiny_llama, tiny_tokenizer, [])
    with pytest.raises(TextError, match="at least 2"):
        measure_costs(tiny_llama, tiny_tokenizer, [Text("Mine", "x")])


def test_a_text_that_begins_with_white_space_is_timed(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    text = Text("Mine", " " * 3_000 + "and then some words")
    assert measure_costs(tiny_llama, tiny_tokenizer, [text]).n_tokens > 3_000
