"""A plan is checked before anything is measured, by the rules by which it is run."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from surgery_core.errors import PlanError, RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.view import check_plan, operate
from tests.core.support import zoo
from tests.core.support.families import build

GOOD = ["0-3", "", "3-0", "0,(1|2)*0.5,3", "1.attn,2.mlp*2", "other:1,other:2.mlp"]
BAD = ["nobody:1", "other:9", "mean(other:1)", "mean(2).attn"]


@pytest.fixture(scope="module")
def models() -> tuple[Any, dict[str, nn.Module]]:
    return build("llama"), {"other": build("llama", seed=1)}


@pytest.mark.parametrize("notation", GOOD)
def test_what_can_run_passes(models: tuple[Any, dict[str, nn.Module]], notation: str) -> None:
    base, donors = models
    plan = LayerPlan.parse(notation, 4)
    operate(base, plan, donors=donors)
    check_plan(base, plan, donors)


@pytest.mark.parametrize("notation", BAD)
def test_what_cannot_run_is_refused_in_the_same_words(models: tuple[Any, dict[str, nn.Module]], notation: str) -> None:
    base, donors = models
    plan = LayerPlan.parse(notation, 4)
    with pytest.raises(PlanError) as run:
        operate(base, plan, donors=donors)
    with pytest.raises(PlanError) as checked:
        check_plan(base, plan, donors)
    assert str(checked.value) == str(run.value)


def test_a_mean_passes_before_it_was_measured_and_the_model_does_not_run(
    models: tuple[Any, dict[str, nn.Module]],
) -> None:
    base, donors = models
    plan = LayerPlan.parse("0,mean(1),(2|mean(3))", 4)
    ran: list[str] = []
    handle = nn.modules.module.register_module_forward_pre_hook(lambda module, _: ran.append(type(module).__name__))
    try:
        check_plan(base, plan, donors)
    finally:
        handle.remove()
    assert not ran
    with pytest.raises(PlanError, match="mean contributions"):
        operate(base, plan, donors=donors)


def test_half_a_layer_without_halves_is_refused() -> None:
    base = zoo.build("mamba")
    plan = LayerPlan.identity(len(find_layers(base)[1]))
    check_plan(base, plan)
    with pytest.raises(RefusedPlanError, match="no separate attention and MLP"):
        check_plan(base, plan.keep(1, "attn"))
