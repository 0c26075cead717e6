"""A choice of one that is never without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from surgery_ui.session import session
from surgery_ui.session.state import state


def segments(
    label: str, options: Sequence[Any], key: str, *, on_change: Callable[..., None] = session.touch, **more: Any
) -> Any:  # fmt: skip
    """Show a choice of one, which survives a page switch, and return what is chosen.

    A browser that draws it late sends that nothing is chosen: then what was chosen before stays. A choice that is no
    longer offered gives way to the first.
    """
    shown, kept = st.session_state, state.chosen
    if shown.get(key) not in options:
        shown[key] = kept[key] if kept.get(key) in options else options[0]
    kept[key] = shown[key]
    return st.segmented_control(
        label, options, key=key, required=True, persist_state="session", on_change=on_change, wrap=True, **more
    )
