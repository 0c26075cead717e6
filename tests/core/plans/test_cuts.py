"""Cuts of plans: where layers are missing, and where the base goes on, worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import PlanError
from surgery_core.plans.cuts import cuts, stitched_cuts
from surgery_core.plans.plan import LayerPlan


@pytest.mark.parametrize(
    ("notation", "expected"),
    [
        ("0-11", []),
        ("", []),
        ("3-11", []),
        ("0-3,7-11", [(3, 7, False, "L4 to L6")]),
        ("0-9", [(9, 12, False, "L10 and L11")]),
        ("0-3,5.mlp,6-11", [(3, 5, True, "L4 and the attention of L5")]),
        ("0-3,4.mlp,5-11", [(3, 4, True, "the attention of L4")]),
        ("0-3,4.attn,5-11", [(4, 5, False, "the MLP of L4")]),
        ("0-3,4.attn,4.mlp,5-11", []),
        ("0-1,3-4,6-11", [(1, 3, False, "L2"), (3, 6, False, "L5")]),
        ("0-4,3-11", []),
        ("0-4,4,6-11", [(5, 6, False, "L5")]),
        ("0-3,(7|8),9-11", []),
        ("0-3,mean(5),6-11", []),
        ("0-3,d:5,6-11", []),
        ("0-5,7*0.5,9-11", [(5, 7, False, "L6"), (6, 9, False, "L8")]),
    ],
)
def test_where_layers_are_missing(notation: str, expected: list[tuple[int, int, bool, str]]) -> None:
    found = cuts(LayerPlan.parse(notation, 12))
    assert [(cut.position, cut.end, cut.half, cut.missing) for cut in found] == expected


@given(st.sets(st.integers(0, 11)))
def test_deleted_layers_are_missing_behind_the_kept_one_before_them(gone: set[int]) -> None:
    plan = LayerPlan.identity(12).delete(gone)
    missing = {number for cut in cuts(plan) for number in range(cut.layer.index + 1, cut.end)}
    front = set(range(min((*set(range(12)) - gone, 12))))
    assert missing == (gone - front if len(gone) < 12 else set())


def test_a_stitch_stands_only_where_something_is_missing() -> None:
    (cut,) = stitched_cuts(LayerPlan.parse("0-1,3-4,~,6-11", 12))
    assert cut.position == 3
    with pytest.raises(PlanError, match="Behind 1,~ no layer is missing"):
        stitched_cuts(LayerPlan.parse("0-1,~,2-11", 12))


def test_stitches_are_put_and_taken_off() -> None:
    plan = LayerPlan.identity(12).delete([4, 5, 6])
    assert str(plan.stitch(3)) == str(plan.stitch([3])) == "0-3,~,7-11"
    assert plan.stitch([-1]).unstitched == plan
    assert str(plan.stitch([0, 3]).delete(3)) == "0,~,1-2,7-11"
