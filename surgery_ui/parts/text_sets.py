"""The choice of the texts that plans are scored on: one for the whole session."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from surgery_core.text import text_sets
from surgery_ui.parts.choices import segments
from surgery_ui.session import echo, session
from surgery_ui.session.state import state


def set_choice(key: str, label: str = "Texts", more: Sequence[str] = ()) -> str:
    """Show the sets of texts, and other choices behind them; return the title that is chosen.

    Args:
        key: of the field.
        label: of the field.
        more: what can be chosen besides.
    """
    titles = [one.title for one in text_sets().values()]
    # a browser that draws it late sends that nothing is chosen
    shown = st.session_state.get(key) or state.chosen.get(key)
    if shown not in more:
        # chosen on another page, or by a link
        echo.hold(key, session.text_set().title)
    return str(segments(label, [*titles, *more], key, on_change=_take, args=(key,)))


def _take(key: str) -> None:
    session.touch()
    named = {one.title: one.name for one in text_sets().values()}
    chosen = named.get(st.session_state[key])
    if chosen is not None and chosen != state.text_set:
        state.text_set, state.detail = chosen, 0
