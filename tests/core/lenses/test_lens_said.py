"""The Lens page's sentence; what is expected is counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from surgery_core.lenses.said import layers_until_settled, lens_said
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.plans.plan import LayerPlan


def read(best: list[list[int]], labels: list[str], not_finite: str = "") -> Trajectory:
    """Return a trajectory with these likeliest tokens, a list a row."""
    ids = np.array(best)[:, :, None]
    tokens = tuple("abcdefgh"[: ids.shape[1]])
    return Trajectory(tokens, tuple(labels), tuple(labels), {}, ids, np.ones(ids.shape), {}, not_finite=not_finite)


# the first token is settled from the input on, the second after L0, the third after L1 only
BEFORE = read([[1, 0, 0], [1, 2, 0], [1, 2, 3]], ["input", "L0", "L1"])
AFTER = read([[1, 0, 0], [1, 5, 3]], ["input", "L1"])


def test_where_predictions_settle_and_what_surgery_changes() -> None:
    plan = LayerPlan.parse("1", 2)
    assert (
        lens_said(BEFORE, None, LayerPlan.identity(2))
        == "In this text the next token is settled after 1.0 of 2 layers on average: from there on the likeliest one stays."
    )
    assert lens_said(BEFORE, AFTER, plan) == (
        "Without L0 the next token is settled after 0.7 of 1 layer on average; unchanged, after 1.0 of 2 layers. "
        "At the end another token is likeliest at 1 of 3 places."
    )
    assert lens_said(BEFORE, BEFORE, plan).endswith("At the end the likeliest token is the same everywhere.")


def test_a_row_inside_a_layer_counts_as_half_of_it() -> None:
    labels = ["input", "L0 mid", "L0", "L1 mid", "L1"]
    whole = read([[0], [0], [0], [0], [1]], labels)
    half = read([[0], [0], [0], [1], [1]], labels)
    first = read([[1], [1], [1], [1], [1]], labels)
    assert [layers_until_settled(one) for one in (whole, half, first)] == [2.0, 1.5, 0.0]


@pytest.mark.parametrize(
    ("before", "after"),
    [(read([[0], [0]], ["input", "L0"], "bad"), None), (BEFORE, read([[0], [0]], ["input", "L0"], "bad"))],
)
def test_states_that_are_no_numbers_have_no_sentence(before: Trajectory, after: Trajectory | None) -> None:
    assert lens_said(before, after, LayerPlan.identity(2)) == ""


def test_the_model_without_layers_is_settled_at_once() -> None:
    nothing = read([[4, 4, 4]], ["input"])
    said = lens_said(BEFORE, nothing, LayerPlan.parse("", 2))
    assert said.startswith("Without any layer the next token is settled at once on average")
