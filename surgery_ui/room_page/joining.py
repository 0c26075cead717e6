"""Joining a room: its code and a name."""

from __future__ import annotations

import streamlit as st

from surgery_core.errors import SurgeryError
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sections import emphasis
from surgery_ui.rooms.names import MAX_NAME, read_code
from surgery_ui.rooms.records import RoomError
from surgery_ui.session import room, session
from surgery_ui.session.state import state

CODE, NAME = "room-code", "room-name"


def code_form() -> None:
    """Ask for the code of a room."""
    st.markdown(
        "A room is a workshop: everybody works on the same tasks, each in their own browser. No account is needed."
    )
    with st.form("room-join", border=False):
        st.text_input("Code", key=CODE, max_chars=8, placeholder="four letters", width=160)
        st.form_submit_button("Go in", type=emphasis(), on_click=_go_in)
    show_problem("room-join")
    st.caption(
        "To hold a workshop yourself, start the server with **model-surgery --room**; it prints the code and your key."
    )


def _go_in() -> None:
    def enter() -> None:
        code = read_code(st.session_state[CODE])
        if code is None or room.store().room(code) is None:
            raise RoomError(f"There is no room {st.session_state[CODE]!r}; its code has four letters.")
        room.enter(code)

    room.asked("room-join", enter)


def name_form(me: str | None) -> None:
    """Ask for a name; without one a person is a guest."""
    if me is None:
        st.caption("One moment …")
        return
    with st.form("room-who", border=False):
        st.text_input(
            "What shall we call you?", key=NAME, max_chars=MAX_NAME, placeholder="a name, or nothing", width=260
        )
        st.form_submit_button("Join", type=emphasis(), on_click=_join, args=(me,))
    show_problem("room-who")
    st.caption("The name stands on the board, and in the organiser's table of answers. It is kept with the room.")


def _join(me: str) -> None:
    room.asked("room-who", lambda: room.store().join(state.room, me, st.session_state[NAME]))


def rename(me: str) -> None:
    """Show the field that changes one's name, and the way out."""
    with st.popover("You", icon=":material/person:"):
        with st.form("room-rename", border=False):
            st.text_input("Name", value=room.name() or "", key=NAME, max_chars=MAX_NAME)
            st.form_submit_button("Change it", on_click=_join, args=(me,))
        show_problem("room-who")
        st.button("Leave the room", key="room-leave", on_click=_leave)


def _leave() -> None:
    session.touch()
    try:
        room.leave()
    except SurgeryError as error:
        session.set_problem("room", error)
