"""What a plan does to each layer; expected kinds are read off the notation by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.plans.changes import changes, layer_uses
from surgery_core.plans.plan import LayerPlan


@pytest.mark.parametrize(
    ("notation", "expected"),
    [
        ("0-5", {}),
        ("0-2,4,5", {"deleted": 1}),
        ("", {"deleted": 6}),
        ("0,2,1,3-5", {"moved": 1}),
        ("5-0", {"moved": 5}),
        ("0-2,5,3,4", {"moved": 1}),
        ("0-3,2,3,4,5", {"repeated": 2}),
        ("0-3,3*0.5,4,5", {"repeated": 1, "scaled": 1}),
        ("0,1.attn,2*2,3.mlp*-1,4,5", {"half": 2, "scaled": 2}),
        ("0,(1|2|3),4,5", {"parallel": 3}),
        ("0,[1-3]*0.5,4,5", {"damped": 3}),
        ("0,[1-2]*0.5x2,3-5", {"repeated": 2, "damped": 4}),
        ("mean(0),1-5", {"mean": 1}),
        ("0,other:1,2-5", {"deleted": 1, "donor": 1}),
        ("0,(1-2).bare,3-5", {"adapter off": 2}),
    ],
)
def test_ways_are_counted_by_layer(notation: str, expected: dict[str, int]) -> None:
    assert changes(LayerPlan.parse(notation, 6)) == expected


def test_a_layer_is_repeated_from_its_second_use_on() -> None:
    kinds = [(use.position, use.layer.index, use.kind) for use in layer_uses(LayerPlan.parse("2,0,1,0,2", 3))]
    assert kinds == [
        (0, 2, "moved"), (1, 0, "kept"), (2, 1, "kept"), (3, 0, "repeated"), (4, 2, "repeated"),
    ]  # fmt: skip


@given(st.permutations(range(9)))
def test_what_is_kept_is_in_order_and_as_much_as_can_be(order: list[int]) -> None:
    uses = layer_uses(LayerPlan.identity(9).permute(order))
    kept = [use.layer.index for use in uses if use.kind == "kept"]
    assert kept == sorted(kept)
    # the longest run that ends at each place, in the plain quadratic way
    longest: list[int] = []
    for place, index in enumerate(order):
        longest.append(1 + max((longest[i] for i in range(place) if order[i] < index), default=0))
    assert len(kept) == max(longest)
