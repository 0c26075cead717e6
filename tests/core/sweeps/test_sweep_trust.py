"""Rows of a sweep: right to the figure of a comparison, proved by kind of change, and no failure ends the others."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery_core.errors import RefusedPlanError
from surgery_core.measure import compare as measure
from surgery_core.measure import readout
from surgery_core.measure.compare import compare
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.preflight import prove
from surgery_core.surgery.view import operate
from surgery_core.sweeps import running as sweep_run
from surgery_core.sweeps.kinds import SweepPoint
from surgery_core.sweeps.proofs import change_kind, layer_kinds
from surgery_core.sweeps.removal import remove_greedily
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import Sweep, sweep
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support import zoo
from tests.tiny import build_model, build_tokenizer

TEXTS = ["It was a dark night, and the wolf came to the door.", "ab", "The fox said: how do you do?"]
PLANS = ("0,1,3", "0,2,1,3", "0-3,3", "0,1*0.5,2,3", "0,(1|2),3", "1-3", "0.attn,1,2,3.mlp", "0-3", "")
VOCAB = 260


@cache
def model_in(family: str, dtype: torch.dtype) -> Any:
    return build_model(family).to(dtype)


def row_of(model: Any, plan: str, texts: list[str]) -> Any:
    points = [SweepPoint(0, 0, None, LayerPlan.parse(plan, 4))]
    return list(Sweep(model, build_tokenizer(), texts, points).rows())[-1]


@settings(max_examples=30, deadline=None)
@given(
    family=st.sampled_from(["llama", "gpt2", "gemma2"]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    plan=st.sampled_from(PLANS),
    texts=st.lists(st.text(alphabet="abcdefgh ,.", min_size=2, max_size=120), min_size=1, max_size=5),
    kept=st.sampled_from([0, 40 * VOCAB * 4 - 1, 40 * VOCAB * 4, 2**28]),
    chunk=st.sampled_from([1, 7 * VOCAB - 1, 7 * VOCAB, 2**24]),
    narrowest=st.sampled_from([1, 259, 260, 261, 512]),
    elements=st.sampled_from([1, 260 * 8, 2**21]),
)
def test_a_row_is_the_comparison_of_its_plan(
    family: str, dtype: torch.dtype, plan: str, texts: list[str], kept: int, chunk: int, narrowest: int, elements: int
) -> None:
    """In both number formats and on both sides of every limit of memory; agreement to the position, ties and all."""
    model = model_in(family, dtype)
    plain = compare(model, operate(model, plan), build_tokenizer(), texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "KEPT_BYTES", kept)
        patch.setattr(sweep_run, "KEPT_BYTES", kept)
        patch.setattr(readout, "CHUNK_ELEMENTS", chunk)
        patch.setattr(readout, "NARROWEST_SLICE", narrowest)
        patch.setattr(readout, "SLICE_ELEMENTS", {"cpu": elements, "cuda": elements})
        row = row_of(model, plan, texts)
        bounded = compare(model, operate(model, plan), build_tokenizer(), texts)
    assert not row.refused
    close = {"rel": 1e-5, "abs": 2e-6} if dtype == torch.float32 else {"rel": 2e-3, "abs": 1e-3}
    for found in (row, bounded):
        perplexity = found.perplexity if found is row else found.operated.perplexity
        assert perplexity == pytest.approx(plain.operated.perplexity, rel=close["rel"])
        assert found.kl == pytest.approx(plain.kl, **close)
        assert found.top1 == pytest.approx(plain.top1, abs=1e-9)
        assert found.top5 == pytest.approx(plain.top5, abs=1e-9)


@pytest.mark.parametrize("error", [KeyError, AttributeError, RuntimeError, IndexError])
def test_a_plan_that_fails_while_it_runs_is_a_row_and_the_rest_goes_on(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    from surgery_core.states.shared_beginnings import SharedRuns

    own = SharedRuns._step

    def failing(self: Any, going: Any, number: int) -> Any:
        # what is left of the plan without layer 2 begins with layer 3 behind layer 1
        if going.left == 1 and any(str(plan) == "0-1,3" for _, plan in going.members):
            raise error("sliding_attention")
        return own(self, going, number)

    model = build_model("llama")
    expected = list(sweep(model, build_tokenizer(), TEXTS, "delete"))
    monkeypatch.setattr(SharedRuns, "_step", failing)
    rows = list(sweep(model, build_tokenizer(), TEXTS, "delete"))
    assert [row.number for row in rows] == [-1, 0, 1, 2, 3]
    assert f"It stopped with {error.__name__}" in rows[3].refused
    for row, right in zip(rows, expected, strict=True):
        if row.number != 2:
            assert not row.refused
            assert row.nats == pytest.approx(right.nats, rel=1e-6)
    steps = list(remove_greedily(model, build_tokenizer(), TEXTS))
    assert len(steps) == 4


def sharing(model_type: str) -> Any:
    """Return a model of six layers: L4 reads what L1 keeps, L5 what L3 keeps, and L0 and L2 keep nothing for others."""
    config = copy.deepcopy(zoo.config_of(model_type))
    kinds = ["sliding_attention", "sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    settings = config.to_dict() | {
        "num_hidden_layers": 6, "layer_types": [*kinds, "full_attention"], "num_kv_shared_layers": 2,
    }  # fmt: skip
    if "per_layer_config" in settings:
        settings["per_layer_config"] = {}
        settings["global_head_dim"] = 8
    if "activation_sparsity_pattern" in settings:
        settings["activation_sparsity_pattern"] = [0.0] * 6
    if isinstance(settings.get("intermediate_size"), list):
        settings["intermediate_size"] = settings["intermediate_size"][:1] * 6
    return zoo.from_config(type(config).from_dict(settings))


@pytest.mark.parametrize("model_type", ["gemma3n_text", "gemma4_text"])
def test_models_that_share_keys_and_values_are_swept_to_the_end(model_type: str) -> None:
    """A layer that others read from cannot go: that plan is refused in a sentence, and no KeyError ends the sweep."""
    model = sharing(model_type)
    rows = {row.number: row for row in sweep(model, byte_tokenizer(), TEXTS, "delete")}
    assert {number for number, row in rows.items() if row.refused} == {1, 3}
    assert "run L1 earlier, or leave L4 out" in rows[1].refused
    assert "run L3 earlier, or leave L5 out" in rows[3].refused
    for number in (0, 2, 4, 5):
        assert prove(model, None, rows[number].plan).passed
        assert not rows[number].unproved
    for kind in ("skip-block", "swap-neighbours"):
        found = list(sweep(model, byte_tokenizer(), TEXTS[:1], kind))
        assert any(row.refused for row in found) == (kind == "skip-block")
        assert all("keys and values" in row.refused for row in found if row.refused)
        assert all(not row.unproved for row in found if not row.refused)


def test_rows_that_prove_refuses_are_marked_on_a_model_that_is_wrong_by_itself() -> None:
    """An RWKV writes something else with its cache than without, left-padded, before any surgery."""
    model = zoo.try_build("rwkv")
    rows = [row for row in sweep(model, byte_tokenizer(), TEXTS, "delete") if not row.refused]
    assert rows
    for row in rows:
        with pytest.raises(RefusedPlanError):
            prove(model, None, row.plan)
        assert "cannot be trusted" in row.unproved


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "phi"])
def test_every_row_that_is_not_marked_passes_all_checks(family: str) -> None:
    model = build_model(family)
    for kind in ("delete", "swap-pairs", "repeat", "delete-attention"):
        for row in sweep(model, build_tokenizer(), TEXTS[:1], kind):
            assert not row.unproved
            assert prove(model, build_tokenizer(), row.plan).passed


def test_a_kind_of_change_is_proved_once_on_a_model_with_layers_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    from surgery_core.proof.checks import Trial

    model, tried = build_model("llama", num_hidden_layers=8), []
    own = Trial.plan_checks
    monkeypatch.setattr(
        Trial, "plan_checks", lambda self, plan, **how: tried.append(str(plan)) or own(self, plan, **how)
    )
    list(sweep(model, build_tokenizer(), TEXTS[:1], "delete"))
    # the start, the first layer, one in the middle, the last one
    assert tried == ["0-7", "1-7", "0,2-7", "0-6"]
    list(sweep(model, build_tokenizer(), TEXTS[:1], "delete"))
    assert len(tried) == 4


def test_what_makes_changes_of_one_kind() -> None:
    kinds = layer_kinds(build_model("llama", num_hidden_layers=8))
    assert len(set(kinds)) == 1

    def kind(text: str) -> Any:
        return change_kind(LayerPlan.parse(text, 8), kinds)

    assert kind("0-2,4-7") == kind("0-3,5-7") == kind("0,3-7")
    different = [
        "0-7",
        "0-2,4-7",
        "1-7",
        "0-6",
        "0,2,1,3-7",
        "0-3,3-7",
        "0,1*0.5,2-7",
        "0,1.attn,2-7",
        "0,(1|2),3-7",
        "",
    ]
    assert len({kind(text) for text in different}) == len(different)
    # two types of attention: which of them is left out, and where, matters
    alternating = layer_kinds(build_model("gemma2", num_hidden_layers=8))
    assert len(set(alternating)) == 2
    plans = [LayerPlan.parse(text, 8) for text in ("0-2,4-7", "0-3,5-7")]
    assert change_kind(plans[0], alternating) != change_kind(plans[1], alternating)


def test_measures_without_agreement_have_the_same_losses() -> None:
    model = build_model("gpt2")
    points = [SweepPoint(0, 0, None, LayerPlan.parse("0,1,3", 4))]
    with_, without = (
        list(Sweep(model, build_tokenizer(), TEXTS, points, measures=SweepMeasures(agreement=wanted)).rows())[-1]
        for wanted in (True, False)
    )
    assert without.nats == pytest.approx(with_.nats, rel=1e-6)
    assert without.kl != without.kl
