"""Refused plans: the reason, and the nearest plan that is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import RefusedPlanError
from surgery_core.plans.nearby import neighbours
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.checks import Trial
from surgery_core.proof.nearest import nearest_plan
from surgery_core.proof.preflight import prove
from surgery_core.surgery.view import operate
from tests.core.support import zoo
from tests.core.support.families import build


def near(text: str, n_layers: int = 4) -> Iterator[str]:
    return map(str, neighbours(LayerPlan.parse(text, n_layers)))


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("0,2", ["0-2", "0,2-3"]),
        ("3-0", ["0,3-1"]),
        ("0,1x2,2-3", ["0-3"]),
        ("0,1*0.5,2-3", ["0-3"]),
        ("0,(1|2),3", ["0-3"]),
    ],
)
def test_one_edit_away_comes_first(plan: str, expected: list[str]) -> None:
    found = list(near(plan))
    assert found[: len(expected)] == expected


@given(st.lists(st.integers(0, 5), max_size=8))
def test_neighbours_end_in_a_plan_in_order_and_never_repeat(layers: list[int]) -> None:
    plan = LayerPlan.identity(6).permute(layers)
    found = list(neighbours(plan))
    assert len(set(found)) == len(found)
    assert plan not in found
    last = [layer.index for slot in found[-1] for layer in slot.layers] if found else layers
    assert set(layers) <= set(last) or not layers
    assert sum(abs(len(one) - len(plan)) <= 1 for one in found) >= bool(found)


def test_a_hybrid_without_attention_is_refused_with_the_nearest_plan_that_has_it() -> None:
    with pytest.raises(
        RefusedPlanError, match=r"keep at least one of L1, L3\. The nearest plan that is allowed is 0-2\."
    ) as error:
        operate(zoo.build("jamba"), "0,2")
    assert str(error.value.nearest) == "0-2"


def test_layers_that_read_another_layers_indexer_are_refused_with_the_nearest_plan_where_they_can() -> None:
    zoo.config_of.cache_clear()
    config = zoo.config_of("hy_v4")
    config.indexer_types = ["full", "shared", "shared", "shared"]
    zoo.config_of.cache_clear()
    model = zoo.from_config(config)
    with pytest.raises(RefusedPlanError, match="require top-k indices from a previous full indexer") as error:
        prove(model, None, "3-0", suggest=True)
    assert str(error.value.nearest) == "0,3-1"
    assert prove(model, None, str(error.value.nearest)).passed


def test_no_plan_is_named_where_even_the_unchanged_model_does_not_pass() -> None:
    model = zoo.build("cpmant")
    assert nearest_plan(model, None, LayerPlan.parse("0-2", 4)) is None
    with pytest.raises(
        RefusedPlanError, match="The model itself writes the same with and without its cache for one"
    ) as error:
        prove(model, None, "0-2", suggest=True)
    assert error.value.nearest is None


def test_where_no_neighbour_passes_it_is_the_unchanged_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_identity(self: Trial, plan: LayerPlan) -> list[Any]:
        if not plan.is_identity:
            raise RefusedPlanError("no")
        return []

    monkeypatch.setattr(Trial, "plan_checks", only_identity)
    assert nearest_plan(build("llama"), None, LayerPlan.parse("3,0", 4)) == LayerPlan.identity(4)
