"""Estimates: what has to run, and how long, is counted by hand."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import Stopped, TextError
from surgery_core.measure.encoding import encode_texts
from surgery_core.measure.skills import load_skills
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.beginnings_tree import layer_runs
from surgery_core.states.windows import Batch
from surgery_core.sweeps.estimate import (
    FIGURES,
    LENS,
    Costs,
    Span,
    corrected,
    costs_of,
    costs_of_long,
    lens_seconds,
    lens_texts_seconds,
    measure_costs,
    point_runs,
    reading_seconds,
    remaining,
    removal_plans,
    removal_seconds,
    training_seconds,
)
from surgery_core.sweeps.kinds import KINDS, sweep_points
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.speeds import Speeds, _product_seconds
from surgery_core.text import Text, bundled_texts

BASE = LayerPlan.identity(4)


def test_layers_behind_the_first_change_are_counted() -> None:
    plans = [BASE.delete(at) for at in range(4)]
    # 1,2,3 | 0,2,3 | 0,1,3 | 0,1,2
    assert point_runs(BASE, plans) == [3, 2, 1, 0]
    assert point_runs(BASE, plans, whole=True) == [3, 3, 3, 3]
    assert point_runs(BASE, [BASE.delete(0), BASE.delete(0)]) == [3, 0]
    assert point_runs(BASE, [BASE.parallel(1, 3)]) == [3]


SEVERAL = ("parallel", "looped", "painters", "damped", "loop", "atlas")
"""Kinds whose slots have several layers: the tree counts slots, and an estimate counts layers."""


@given(
    st.sampled_from([kind.key for kind in KINDS if not kind.key.startswith(SEVERAL)]),
    st.integers(4, 9),
)
def test_the_count_is_that_of_the_sweep(kind: str, n_layers: int) -> None:
    start = LayerPlan.identity(n_layers)
    plans = [point.plan for point in sweep_points(kind, start)]
    assert sum(point_runs(start, plans)) + n_layers == layer_runs([start, *plans])


SPEEDS = Speeds(
    n_layers=4, call=0.5, layer=0.25, window=0.1, head=0.1, base=0.2, begin=7.0, prompt=0.5, token=0.25,
    product=0.04,
)  # fmt: skip
COSTS = Costs(
    layer=2.0, head=1.0, base=3.0, begin=7.0, item=0.5, token=0.25, whole=False, n_tokens=10, texts="1 texts, x",
    speeds=SPEEDS,
)  # fmt: skip


def test_costs_add_up() -> None:
    plain = SweepMeasures()
    assert COSTS.point_seconds(BASE, 3, plain) == 7.0
    assert COSTS.point_seconds(BASE, 0, SweepMeasures(agreement=False)) == 0.75
    assert COSTS.point_seconds(BASE, 0, SweepMeasures(prompt="a", new_tokens=8)) == 3.0
    points = sweep_points("delete", BASE)
    assert COSTS.seconds(BASE, points, plain) == [7.0, 5.0, 3.0, 1.0]
    assert COSTS.seconds(BASE, (), plain) == []
    # the checks, the base's four layers and its head, and the head of the starting plan, which is the base
    assert COSTS.start_seconds(BASE, plain) == 7.0 + 4 * 2.0 + 3.0 + 1.0
    assert COSTS.total(BASE, points, plain) == 19.0 + 16.0
    # a starting plan that leaves the base behind layer 1 runs two more
    assert COSTS.start_seconds(BASE.swap(2, 3), plain) == 7.0 + 6 * 2.0 + 3.0 + 1.0
    whole = replace(COSTS, whole=True)
    assert whole.seconds(BASE, points, plain) == [7.0] * 4


def test_shorter_plans_answer_and_write_sooner() -> None:
    # of a token's time, 4 * 0.25 goes into the layers and 0.1 into the head
    assert SPEEDS.depth(4) == 1.0
    assert SPEEDS.depth(2) == pytest.approx(0.6 / 1.1)
    assert COSTS.point_seconds(BASE.delete([0, 1]), 0, SweepMeasures(prompt="a", new_tokens=8)) == pytest.approx(
        1.0 + 2.0 * 0.6 / 1.1
    )


def batch(rows: int, width: int) -> Batch:
    ids, nothing = torch.zeros((rows, width), dtype=torch.long), torch.zeros(0, dtype=torch.long)
    return Batch(ids, ids, nothing, nothing, nothing, nothing, nothing)


def test_a_layers_time_is_for_calls_tokens_and_the_window() -> None:
    # 3 * 10 tokens that count twice each, for the window of 10 adds a tenth of itself a token
    assert SPEEDS.tokens(batch(3, 10)) == pytest.approx(60.0)
    assert SPEEDS.run([batch(3, 10), batch(1, 20)]) == pytest.approx(2 * 0.5 + 0.25 * (60.0 + 60.0))


def test_the_time_of_a_removal_is_that_of_its_sweeps() -> None:
    start = LayerPlan.identity(3)
    costs = replace(COSTS, begin=0.0, layer=1.0, head=0.0, base=0.0)
    # of 3 layers: the base (3), the plans without one (2 + 1 + 0); the base again (3) and the best of two (2);
    # of 2 layers: the base (3), behind the base's first layers (1 + 0), the base (3) and the best of one (1)
    assert removal_seconds(costs, start, 1, 1, SweepMeasures()) == 3 + 3 + 3 + 2 + 3 + 1 + 3 + 1
    assert removal_plans(start, 1, 1) == 5
    assert removal_plans(start, 2, 0) == 3 + 2 * 2 + 1 * 2


def test_reading_and_training_take_what_their_parts_take() -> None:
    assert reading_seconds(COSTS) == 4 * 2.0 + 1.0
    assert reading_seconds(COSTS, 2) == 18.0
    tokens = 10 * (1 + 0.1 * 10)
    assert lens_seconds(SPEEDS, 10, 50, 5) == pytest.approx(4 * 0.25 * tokens + 5 * 10 * LENS * 0.1)
    # two products a token of a step, one a token of the five that are held out: at the beginning, the end, and twice between
    figures = FIGURES * 0.06
    trained = 4 * 20 * (0.08 + figures) + 4 * 4 * 5 * (0.04 + figures)
    assert training_seconds(SPEEDS, 2, 10, 5, 8) == pytest.approx(4 * 0.25 * 20 * 1.5 + trained)
    assert lens_texts_seconds(COSTS) == 4 * 2.0 + 5 * LENS * 1.0


def test_a_long_text_is_counted_from_its_beginning(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    """A text that says the same four times over takes about four times as long as one of its parts."""
    text = bundled_texts()[0].text + " "
    part, whole = (costs_of(SPEEDS, encode_texts(tiny_llama, tiny_tokenizer, text * n)) for n in (4, 16))
    found = costs_of_long(SPEEDS, encode_texts(tiny_llama, tiny_tokenizer, text * 4), 0.25)
    assert found.layer == pytest.approx(whole.layer, rel=0.1)
    assert found.head == pytest.approx(4 * part.head)
    assert found.n_tokens == pytest.approx(whole.n_tokens, rel=0.01)


def test_a_span_is_a_factor_of_two_wide_and_narrows_with_what_is_done() -> None:
    assert Span.about(60.0).high == pytest.approx(2 * Span.about(60.0).low)
    middle, late = remaining(50.0, 100.0, 50.0), remaining(99.0, 198.0, 1.0)
    assert middle is not None
    assert late is not None
    assert math.sqrt(middle.low * middle.high) == pytest.approx(100.0)
    assert math.sqrt(late.low * late.high) == pytest.approx(2.0)
    assert middle.high / middle.low > late.high / late.low
    assert remaining(0.0, 0.0, 10.0) is None


def test_an_estimate_gives_way_to_what_was_measured() -> None:
    def middle(span: Span) -> float:
        return math.sqrt(span.low * span.high)

    assert middle(corrected(0.0, 0.0, 100.0)) == pytest.approx(100.0)
    # 10 of 100 took 70: with a prior of 5, the rest goes at 75 / 15 of what was estimated
    assert middle(corrected(10.0, 70.0, 90.0)) == pytest.approx(450.0)
    assert middle(corrected(90.0, 630.0, 10.0)) == pytest.approx(10 * 635 / 95)


def test_a_model_is_timed_in_its_parts(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    costs = measure_costs(tiny_llama, tiny_tokenizer, bundled_texts(), load_skills()[:1])
    speeds = costs.speeds
    assert costs.texts.startswith("12 texts")
    assert speeds.n_layers == 4
    assert not speeds.whole
    assert min(speeds.call, speeds.head, speeds.base, speeds.prompt) > 0
    assert costs.layer >= len(bundled_texts()) / 12 * speeds.call


def test_a_timing_can_be_stopped(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        measure_costs(tiny_llama, tiny_tokenizer, bundled_texts(), stop=stop)


def test_no_text_and_a_text_of_one_token_are_refused(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(TextError):
        measure_costs(tiny_llama, tiny_tokenizer, [])
    with pytest.raises(TextError, match="at least 2"):
        measure_costs(tiny_llama, tiny_tokenizer, [Text("Mine", "x")])


def test_a_text_that_begins_with_white_space_is_timed(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    text = Text("Mine", " " * 3_000 + "and then some words")
    assert measure_costs(tiny_llama, tiny_tokenizer, [text]).n_tokens > 3_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab", [131, 50_257, 262_144])
def test_a_product_is_timed_in_pieces_however_large_the_vocabulary_is(
    vocab: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    linear = torch.nn.functional.linear

    def counted(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        rows.append(len(states))
        assert states.dtype == dtype
        return linear(states, weight)

    class Model:
        def get_output_embeddings(self) -> torch.nn.Module:
            return torch.nn.Linear(8, vocab, bias=False, dtype=dtype)

    monkeypatch.setattr(torch.nn.functional, "linear", counted)
    assert 0 < _product_seconds(Model()) < 10
    assert {one * vocab <= 2**24 for one in rows} == {True}
    assert len(set(rows)) == 1
    assert rows[0] == {131: 512, 50_257: 128, 262_144: 64}[vocab]


def test_a_model_without_an_unembedding_has_no_product() -> None:
    class Model:
        def get_output_embeddings(self) -> None:
            return None

    assert _product_seconds(Model()) == 0.0
