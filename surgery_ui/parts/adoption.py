"""Taking a plan of a chart over into the strip: by a click, or by a field for whoever uses the keyboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from surgery_core.plans.plan import LayerPlan
from surgery_ui.session import session
from surgery_ui.session.state import State, state
from surgery_ui.words import present


def take(control: str, plan: str) -> None:
    """Take a plan over into the strip; it can be undone there. What is wrong with it is said beside the control."""
    session.set_problem(control, None)
    if session.change(control, lambda old: LayerPlan.parse(plan, old.n_layers)):
        state.adopted = present.plain(plan or "no layer")


def follow() -> None:
    """Redraw the whole page after a plan was taken over, the strip included. Called where a part of it runs."""
    plan = State.adopted.take()
    if plan is not None:
        state.adoption_said = plan
        st.rerun()


def say() -> None:
    """Say once which plan was taken over."""
    plan = State.adoption_said.take()
    if plan is not None:
        st.toast(f"The strip now has {plan}. Undo brings the old plan back.", icon=":material/check:")


def clicks() -> int:
    """Return how many plans were taken over; charts have it in their keys.

    A new key forgets the selection, so that the same bar can be clicked again after an undo.
    """
    return state.sweep_clicks


def on_click(control: str, plans: Mapping[int, str], key: str) -> Callable[[], None]:
    """Return the callback that takes over the plan that was clicked on a chart with this key.

    Args:
        control: beside which problems are said.
        plans: in notation, by the number of their point.
        key: of the chart.
    """

    def clicked() -> None:
        chosen = st.session_state[key]["selection"].get("point") or []
        number = int(chosen[0]["number"]) if chosen else None
        if number is not None and number in plans:
            state.sweep_clicks += 1
            take(control, plans[number])

    return clicked


def field(control: str, plans: Mapping[int, str], said: Mapping[int, str], what: str) -> None:
    """Show the field that does by keyboard what a click on the chart does.

    Args:
        control: beside which problems are said; makes the key.
        plans: in notation, by the number of their point.
        said: what the points are called, with their figures, by number.
        what: what is clicked on the chart.
    """
    key = f"adopt-{control}-{clicks()}"
    st.selectbox(
        "Take a plan over into the strip", list(said), index=None, key=key, format_func=lambda at: said.get(at, ""),
        placeholder=f"Click a {what}, or choose one here", on_change=_chosen, args=(control, plans, key), width=360,
    )  # fmt: skip


def _chosen(control: str, plans: Mapping[int, str], key: str) -> None:
    number = st.session_state[key]
    if number in plans:
        state.sweep_clicks += 1
        take(control, plans[number])
