"""The browser's tab: its token, undo, redo and the sheet of keys by keyboard, a phone's drawer, day and night.

When the system goes dark or light the script runs once more, so that what is drawn for a theme follows the page.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

KEY = "tab"
STEPS = {"u": "undo", "r": "redo"}
"""What the log of key presses says for each."""
MAX_STEPS = 400
"""Most key presses that one message may bring."""
_mount = st.components.v2.component(
    "model_surgery_tab", html="<div></div>", js=Path(__file__).with_name("tab.js").read_text(encoding="utf-8")
)


def browser_tab(known: bool, on_token: Callable[[], None], on_steps: Callable[[], None]) -> None:
    """Mount the component, which shows nothing. `known` says whether this session has the tab's token."""
    _mount(key=KEY, data={"known": known}, height=1, on_token_change=on_token, on_steps_change=on_steps)


def sent(name: str) -> Any:
    """Return what the browser sent last under a name."""
    return st.session_state[KEY].get(name)


def new_steps(value: Any, seen: tuple[str, int]) -> tuple[list[str], tuple[str, int]]:
    """Return the undo and redo steps of a log that were not made yet, and what has been seen of it then.

    The browser sends the whole log each time, so that quick presses that overtake one another all count once.

    Args:
        value: what the browser sent: the id of its page and the log.
        seen: id of the page and length of its log that was seen before.
    """
    page, log = (value.get("page"), value.get("log")) if isinstance(value, dict) else (None, None)
    if not isinstance(page, str) or not isinstance(log, str) or len(page) > 64 or len(log) > 100_000:
        return [], seen
    start = seen[1] if seen[0] == page else 0
    found = [STEPS[sign] for sign in log[start:][:MAX_STEPS] if sign in STEPS]
    return found, (page, len(log))
