"""Undo and redo as a value."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from surgery_core.plans.plan import LayerPlan
from surgery_ui.session.history import MAX_STEPS, History

PLANS = st.lists(st.integers(0, 5), max_size=8).map(lambda order: LayerPlan.identity(6).permute(order))


@given(st.lists(PLANS, max_size=12))
def test_undoing_everything_and_redoing_it_ends_where_it_was(plans: list[LayerPlan]) -> None:
    history = History.start(6)
    for plan in plans:
        history = history.edit(plan)
    back = history
    for _ in plans:
        back = back.undo()
    assert back.plan.is_identity
    for _ in plans:
        back = back.redo()
    assert back == history


def test_an_edit_after_undo_forgets_what_was_undone() -> None:
    first, second = LayerPlan.parse("0-2", 6), LayerPlan.parse("3-5", 6)
    history = History.start(6).edit(first).undo().edit(second)
    assert history.redo() == history
    assert history.undo().plan.is_identity


def test_the_same_plan_again_is_no_step() -> None:
    plan = LayerPlan.parse("0-2", 6)
    assert History.start(6).edit(plan).edit(plan).past == (LayerPlan.identity(6),)


def test_the_past_is_bounded() -> None:
    history = History.start(6)
    for step in range(MAX_STEPS + 20):
        history = history.edit(LayerPlan.identity(6).scale(0, step + 2))
    assert len(history.past) == MAX_STEPS
