"""The list of a session's sweeps: choose, rename, remove, open from a file, and compare side by side."""

from __future__ import annotations

import streamlit as st

from surgery_ui.parts import asked_sweep, doubts, sweep_chart, sweep_shelf
from surgery_ui.parts.problems import show_problem
from surgery_ui.session import echo, session
from surgery_ui.session.state import state
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.words import present
from surgery_ui.work.kinds import Lane

LIST, OTHERS = "sweep-list", "sweep-others"
"""Keys of the fields."""
MOST_COMPARED = 4
MAX_NAME = 60


TITLES = {
    Lane.SWEEP: "Sweeps of this session",
    Lane.SEARCH: "Removals of this session",
    Lane.IMPORTANCE: "Readings of this session",
}
"""What the list is called, by the lane of what is in it."""


def shelf(lane: Lane) -> None:
    """Show the list of what there is of a lane, with what can be done with it; sweeps can stand side by side."""
    found = sweep_shelf.entries(lane)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        if found:
            _chooser(found, lane)
        with st.popover("Open a file", icon=":material/folder_open:"):
            st.file_uploader(
                "A sweep, removal or importance saved as CSV or JSON", ["csv", "json"], key=_file_key(), on_change=_open
            )
    if len(found) > 1 and lane is Lane.SWEEP:
        _comparison(found)
    show_problem("sweep-file")


def compared() -> list[Entry]:
    """Return the sweeps that are shown side by side, or none."""
    shown, others = sweep_shelf.shown(), st.session_state.get(OTHERS, [])
    found = [entry for entry in sweep_shelf.entries(Lane.SWEEP) if entry.number in others and entry is not shown]
    return [shown, *found] if shown is not None and found else []


def side_by_side(found: list[Entry], now: session.Experiment) -> None:
    """Draw sweeps beside one another, with the same figure on the same scale."""
    metric = sweep_chart.metric_choice(found)
    scale = sweep_chart.shared_scale(found, metric)
    _warn(found)
    row = st.container().grid(min(2, len(found)), min_column_width=330)
    for entry in found:
        place = row.container()
        with place:
            st.markdown(f"**{present.plain(entry.name)}**")
            sweep_chart.chart(entry, metric, now, scale, "compared")
            doubts.show(entry.rows)


def _chooser(found: list[Entry], lane: Lane) -> None:
    shown = sweep_shelf.shown(lane)
    names = {entry.number: entry.name for entry in reversed(found)}
    echo.put(LIST, shown.number if shown is not None else found[-1].number)
    st.selectbox(
        TITLES[lane], list(names), key=LIST, format_func=lambda number: names.get(number, ""),
        width=300, on_change=_choose,
    )  # fmt: skip
    echo.drawn(LIST)
    with st.popover("Rename or remove", icon=":material/edit:"):
        if shown is not None:
            # A field of its own for each sweep, which begins with that sweep's name whenever the popover opens.
            key = f"sweep-name-{shown.number}"
            st.text_input("Name", shown.name, MAX_NAME, key, on_change=_rename, args=(shown, key))
            st.button("Remove from the list", key="sweep-remove", on_click=_remove, args=(shown,))


def _comparison(found: list[Entry]) -> None:
    shown = sweep_shelf.shown()
    names = {entry.number: entry.name for entry in found if entry is not shown}
    echo.hold(OTHERS, [number for number in st.session_state.get(OTHERS, []) if number in names])
    st.multiselect(
        "Compare it with", list(names), st.session_state[OTHERS], key=OTHERS, format_func=lambda number: names.get(number, ""),
        max_selections=MOST_COMPARED - 1, placeholder="Side by side", width=620, on_change=session.touch,
    )  # fmt: skip


def _warn(found: list[Entry]) -> None:
    texts = {entry.identity.texts for entry in found if entry.identity is not None}
    models = {entry.model for entry in found}
    if len(models) > 1:
        st.warning("These sweeps are of different models.")
    if len(texts) > 1:
        st.warning("These sweeps were measured on different texts, so their figures cannot be compared directly.")


def _choose() -> None:
    session.touch()
    chosen = st.session_state[LIST]
    for entry in sweep_shelf.entries() if not echo.is_echo(LIST) else ():
        if entry.number == chosen:
            sweep_shelf.show(entry)


def _rename(entry: Entry, key: str) -> None:
    session.touch()
    sweep_shelf.rename(entry, st.session_state[key])
    st.session_state[key] = entry.name


def _remove(entry: Entry) -> None:
    session.touch()
    sweep_shelf.remove(entry)


def _open() -> None:
    session.touch()
    file = st.session_state[_file_key()]
    if file is not None:
        sweep_shelf.guarded("sweep-file", lambda: _show_file(file.name, file.getvalue()))
        # A field of its own for the next file: this one keeps the file that was read.
        state.sweep_uploads += 1


def _show_file(name: str, data: bytes) -> None:
    asked_sweep.open_tab(sweep_shelf.open_file(name, data).lane)


def _file_key() -> str:
    return f"sweep-file-{state.sweep_uploads}"
