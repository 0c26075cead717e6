"""What the Room page shows: to a stranger, to somebody in a room, and to its organiser."""

from __future__ import annotations

import streamlit as st

from surgery_ui.parts.problems import show_problem
from surgery_ui.room_page import board, joining, organising, server
from surgery_ui.rooms.records import Room
from surgery_ui.session import room
from surgery_ui.words import present


def room_page() -> None:
    """Show the page."""
    found = room.current()
    if found is None:
        st.header("A room for a workshop", anchor=False)
        return joining.code_form()
    title = found.workshop.title if found.workshop is not None else f"Room {found.code}"
    st.header(present.plain(title), anchor=False)
    if room.is_organiser():
        return _organiser(found)
    me, name = room.person(), room.name()
    if found.ended is not None:
        st.info("This room is over. Your plan and your sweeps stay with you.")
    elif name is None:
        if found.workshop is not None:
            st.markdown(present.plain(found.workshop.about))
        return joining.name_form(me)
    return _guest(found, me)


def _guest(found: Room, me: str | None) -> None:
    workshop = found.workshop
    if me is not None and found.ended is None:
        with st.container(horizontal=True, gap="small"):
            joining.rename(me)
    if workshop is None:
        st.markdown("There are no tasks in this room. What the organiser shows appears in the sidebar.")
        return
    st.caption(present.plain(f"{workshop.about} About {workshop.minutes} minutes."))
    if workshop.challenge is not None:
        board.board(workshop.challenge, me if found.ended is None else None)


def _organiser(found: Room) -> None:
    if found.ended is None:
        organising.invitation(found)
        organising.steering(found)
    else:
        st.info("This room is over.")
        show_problem("room-steer")
    if found.workshop is not None:
        organising.overview(found, found.workshop)
        if found.workshop.challenge is not None:
            board.board(found.workshop.challenge, None)
    server.server()
    organising.ending(found)
