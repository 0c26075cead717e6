"""Room that is held open for what comes, so that nothing below it moves when it is drawn piece by piece."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator


def held(name: str, height: int) -> DeltaGenerator:
    """Return a container of the page that is at least so high.

    Args:
        name: of what comes; no two of a page are alike.
        height: in pixels; 0 for one that is as high as what is in it.
    """
    if height:
        _say(name, height)
    return st.container(key=f"held-{name}")


def let_go(name: str) -> None:
    """Let a container be as high as what is in it, which is something else than what was to come."""
    _say(name, 0)


def _say(name: str, height: int) -> None:
    # a style sheet alone takes no room on the page, and the last one counts
    st.html(f"<style>.st-key-held-{name} {{ min-height: {height}px; }}</style>")
