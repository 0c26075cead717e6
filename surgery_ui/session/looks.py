"""What a session looked at: plans, on which page, with what they came to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from surgery_ui.session import plans
from surgery_ui.session.state import ModelKey, state

MOST = 60
"""Looks that are remembered, the newest last."""


@dataclass(frozen=True)
class Look:
    """One plan on one page.

    Attributes:
        model: the model's key.
        plan: in notation.
        page: path of the page, empty for the first one.
        figure: the headline figure in a few words; empty until it is known.
    """

    model: ModelKey
    plan: str
    page: str
    figure: str = ""


def remember(page: str) -> None:
    """Note which plan of the open model a page shows now. The same again is no new look."""
    if state.loaded is None:
        return
    look = Look(plans.open_model().info.key, str(plans.current().plan), page)
    last = state.looks[-1] if state.looks else None
    if last is None or replace(last, figure="") != look:
        known = next((one.figure for one in reversed(state.looks) if _same(one, look)), "")
        state.looks = (*state.looks, replace(look, figure=known))[-MOST:]


def last_page() -> str | None:
    """Return the path of the page that was shown last, None before the first."""
    return state.looks[-1].page if state.looks else None


def note(plan: str, figure: str) -> None:
    """Note what a plan of the open model came to, in a few words."""
    wanted = Look(plans.open_model().info.key, plan, "")
    if any(_same(one, wanted) and one.figure != figure for one in state.looks):
        state.looks = tuple(replace(one, figure=figure) if _same(one, wanted) else one for one in state.looks)


def of_open_model() -> list[Look]:
    """Return what was looked at of the open model, the newest first, each plan on each page once."""
    key = plans.open_model().info.key
    found: dict[tuple[str, str], Look] = {}
    for one in reversed(state.looks):
        if one.model == key:
            found.setdefault((one.plan, one.page), one)
    return list(found.values())


def _same(one: Look, other: Look) -> bool:
    return (one.model, one.plan) == (other.model, other.plan)
