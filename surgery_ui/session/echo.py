"""Fields that the session changes by itself, and what a browser then still sends back.

A browser sends the values of all of its fields with every click. One that has not drawn the newest value yet sends the
one before, and Streamlit takes that for a person's input: a second quick Undo would come with the notation of before
the first one, and that would be adopted as an edit. So a field remembers what it showed before, until a moment after
its new value was drawn.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import streamlit as st

from surgery_ui.session.state import Before, state

MOMENT = 1.5
"""Seconds after which a browser has surely drawn a new value; what it sends then is a person's."""
MOST = 16
"""Values that a field remembers."""


def put(key: str, value: Any) -> None:
    """Set a field's value from the session's side."""
    shown = st.session_state
    if key in shown and shown[key] != value:
        before = [one for one in _before(key) if one.value != value]
        state.fields_before[key] = (*before, Before(shown[key]))[-MOST:]
    shown[key] = value
    _remember(key)


def hold(key: str, value: Any) -> None:
    """Give a field the value that it should have; one that it has already is not sent again.

    A browser takes a value that is sent as newer than its own: a second quick click, made while the first one's run was
    on its way, would be undone by it. Such a field says its value as its default too, for a browser that draws it late.
    """
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def drawn(key: str) -> None:
    """Say that the field's value is drawn now; call it where the field is."""
    now = time.monotonic()
    state.fields_before[key] = tuple(one if one.drawn is not None else replace(one, drawn=now) for one in _before(key))
    _remember(key)


def is_echo(key: str) -> bool:
    """Return whether what a browser sent for a field is only what it showed before the session changed it."""
    value, now = st.session_state[key], time.monotonic()
    return any(one.value == value and (one.drawn is None or now - one.drawn < MOMENT) for one in _before(key))


def restore(key: str) -> bool:
    """Put a field's newest value back where a browser sent only what it showed before; return whether it did."""
    if not is_echo(key):
        return False
    st.session_state[key] = state.fields_now[key]
    return True


def _remember(key: str) -> None:
    state.fields_now[key] = st.session_state[key]


def _before(key: str) -> tuple[Before, ...]:
    return state.fields_before.get(key, ())
