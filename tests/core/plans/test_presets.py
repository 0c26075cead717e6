"""Presets: what each does on models of any depth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import PlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.presets import PRESETS, preset


def order(plan: LayerPlan) -> list[int]:
    return [slot.layers[0].index for slot in plan]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("drop-one", [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11]),
        ("drop-last-quarter", [0, 1, 2, 3, 4, 5, 6, 7, 11]),
        ("reverse-middle", [0, 1, 2, 8, 7, 6, 5, 4, 3, 9, 10, 11]),
        ("swap-neighbours", [0, 1, 2, 3, 4, 5, 7, 6, 8, 9, 10, 11]),
        ("repeat-middle", [0, 1, 2, 3, 4, 5, 6, 7, 8, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ],
)
def test_twelve_layers(key: str, expected: list[int]) -> None:
    assert order(preset(key).apply(12)) == expected


def test_loops_take_half_of_what_they_add() -> None:
    assert str(preset("loop-middle").apply(12)) == "0-2,[3-8]*0.5x2,9-11"
    assert str(preset("loop-halfway").apply(12)) == "0-8,[3-8]*0.5,9-11"


@given(st.integers(2, 100), st.integers(0, 1000))
def test_every_preset_changes_every_model_and_is_reproducible(n_layers: int, seed: int) -> None:
    for candidate in PRESETS:
        plan = candidate.apply(n_layers, seed=seed)
        assert plan == candidate.apply(n_layers, seed=seed)
        if n_layers > 3:
            assert not plan.is_identity, candidate.key


@given(st.integers(4, 60), st.integers(0, 99))
def test_the_shuffle_is_a_permutation_of_the_middle(n_layers: int, seed: int) -> None:
    found = order(preset("shuffle-middle").apply(n_layers, seed=seed))
    assert sorted(found) == list(range(n_layers))
    edge = n_layers // 4
    assert found[:edge] == list(range(edge))
    assert found[-edge:] == list(range(n_layers - edge, n_layers))


@given(st.integers(2, 60), st.data())
def test_the_last_layer_survives_and_swaps_stay_inside(n_layers: int, data: st.DataObject) -> None:
    assert order(preset("drop-last-quarter").apply(n_layers))[-1] == n_layers - 1
    layer = data.draw(st.integers(-n_layers, n_layers - 1))
    assert sorted(order(preset("swap-neighbours").apply(n_layers, layer=layer))) == list(range(n_layers))


def test_errors() -> None:
    with pytest.raises(PlanError, match="at least 2 layers; this one has 1"):
        preset("drop-one").apply(1)
    with pytest.raises(PlanError, match="no preset 'x'; there are: drop-one"):
        preset("x")
    with pytest.raises(PlanError, match="40"):
        preset("drop-one").apply(12, layer=40)
