"""What the layer strip sends is checked like any other input; so are the permute tool's orders."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import PlanError
from surgery_core.plans.plan import LayerPlan
from surgery_ui.components.strip import read_edit
from surgery_ui.sidebar.tools import read_order


@given(st.lists(st.sampled_from(["0", "1", "2", "3", "2.attn", "3*0.5", "1.mlp*-2", "(0|1)", "1,~"]), max_size=12))
def test_the_slots_that_the_strip_shows_are_read_back(slots: list[str]) -> None:
    plan, edit = read_edit({"slots": slots, "edit": 7}, 4)
    assert [str(slot) for slot in plan] == slots
    assert edit == 7


@pytest.mark.parametrize(
    "value",
    [
        None, [], "0-3", {}, {"slots": "0-3", "edit": 1}, {"slots": [0, 1], "edit": 1}, {"slots": ["0"], "edit": None},
        {"slots": ["0"], "edit": True}, {"slots": ["0"], "edit": -1}, {"slots": ["9"], "edit": 1}, {"slots": [""], "edit": 1},
        {"slots": ["0"] * 1025, "edit": 1}, {"slots": ["x" * 500], "edit": 1}, {"slots": ["0x9999999"], "edit": 1},
        {"slots": ["<img src=x>"], "edit": 1}, {"slots": ["0"], "edit": float("inf")}, {"slots": ["0"], "edit": float("nan")},
    ],
)  # fmt: skip
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(PlanError):
        read_edit(value, 4)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=20))
def test_an_order_in_numbers_is_read_back(order: list[int]) -> None:
    assert read_order(", ".join(map(str, order))) == order


def test_orders_with_ranges() -> None:
    assert read_order("0-2 5,4-3") == [0, 1, 2, 5, 4, 3]
    assert LayerPlan.identity(6).permute(read_order("5-0")) == LayerPlan.parse("5-0", 6)
