"""The room of a session: which one it is in, as whom, and what the organiser has set for everybody."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import streamlit as st

from surgery_core.errors import SurgeryError
from surgery_core.text import text_sets
from surgery_ui.rooms.names import read_code
from surgery_ui.rooms.records import Room, RoomError
from surgery_ui.rooms.store import Rooms
from surgery_ui.session.state import state
from surgery_ui.work.diary import note_refusal
from surgery_ui.work.limits import ROOMS_FILE, limits

Value = TypeVar("Value")
KEY = "key"
"""Name of the organiser's key in an address; it is taken out of it at once."""


@lru_cache(maxsize=1)
def store() -> Rooms:
    """Return the rooms of this server."""
    return Rooms(limits().state_folder / ROOMS_FILE)


def read(ask: Callable[[Rooms], Value]) -> Value | None:
    """Return what the rooms say, or None where their file cannot be read; that is said in the sidebar then."""
    try:
        return ask(store())
    except RoomError as error:
        state.problems["room"] = error
        return None


def adopt(code: str | None) -> None:
    """Take over the room that an address names."""
    if code is None or code == state.room:
        return
    if read(lambda rooms: rooms.room(code)) is not None:
        enter(code)
    else:
        unknown = RoomError(f"There is no room {code}; ask the organiser for its four letters.")
        state.problems.setdefault("room", unknown)


def take_key() -> None:
    """Take an organiser's key out of the address."""
    key = st.query_params.get(KEY)
    if key is None:
        return
    del st.query_params[KEY]
    code = read_code(st.query_params.get("room")) or state.room
    if code and len(key) < 200 and read(lambda rooms: rooms.is_organiser(code, key)):
        state.room_key = key
    else:
        said = "This key opens no room; use the link that was printed when the room was made."
        state.problems.setdefault("room", RoomError(said))


def enter(code: str) -> None:
    """Be in another room from now on."""
    state.room, state.room_step = code, None
    state.room_key = state.room_key if is_organiser() else ""
    state.room_follows, state.room_said = False, ""
    found = current()
    state.room_pushed = 0 if found is None else found.pushed


def leave() -> None:
    """Be in no room."""
    if state.room:
        enter("")


def current() -> Room | None:
    """Return the room of this session as it is now, or None."""
    return read(lambda rooms: rooms.room(state.room)) if state.room else None


def person() -> str | None:
    """Return the id of the person in this browser's tab; None until the tab has shown its token, or without one.

    It comes from the tab's token, so it is the same after a reload and on a server that was started again, and no link
    has it.
    """
    token = state.tab_token
    return None if token is None else hashlib.sha256(f"room {token}".encode()).hexdigest()[:32]


def name() -> str | None:
    """Return what the person is called in the room, or None where they have not joined it."""
    me = person()
    return None if me is None or not state.room else read(lambda rooms: rooms.name(state.room, me))


def is_organiser() -> bool:
    """Return whether this session has the key of its room."""
    code, key = state.room, state.room_key
    return bool(code and key and read(lambda rooms: rooms.is_organiser(code, key)))


def pages() -> Callable[[str], bool]:
    """Return the function that tells which pages stand in the bar: those of the room, or all but its own without one."""
    # a new session has not taken over its address yet
    code = state.room or (read_code(st.query_params.get("room")) if state.address is None else None)
    found = read(lambda rooms: rooms.room(code))
    if found is None:
        return lambda name: name not in ("room", "glossary")
    if found.ended is not None:
        return lambda name: name != "glossary"
    if is_organiser() or not found.pages:
        return lambda name: name != "glossary"
    return lambda name: name in found.pages or name == "room"


def pin() -> None:
    """Set what the organiser has set for everybody, but for the organiser."""
    found = current()
    if found is None or found.ended is not None or is_organiser():
        return
    if found.model is not None and found.model != state.model:
        if state.edited:
            said = f"The organiser of this room has chosen {found.model} for everybody; leave the room to open another model."
            state.problems["model"] = RoomError(said)
        state.model, state.wanted_plan = found.model, None
    if found.texts is not None and found.texts in text_sets():
        state.text_set = found.texts


def guarded(control: str, action: Callable[[], object]) -> bool:
    """Do something in the room; what is wrong is said beside a control. Return whether it was done."""
    state.problems.pop(control, None)
    try:
        action()
    except SurgeryError as error:
        state.problems[control] = error
        note_refusal(state.owner, control, error)
        return False
    return True


def asked(control: str, action: Callable[[], object]) -> bool:
    """Do what a person asks for with a control; as `guarded`."""
    state.edited = True
    return guarded(control, action)
