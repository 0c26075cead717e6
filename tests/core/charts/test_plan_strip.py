"""A plan's strip: every layer has its cell, by what was done to it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.charts.plan_strip import plan_strip
from surgery_core.plans.plan import LayerPlan

SVG = "{http://www.w3.org/2000/svg}"


def cells(notation: str, n_layers: int = 12) -> list[tuple[str, str]]:
    """Return kind and words of each cell, from left to right."""
    root = ElementTree.fromstring(plan_strip(LayerPlan.parse(notation, n_layers)))
    groups = root.findall(f"{SVG}g")
    at = [float(group.find(f"{SVG}rect").attrib["x"]) for group in groups]  # type: ignore[union-attr]
    assert at == sorted(at)
    return [(group.attrib["class"].removeprefix("cell "), group.findtext(f"{SVG}title") or "") for group in groups]


def test_what_was_done_to_each_layer() -> None:
    assert cells("0,2,3", 4) == [("kept", "L0"), ("deleted", "L1, deleted"), ("kept", "L2"), ("kept", "L3")]
    assert cells("0,2", 4)[-1] == ("deleted", "L3, deleted")
    assert cells("0,2,1,3", 4) == [("kept", "L0"), ("kept", "L2"), ("moved", "L1"), ("kept", "L3")]
    assert cells("0,1,1", 2) == [("kept", "L0"), ("kept", "L1"), ("repeated", "L1")]
    assert cells("0,1*0.5", 2) == [("kept", "L0"), ("changed", "L1×0.5")]
    assert [kind for kind, _ in cells("(0|1)", 2)] == ["changed", "changed"]
    assert cells("", 3) == [("deleted", f"L{at}, deleted") for at in range(3)]


plans = st.lists(
    st.sampled_from(["7", "0-4", "7-3", "5x3", "(1-3)x2", "5.attn*0.5", "(4|5)", "mean(2)", "d:3"]), max_size=8
)


@given(plans.map(",".join), st.booleans(), st.integers(40, 400))
def test_every_layer_and_every_use_has_a_cell_inside_the_picture(notation: str, dark: bool, width: int) -> None:
    plan = LayerPlan.parse(notation, 8)
    drawn = plan_strip(plan, dark=dark, width=width)
    assert drawn.count("<g ") == len(plan.deleted) + sum(len(slot.layers) for slot in plan)
    ends = [float(x) + float(w) for x, w in re.findall(r'<rect x="([\d.e-]+)" y="[\d.e-]+" width="([\d.e-]+)"', drawn)]
    assert all(end <= width + 0.01 for end in ends)


@pytest.mark.parametrize("n_layers", [1, 2, 126])
def test_any_depth(n_layers: int) -> None:
    assert plan_strip(LayerPlan.identity(n_layers)).count("<g ") == n_layers
