"""The room in the sidebar: who one is in it, what the organiser shows, and the task at hand."""

from __future__ import annotations

import streamlit as st

from surgery_ui.parts import room_tasks
from surgery_ui.parts.places import PAGES
from surgery_ui.parts.problems import show_problem
from surgery_ui.session import room, session
from surgery_ui.session.state import state
from surgery_ui.words import present

FOLLOW = "room-follow"
"""Key of the switch."""


def room_panel(page: str) -> None:
    """Show the room of this session on the page with this path; nothing where it is in none."""
    found = room.current()
    show_problem("room")
    if found is None:
        return
    me, name = room.person(), room.name()
    label = f"Room {found.code}" + (f" · {name}" if name else "")
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.page_link(f"{PAGES}/room.py", label=present.plain(label), icon=":material/groups:")
    if found.ended is not None:
        st.caption("The room is over. What you have stays with you.")
        return
    if me is None or name is None:
        return
    room_tasks.note(me, page)
    room_tasks.pushed(session.experiment())
    st.toggle(
        "Follow the organiser", key=FOLLOW, value=state.room_follows, on_change=_follow,
        help="Plans that the organiser shows come into your strip by themselves. Undo brings yours back.",
    )  # fmt: skip


def room_task(page: str) -> None:
    """Show the task at hand above the page with this path; nothing where there is none."""
    found = room.current()
    if found is None or found.ended is not None or found.workshop is None:
        return
    me = room.person()
    if me is not None and room.name() is not None:
        room_tasks.card(found.workshop, me, page)


def _follow() -> None:
    session.touch()
    state.room_follows = bool(st.session_state[FOLLOW])
