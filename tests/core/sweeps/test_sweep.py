"""Every row of a sweep against the plain computation of that one plan, and what a sweep runs, keeps and refuses."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery_core.errors import RefusedPlanError, SettingsError, Stopped, TextError
from surgery_core.measure.compare import compare
from surgery_core.measure.encoding import encode_texts
from surgery_core.measure.skills import load_skills, score_skills
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Slot
from surgery_core.states.beginnings_tree import layer_runs
from surgery_core.states.shared_beginnings import SharedRuns
from surgery_core.surgery.view import operate
from surgery_core.sweeps import running as sweep_run
from surgery_core.sweeps.kinds import KINDS, SweepPoint, sweep_points
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.running import distinct
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import Sweep, sweep
from surgery_core.text import Text
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support import zoo
from tests.core.support.families import FAMILIES, build, reference

model_of = cache(build)
IDENTITY = LayerPlan.identity(4)
LONG = "It was a dark night, and the wolf came to the door. " * 4
TEXTS = (Text("Fox", "The fox said: how do you do?"), Text("Long", LONG), Text("Two", "ab"))


def plain_loss(model: Any, texts: tuple[Text, ...]) -> dict[str, float]:
    """Return the mean loss of texts that fit one window, by plain transformers in float64."""
    losses = {}
    for text in texts:
        ids = torch.tensor([byte_tokenizer()(text.text)["input_ids"]])
        logp = model(ids).logits[0, :-1].double().log_softmax(-1)
        losses[text.title] = float(-logp.gather(-1, ids[0, 1:, None]).mean())
    return losses


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["delete", "swap-pairs", "repeat"])
def test_rows_equal_models_that_were_built_in_the_new_order(family: str, kind: str) -> None:
    model, texts = model_of(family), (TEXTS[0], TEXTS[2])
    rows = list(sweep(model, byte_tokenizer(), texts, kind))
    assert len(rows) == 1 + len(sweep_points(kind, IDENTITY))
    for row in rows:
        order = [slot.layers[0].index for slot in LayerPlan.parse(row.plan, 4)]
        expected = plain_loss(reference(model, order), texts)
        assert row.texts == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", [kind.key for kind in KINDS if not (kind.adapter or kind.stitched)])
def test_every_kind_gives_what_a_comparison_of_each_plan_gives(kind: str) -> None:
    model, tokenizer = model_of("llama"), byte_tokenizer()
    run = Sweep(model, tokenizer, TEXTS, sweep_points(kind, IDENTITY))
    rows = list(run.rows())
    assert run.note == ""
    for row in rows:
        whole = compare(model, operate(model, row.plan), tokenizer, TEXTS)
        assert not row.refused
        assert row.nats == pytest.approx(whole.operated.nats / whole.operated.n_tokens, abs=1e-5)
        assert row.bits_per_byte == pytest.approx(whole.operated.bits_per_byte, abs=1e-5)
        assert (row.kl, row.top1, row.top5) == pytest.approx((whole.kl, whole.top1, whole.top5), abs=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "opt"])
def test_heads_of_every_form_agree_with_comparisons(family: str) -> None:
    model, tokenizer = model_of(family), byte_tokenizer()
    for row in list(sweep(model, tokenizer, TEXTS, "delete"))[:3]:
        whole = compare(model, operate(model, row.plan), tokenizer, TEXTS)
        assert row.nats == pytest.approx(whole.operated.nats / whole.operated.n_tokens, abs=1e-5)
        assert (row.kl, row.top1, row.top5) == pytest.approx((whole.kl, whole.top1, whole.top5), abs=1e-5)


def test_the_loss_alone_is_the_same_and_says_nothing_of_agreement() -> None:
    model = model_of("llama")
    with_all = list(sweep(model, byte_tokenizer(), TEXTS, "delete"))
    alone = list(sweep(model, byte_tokenizer(), TEXTS, "delete", measures=SweepMeasures(agreement=False)))
    assert [row.nats for row in alone] == pytest.approx([row.nats for row in with_all], abs=1e-6)
    assert all(math.isnan(row.kl) and math.isnan(row.top1) for row in alone)


@pytest.mark.parametrize(
    ("kind", "runs"),
    [
        ("delete", 4 + 3 + 2 + 1 + 0),  # the base, then what lies behind each deleted layer
        ("repeat", 4 + 4 + 3 + 2 + 1),  # the layer again and all behind it
        ("skip-block", 4 + (3 + 2 + 1) + (2 + 1 + 0) + (1 + 0) + 0),  # a block of 1, 2, 3 from each start
        ("swap-pairs", 4 + 3 * 4 + 2 * 3 + 1 * 2),
    ],
)
def test_only_what_lies_behind_the_first_change_runs(kind: str, runs: int) -> None:
    points = sweep_points(kind, IDENTITY)
    batches = encode_texts(model_of("llama"), byte_tokenizer(), TEXTS[0]).batches
    shared = SharedRuns(model_of("llama"), batches, [point.plan for point in points])
    for point in points:
        shared.hidden([point.plan], 0)
        shared.finish(point.plan)
    assert shared.runs == runs == layer_runs([IDENTITY, *(point.plan for point in points)])
    assert not any(node.states for node in shared.tree.nodes())


plans = st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=8).map(
    lambda orders: [LayerPlan(tuple(Slot.of(index) for index in order), 4) for order in orders]
)


@settings(max_examples=40)
@given(plans=plans, memory=st.sampled_from([0, 4000, 12000, 10**9]))
def test_any_plans_in_any_memory_give_the_same_states(plans: list[LayerPlan], memory: int) -> None:
    model = model_of("llama")
    batches = encode_texts(model, byte_tokenizer(), TEXTS).batches
    shared = SharedRuns(model, batches, plans, memory=memory)
    for plan in plans:
        if not len(plan):
            continue
        view = operate(model, plan)
        for number, batch in enumerate(batches):
            seen: list[torch.Tensor] = []
            handle = view.model.layers[-1].register_forward_hook(lambda m, a, output, seen=seen: seen.append(output))
            view(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
            handle.remove()
            real = batch.attention_mask.bool()
            got = shared.hidden([plan], number)[0]
            assert torch.allclose(got[real], seen[0][real], atol=1e-5)
        shared.finish(plan)


@settings(max_examples=25)
@given(plans=plans, family=st.sampled_from(["llama", "gemma2", "bloom", "gpt2"]))
def test_plans_that_end_alike_run_their_end_together(plans: list[LayerPlan], family: str) -> None:
    model = model_of(family)
    batches = encode_texts(model, byte_tokenizer(), TEXTS).batches
    alone, together = (SharedRuns(model, batches, plans) for _ in range(2))
    for number, batch in enumerate(batches):
        real = batch.attention_mask.bool()
        for plan, got in zip(plans, together.hidden(plans, number), strict=True):
            assert torch.allclose(got[real], alone.hidden([plan], number)[0][real], atol=1e-5)


def test_scaled_layers_share_what_comes_behind_them() -> None:
    options = SweepOptions(layer=1, factors=(0.0, 0.5, 2.0))
    plans = [point.plan for point in sweep_points("scale", IDENTITY, options)]
    shared = SharedRuns(model_of("llama"), encode_texts(model_of("llama"), byte_tokenizer(), TEXTS[0]).batches, plans)
    shared.hidden(plans, 0)
    assert shared.runs == 4 + 3 + 2  # the base, the layer in three strengths, then layers 2 and 3 once


def test_short_texts_run_together_and_long_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    original = SharedRuns.hidden
    monkeypatch.setattr(SharedRuns, "hidden", lambda *given: counted.append(len(given[1])) or original(*given))
    options = SweepOptions(factors=(0.0, 0.5, 2.0))
    short = [row.nats for row in sweep(model_of("llama"), byte_tokenizer(), TEXTS[2], "scale", options)]
    assert 3 in counted
    monkeypatch.setattr(sweep_run, "STACKED_TOKENS", {"cpu": 0})
    counted.clear()
    assert [
        row.nats for row in sweep(model_of("llama"), byte_tokenizer(), TEXTS[2], "scale", options)
    ] == pytest.approx(short)
    assert set(counted) == {1}


def test_without_memory_states_are_computed_again_not_wrong() -> None:
    model = model_of("llama")
    plenty = list(sweep(model, byte_tokenizer(), TEXTS, "skip-block"))
    none = list(sweep(model, byte_tokenizer(), TEXTS, "skip-block", memory=0))
    assert [row.nats for row in none] == pytest.approx([row.nats for row in plenty], abs=1e-6)


class Writing(torch.nn.Module):
    """A layer that spoils what it was given, as code that works in place does."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        output = self.layer(hidden_states.clone(), *args, **kwargs)
        hidden_states.zero_()
        return output


def test_a_layer_that_writes_into_its_input_spoils_no_other_plan() -> None:
    model = build("llama")
    expected = [row.nats for row in sweep(model, byte_tokenizer(), TEXTS, "swap-pairs")]
    model.model.layers[1] = Writing(model.model.layers[1])
    assert [row.nats for row in sweep(model, byte_tokenizer(), TEXTS, "swap-pairs")] == pytest.approx(expected)


def test_a_model_that_cannot_start_in_the_middle_is_run_whole_and_says_so() -> None:
    model = zoo.build("gemma3n_text")
    assert model is not None
    run = Sweep(model, byte_tokenizer(), TEXTS[0], sweep_points("swap-neighbours", IDENTITY))
    rows = [row for row in run.rows() if not row.refused]
    assert len(rows) > 1
    for row in rows:
        whole = compare(model, operate(model, row.plan), byte_tokenizer(), TEXTS[0])
        assert row.nats == pytest.approx(whole.operated.nats / whole.operated.n_tokens, abs=1e-5)
        assert row.kl == pytest.approx(whole.kl, abs=1e-5)


def test_a_tail_that_disagrees_falls_back_to_whole_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    expected = list(sweep(model, byte_tokenizer(), TEXTS, "delete"))
    original = SharedRuns.hidden
    monkeypatch.setattr(SharedRuns, "hidden", lambda *given: [1.01 * hidden + 0.1 for hidden in original(*given)])
    run = Sweep(model, byte_tokenizer(), TEXTS, sweep_points("delete", IDENTITY))
    rows = list(run.rows())
    assert "changes the logits" in run.note
    assert [row.nats for row in rows] == pytest.approx([row.nats for row in expected], abs=1e-5)
    assert [row.kl for row in rows] == pytest.approx([row.kl for row in expected], abs=1e-5)


def test_a_refused_plan_is_a_row_with_its_reason() -> None:
    model = zoo.build("mamba")
    rows = list(sweep(model, byte_tokenizer(), TEXTS[0], "delete-mlp"))
    assert not rows[0].refused
    assert all("no separate attention and MLP" in row.refused and math.isnan(row.nats) for row in rows[1:])


def test_layers_of_another_model_are_run_whole() -> None:
    model, donor, tokenizer = model_of("llama"), build("llama", seed=5), byte_tokenizer()
    plan = LayerPlan.parse("0,other:1,2-3", 4)
    run = Sweep(model, tokenizer, TEXTS[0], [SweepPoint(0, 0, None, plan)], donors={"other": donor})
    row = list(run.rows())[1]
    assert "other models" in run.note
    whole = compare(model, operate(model, plan, donors={"other": donor}), tokenizer, TEXTS[0])
    assert row.nats == pytest.approx(whole.operated.nats / whole.operated.n_tokens, abs=1e-5)


def test_a_sweep_can_start_from_an_operated_model() -> None:
    model, start = model_of("llama"), LayerPlan.parse("0,2,1,3", 4)
    rows = list(sweep(model, byte_tokenizer(), TEXTS, "delete", start=start))
    assert [row.plan for row in rows] == ["0,2,1,3", "2,1,3", "0-1,3", "0,2-3", "0,2,1"]
    whole = compare(model, operate(model, rows[0].plan), byte_tokenizer(), TEXTS)
    assert rows[0].kl == pytest.approx(whole.kl, abs=1e-5)
    assert rows[0].loss_change == 0
    assert rows[2].loss_change == pytest.approx(rows[2].nats - rows[0].nats)


def test_rows_that_are_there_are_left_out() -> None:
    model = model_of("llama")
    run = Sweep(model, byte_tokenizer(), TEXTS[0], sweep_points("delete", IDENTITY))
    assert [row.number for row in run.rows(done=[0, 2])] == [-1, 1, 3]


def test_progress_counts_rows() -> None:
    seen: list[tuple[int, int]] = []
    list(sweep(model_of("llama"), byte_tokenizer(), TEXTS[0], "delete", on_progress=lambda *state: seen.append(state)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_stopping_ends_the_sweep_and_lets_go_of_its_memory() -> None:
    model, stop = model_of("llama"), threading.Event()
    run = Sweep(model, byte_tokenizer(), TEXTS, sweep_points("skip-block", IDENTITY), stop=stop)
    rows = run.rows()
    next(rows)
    held = [weakref.ref(node) for node in rows.gi_frame.f_locals["run"].runs.shared.tree.nodes()]  # type: ignore[attr-defined]
    stop.set()
    with pytest.raises(Stopped):
        next(rows)
    del rows
    gc.collect()
    assert held
    assert not any(node() for node in held)


def test_skills_and_the_variety_of_text_are_measured_where_asked_for() -> None:
    model, tokenizer = model_of("llama"), byte_tokenizer()
    skills = load_skills()[:1]
    measures = SweepMeasures(skills=skills, prompt="The fox", new_tokens=6)
    row = list(sweep(model, tokenizer, TEXTS[0], "delete", measures=measures))[2]
    assert row.skills == {skills[0].title: score_skills(operate(model, row.plan), tokenizer, skills)[0].accuracy}
    assert len(row.distinct) == 3
    assert row.distinct_2 == row.distinct[1]


@pytest.mark.parametrize("kind", ["delete", "parallel-middle"])
def test_a_model_whose_weights_want_gradients_can_be_swept(kind: str) -> None:
    model = build("llama").requires_grad_(True)
    expected = list(sweep(model_of("llama"), byte_tokenizer(), TEXTS, kind))
    for agreement in (True, False):
        rows = list(sweep(model, byte_tokenizer(), TEXTS, kind, measures=SweepMeasures(agreement=agreement)))
        assert [row.nats for row in rows] == pytest.approx([row.nats for row in expected], abs=1e-6)


def test_distinct_counts_different_pairs() -> None:
    assert distinct([1, 2, 1, 2, 3], 1) == 3 / 5
    assert distinct([1, 2, 1, 2, 3], 2) == 3 / 4  # 12, 21, 23 of 12, 21, 12, 23
    assert math.isnan(distinct([1], 2))


def test_half_precision_agrees_to_its_own_digits() -> None:
    model = build("llama").to(torch.bfloat16)
    for row in list(sweep(model, byte_tokenizer(), TEXTS, "delete"))[:3]:
        whole = compare(model, operate(model, row.plan), byte_tokenizer(), TEXTS)
        assert row.nats == pytest.approx(whole.operated.nats / whole.operated.n_tokens, abs=2e-2)


def test_bad_input_is_named() -> None:
    model, tokenizer = model_of("llama"), byte_tokenizer()
    with pytest.raises(TextError, match="no text"):
        sweep(model, tokenizer, (), "delete")
    with pytest.raises(SettingsError, match="'explode'"):
        sweep(model, tokenizer, TEXTS, "explode")
    with pytest.raises(SettingsError, match="block of 9 layers"):
        sweep(model, tokenizer, TEXTS, "skip-block", SweepOptions(max_length=9))
    with pytest.raises(SettingsError, match="no plan"):
        Sweep(model, tokenizer, TEXTS, [])
    with pytest.raises(SettingsError, match="at least 4 layers"):
        sweep(model, tokenizer, TEXTS, "painters", start="0-1")


def test_a_plan_that_the_model_refuses_outright_is_no_silent_gap() -> None:
    with pytest.raises(RefusedPlanError):
        operate(zoo.build("mamba"), "0,1.attn")
