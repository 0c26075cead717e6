"""What an organiser does: shows how to join, pushes plans, pins what everybody works on, reads answers, ends the room."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import segno
import streamlit as st

from surgery_core.text import text_sets
from surgery_core.workshops.workshop import Workshop
from surgery_ui.parts import room_tasks
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sections import emphasis
from surgery_ui.rooms.records import Room
from surgery_ui.session import room, session
from surgery_ui.session.state import state
from surgery_ui.words import present
from surgery_ui.words.pages import BAR
from surgery_ui.work import plan_jobs as cached

NAMES = {name: title for name, title, _ in BAR}
"""What pages are called, by their paths."""
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of cells that a spreadsheet would compute."""


def invitation(found: Room) -> None:
    """Show how to join, to be read from the back of a room: a code, an address, and the same as a picture."""
    address = link(found.code)
    left, right = st.columns([1, 2], gap="large", vertical_alignment="center")
    with left:
        code = segno.make(address, error="m")
        st.image(code.svg_inline(scale=6, border=2, dark="#0e1518", light="#ffffff"), width=260, caption="Scan to join")
    with right:
        st.html(f'<p style="font-size: 4.5rem; font-weight: 600; letter-spacing: 0.2em; margin: 0">{found.code}</p>')
        st.markdown(f"Open **{present.plain(address)}**, or the page that you see here with the code {found.code}.")
        st.fragment(_people, run_every=room_tasks.TICK)(found.code)


def link(code: str) -> str:
    """Return the address by which people join."""
    base = str(st.context.url or "").split("?")[0].rstrip("/")
    root = base.removesuffix("/room")
    return f"{root}/room?room={code}"


def _people(code: str) -> None:
    where, joined = room.read(lambda rooms: (rooms.where(code), rooms.count(code))) or ({}, 0)
    st.markdown(f"**{joined} joined**, {sum(where.values())} here now")
    if where:
        st.caption(", ".join(f"{count} on {NAMES.get(page, page)}" for page, count in where.items()))


def steering(found: Room) -> None:
    """Show the controls: push the plan in the strip, pin model, pages and texts, end the room."""
    now = session.experiment()
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.button(
            "Show my plan to everybody", key="room-push", type=emphasis(), icon=":material/podium:", on_click=_push,
            disabled=now is None, args=(str(now.plan) if now is not None else "",),
        )  # fmt: skip
        if found.pushed:
            st.caption(present.plain(f"Shown last: {found.plan or 'no layers'}"))
    with st.expander("What everybody works on", icon=":material/push_pin:"):
        _pins(found)
    show_problem("room-steer")


def _push(plan: str) -> None:
    room.asked("room-steer", lambda: room.store().push(state.room, state.room_key, plan))


def _pins(found: Room) -> None:
    models = ["", *(choice.name for choice in cached.choices())]
    sets = {"": "As each likes"} | {name: one.title for name, one in text_sets().items()}
    with st.form("room-pins", border=False):
        model = st.selectbox(
            "Model", models, index=models.index(found.model) if found.model in models else 0,
            format_func=lambda name: name or "As each likes", key="room-pin-model",
        )  # fmt: skip
        texts = st.selectbox(
            "Texts", list(sets), index=list(sets).index(found.texts) if found.texts in sets else 0,
            format_func=sets.__getitem__, key="room-pin-texts",
        )  # fmt: skip
        pages = st.multiselect(
            "Pages", list(NAMES), [page for page in found.pages if page in NAMES], format_func=NAMES.__getitem__,
            key="room-pin-pages", placeholder="All of them", help="Those that people see in the bar. This one is always there.",
        )  # fmt: skip
        if st.form_submit_button("Set it for everybody"):
            room.asked(
                "room-steer",
                lambda: room.store().pin(
                    state.room, state.room_key, model=model or None, pages=pages, texts=texts or None
                ),
            )  # fmt: skip


def overview(found: Room, workshop: Workshop) -> None:
    """Show how far the room is with its tasks."""
    st.subheader("How far they are", anchor=False)
    st.fragment(_overview, run_every=2 * room_tasks.TICK)(found.code, workshop)


def _overview(code: str, workshop: Workshop) -> None:
    done, joined = room.read(lambda rooms: (rooms.overview(code), rooms.count(code))) or ({}, 0)
    for at, step in enumerate(workshop.steps):
        finished, helped = done.get(at, (0, 0))
        hints = f", {helped} with hints" if helped else ""
        st.progress(
            min(1.0, finished / max(1, joined)), text=present.plain(f"{at + 1}. {step.title} · {finished} done{hints}")
        )


def ending(found: Room) -> None:
    """Show the table to keep, and the buttons that clear the board and end the room."""
    with st.container(horizontal=True, gap="small"):
        st.download_button(
            "Table of the tasks", data=lambda: as_csv(room.store().table(found.code, state.room_key)),
            file_name=f"room-{found.code}.csv", mime="text/csv", key="room-csv", icon=":material/download:",
            on_click="ignore",
        )  # fmt: skip
        with st.popover("Clear the board", icon=":material/backspace:"):
            st.markdown("Takes all plans off the board. This cannot be undone.")
            st.button("Clear it", key="room-clear", on_click=_clear)
        with st.popover("End the room", icon=":material/logout:", disabled=found.ended is not None):
            st.markdown("Nobody joins it any more, and nothing in it changes. Everybody keeps their plan and page.")
            st.button("End it", key="room-end", on_click=_end)


def _clear() -> None:
    room.asked("room-steer", lambda: room.store().clear_board(state.room, state.room_key))


def _end() -> None:
    room.asked("room-steer", lambda: room.store().end(state.room, state.room_key))


def as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as CSV; a cell that a spreadsheet would compute begins with an apostrophe."""
    columns = ["name", "step", "done", "hints", "minutes", "answer"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(row.get(name)) for name in columns})
    return text.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value
