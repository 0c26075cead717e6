"""A text field with examples to pick from: the pick follows the text, and the text the pick.

Both are changed from the session's side, so what a browser sends back of before is passed over (see `echo`): else a
text that was just typed would give way to the example that it replaced.
"""

from __future__ import annotations

import streamlit as st

from surgery_core.text import bundled_prompts
from surgery_ui.session import echo, session


def texts() -> dict[str, str]:
    """Return the examples by their titles."""
    return {prompt.title: prompt.text for prompt in bundled_prompts()}


def follow(field: str, pick: str) -> list[str]:
    """Have the pick show which example the field has, if any; return the titles. Call it before both are drawn."""
    known, text = texts(), st.session_state[field]
    echo.put(pick, next((title for title, example in known.items() if example == text), None))
    return list(known)


def drawn(field: str, pick: str) -> None:
    """Say that both are drawn now."""
    echo.drawn(pick)
    echo.drawn(field)


def take_pick(field: str, pick: str) -> None:
    """Put the example that was picked into the field."""
    if echo.is_echo(pick):
        return
    session.touch()
    if (title := st.session_state[pick]) is not None:
        echo.put(field, texts()[title])


def take_text(field: str) -> None:
    """Adopt what was typed into the field."""
    if not echo.restore(field):
        session.touch()
