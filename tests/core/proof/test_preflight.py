"""Preflight: right models pass, and every kind of wrong one is caught."""

from __future__ import annotations

import copy
import sys
from functools import cache
from typing import Any

import pytest
import torch

from surgery_core.errors import PlanError, RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.layer_by_layer import ByHand
from surgery_core.proof.preflight import fingerprint, preflight, prove
from tests.core.support.families import FAMILIES, build, reference, tokens

model_of = cache(build)
module = sys.modules["surgery_core.proof.checks"]
PADDED = torch.tensor([[0, 0, 5, 6, 7], [8, 9, 10, 11, 12]])
MASK = (PADDED > 0).long()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_supported_family_passes(family: str) -> None:
    report = preflight(model_of(family))
    assert report.passed, report.reason
    assert report.reason == ""
    assert list(report.frame()["key"]) == [
        "numbers", "identity", "base-cache", "base-cache-padded", "layers", "by-hand", "by-hand-padded", "plan-cache",
        "plan-cache-padded", "lens", "reload", "untouched",
    ]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("notation", ["", "3,1x2", "0.attn,1*0.5,(2|3.mlp)"])
def test_plans_are_proved(family: str, notation: str) -> None:
    assert prove(model_of(family), None, notation).passed


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("order", [(0, 1, 3), (1, 2, 3), (3, 2, 1, 0), (0, 1, 1, 2)])
def test_by_hand_equals_an_independently_built_model(family: str, order: tuple[int, ...]) -> None:
    base = model_of(family)
    plan = LayerPlan.identity(4).permute(order)
    batch = {"input_ids": PADDED, "attention_mask": MASK}
    logits, expected = ByHand(base, batch).logits(plan), reference(base, order)(**batch).logits
    torch.testing.assert_close(logits[MASK.bool()], expected[MASK.bool()], atol=1e-5, rtol=1e-5)


def operate_wrongly(how: str) -> Any:
    """Return an `operate` with one of the mistakes that other tools make."""

    def wrong(model: Any, plan: LayerPlan, **ingredients: Any) -> Any:
        operated = copy.deepcopy(model)
        order = [slot.layers[0].index for slot in plan]
        layers = operated.model.layers
        operated.model.layers = torch.nn.ModuleList(copy.deepcopy(layers[index]) for index in order)
        if how != "stale depth":
            operated.config.num_hidden_layers = len(order)
        if how not in ("stale cache index", "stale depth"):
            for position, layer in enumerate(operated.model.layers):
                layer.self_attn.layer_idx = position
        if how == "mutates the base":
            model.model.norm.weight.add_(1.0)
        if how == "one layer short":
            operated.config.num_hidden_layers -= 1
        return operated

    return wrong


@pytest.mark.parametrize(
    ("how", "plan", "key"),
    [
        ("stale depth", "0-3,0", "layers"),
        ("one layer short", "0-2", "layers"),
        ("stale cache index", "0,1,1,2", "plan-cache"),
        ("mutates the base", "0-2", "untouched"),
    ],
)
def test_the_mistakes_of_the_plain_way_are_caught(
    how: str, plan: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("llama")
    monkeypatch.setattr(module, "operate", operate_wrongly(how))
    report = preflight(model, plan=LayerPlan.parse(plan, 4))
    failed = {check.key for check in report.checks if not check.passed}
    assert key in failed
    assert not report.passed
    assert report.reason
    if how != "mutates the base":
        with pytest.raises(RefusedPlanError, match="cannot be trusted on a LlamaForCausalLM"):
            prove(model, None, LayerPlan.parse(plan, 4))


def test_wrong_masks_are_caught_by_calling_the_layers_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain reorder leaves `layer_types` behind, so a sliding layer gets a full layer's mask."""
    model = build("gemma3")
    monkeypatch.setattr(module, "operate", operate_wrongly("stale layer types"))
    report = preflight(model, plan=LayerPlan.parse("1-3", 4))
    assert {"by-hand"} <= {check.key for check in report.checks if not check.passed}


def test_a_model_whose_own_code_fails_is_reported_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: Any, plan: Any, **ingredients: Any) -> Any:
        raise IndexError("list index out of range")

    monkeypatch.setattr(module, "operate", broken)
    with pytest.raises(RefusedPlanError, match="stopped with IndexError: list index out of range"):
        prove(build("llama"), None, LayerPlan.parse("0", 4))


def test_fingerprint_sees_a_single_changed_weight() -> None:
    model = build("gpt2")
    before = fingerprint(model)
    assert fingerprint(model) == before
    model.transformer.h[2].mlp.c_fc.weight[3, 3] += 1e-6
    assert fingerprint(model) != before


def test_a_plan_that_does_not_fit_is_the_persons_error() -> None:
    with pytest.raises(PlanError, match="no layer 9"):
        preflight(model_of("llama"), plan="9")


def test_hybrids_without_attention_are_refused_with_the_layers_to_keep() -> None:
    from surgery_core.surgery.view import operate
    from tests.core.support import zoo

    model = zoo.build("jamba")
    with pytest.raises(RefusedPlanError, match=r"keep at least one of L1, L3"):
        operate(model, "0,2")
    assert operate(model, "0,3")(tokens()).logits.shape[-1] == zoo.VOCAB
