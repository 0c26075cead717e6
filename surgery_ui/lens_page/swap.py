"""A word swapped for another where the Jacobian lens reads it, and the text written again beside the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from surgery_core.errors import InputError, SettingsError, SurgeryError
from surgery_core.lenses.reading import token_text
from surgery_core.lenses.swap_bounds import MOST_STRENGTH
from surgery_core.lenses.swapping import as_source, matrix_layer, swap_tokens
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.recipes.swap_choice import SwapChoice
from surgery_core.states.residuals import points_of
from surgery_core.text import visible
from surgery_ui.lens_page.cell import Chosen
from surgery_ui.lens_page.controls import Choice
from surgery_ui.parts import chat
from surgery_ui.parts.choices import segments
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sections import NOTHING, Section, emphasis
from surgery_ui.parts.text_columns import Column, TextColumns
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.session.swapped import Swapped
from surgery_ui.words import present
from surgery_ui.work import lens_jobs
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.kinds import Lane
from surgery_ui.work.lens_jobs import JACOBIAN

SOURCE, TARGET, WHERE, STRENGTH = "swap-source", "swap-target", "swap-where", "swap-strength"
"""Keys of the fields."""
HERE, EVERYWHERE = "At this token", "At every token"
USUAL_STRENGTH = 4.0
"""How far the slider goes at least."""
TITLES = {"before": "Before", "after": "After"}
HOW = (
    "The state behind the layer has two coordinates along the directions in which the lens reads the two tokens; they "
    "change places, and the rest of the state stays. Everything behind it runs on from there."
)


def swap_form(now: session.Experiment, choice: Choice, sides: Mapping[str, Trajectory], cell: Chosen) -> None:
    """Show what can be swapped at the chosen cell, or why nothing can."""
    st.subheader("Swap a word here", anchor=False, help=HOW)
    if why := _why_not(now, choice, cell):
        st.caption(present.plain(why))
        return
    read = sides[cell.side]
    position, words = read.start + cell.position, _words(now, read, cell)
    st.caption(
        present.plain(
            f"What leaves {cell.label} at token {position}, “{visible(read.tokens[cell.position])}”, is moved from one word "
            "towards another, and the text is written again below."
        )
    )
    if st.session_state.get(SOURCE) not in words:
        st.session_state[SOURCE] = words[0]
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        st.selectbox(
            "Read here", words, key=SOURCE, format_func=visible, width=170, persist_state="session",
            on_change=session.touch,
        )  # fmt: skip
        st.text_input(
            "In its place", key=TARGET, width=170, placeholder="wolf", persist_state="session", on_change=session.touch,
            help="One token of the model; the space before a word is put by itself.",
        )  # fmt: skip
        segments("Where", [HERE, EVERYWHERE], WHERE)
        st.button("Swap", type=emphasis(), key="swap-start", on_click=_start, args=(now, cell, position))
    show_problem("swap")


def _why_not(now: session.Experiment, choice: Choice, cell: Chosen) -> str:
    """Return why nothing can be swapped at the cell; empty where something can."""
    reading = choice.reading
    if lens_jobs.what_reads(reading.lens) != JACOBIAN:
        offered = lens_jobs.has_jacobian_lens(now.loaded)
        return (
            f"Read with a Jacobian lens to swap a word: {'choose it above the maps' if offered else 'fit one below'}."
        )
    if not cell.clicked:
        return "Click a cell of the map, or choose one above, to swap a word there."
    plan = now.identity if cell.side == "before" else now.plan
    point = next(one for one in points_of(plan, reading.sublayers) if one.label == cell.label)
    if point.mid or point.slot < 0:
        where = "the input" if point.slot < 0 else f"{cell.label}, inside a layer"
        return f"A word is swapped in what leaves a layer, and this cell is of {where}; click one of a whole layer."
    try:
        fitted = lens_jobs.jacobians_of(now.loaded, lens_jobs.lens_of_side(reading, cell.side))
        matrix_layer(fitted, plan, point.slot, reading.follow)
    except SurgeryError:
        return (
            f"The lens has no matrix for what leaves {cell.label}, so no word can be swapped there; click a lower row."
        )
    return ""


def _words(now: session.Experiment, read: Trajectory, cell: Chosen) -> list[str]:
    """Return the tokens that the lens reads at the cell, likeliest first; parts of characters, which no text is, are left out."""
    found = (token_text(now.loaded.tokenizer, int(token)) for token in read.top_ids[cell.row, cell.position])
    return list(dict.fromkeys(text for text in found if text)) or [""]


def _start(now: session.Experiment, cell: Chosen, position: int) -> None:
    shown, tokenizer = st.session_state, now.loaded.tokenizer
    typed = str(shown.get(TARGET) or "")
    try:
        if not typed.strip():
            raise SettingsError("There is no word to put in its place; type one, such as wolf.")
        source = str(shown[SOURCE])
        target = as_source(tokenizer, source, typed)
        swap_tokens(tokenizer, source, target)
    except InputError as error:
        return session.set_problem("swap", error)
    session.set_problem("swap", None)
    positions = None if shown.get(WHERE) == EVERYWHERE else (position,)
    strength = 1.0 if state.swap is None else state.swap.strength
    state.swap = Swapped(now.loaded.info.name, cell.side, cell.label, source, target, positions, strength)


def _swap(now: session.Experiment, choice: Choice) -> SwapChoice | None:
    """Return the swap that there is, as a recipe says it; a lens of one's own is the folder that is saved from the page.

    Raises:
        SettingsError: when its row does not run in the plan that there is now, or the text is too short.
    """
    reading, asked = choice.reading, state.swap
    if asked is None or asked.model != now.loaded.info.name or lens_jobs.what_reads(reading.lens) != JACOBIAN:
        return None
    lens = lens_jobs.lens_of_side(reading, "before" if now.plan.is_identity else asked.side)
    if asked.positions and max(asked.positions) >= choice.n_tokens:
        raise SettingsError(
            f"The swap is at token {max(asked.positions)}, and the text has {choice.n_tokens}, counted from 0; click a cell of "
            "this text."
        )
    return asked.choice(now.plan, reading.follow, "" if lens == JACOBIAN else lens_jobs.saved_as(now.loaded))


def kept_swap(now: session.Experiment, choice: Choice) -> SwapChoice | None:
    """Return the swap that can be kept: the one that the page shows; None where there is none, or it cannot be done."""
    try:
        return _swap(now, choice)
    except SettingsError:
        return None


def swap_section(now: session.Experiment, choice: Choice) -> Section:
    """Have the text written on both sides and with the swap, where there is one, and return what draws them."""
    try:
        swapped = _swap(now, choice)
    except SettingsError as error:
        st.subheader("With the word swapped", anchor=False)
        st.error(present.plain(str(error)))
        _take_back()
        return NOTHING
    if swapped is None:
        return NOTHING
    st.subheader("With the word swapped", anchor=False)
    _controls(now, swapped)
    return _texts(now, choice, swapped)


def _controls(now: session.Experiment, swapped: SwapChoice) -> None:
    asked = state.swap
    if asked is None:
        return
    at = "every token" if asked.positions is None else f"token {', '.join(map(str, asked.positions))}"
    side = "" if now.plan.is_identity else f" {swapped.side} surgery"
    st.caption(
        present.plain(
            f"In what leaves {asked.label}{side}, at {at}: “{visible(asked.source)}” and “{visible(asked.target)}” change places."
        )
    )
    st.session_state[STRENGTH] = float(asked.strength)
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        st.slider(
            "Strength", min(0.0, asked.strength), max(USUAL_STRENGTH, asked.strength), step=0.25, key=STRENGTH, width=300,
            on_change=_take_strength,
            help=f"0 changes nothing, 1 is a whole swap, more goes beyond it; recipes and scripts take -{MOST_STRENGTH} to "
            f"{MOST_STRENGTH}.",
        )  # fmt: skip
        _take_back()


def _take_back() -> None:
    """Show the button that ends the swap, and what is still being written for it."""
    st.button("Take the swap back", key="swap-end", icon=":material/undo:", on_click=_end)


def _take_strength() -> None:
    session.touch()
    if state.swap is not None:
        state.swap = replace(state.swap, strength=float(st.session_state[STRENGTH]))


def _end() -> None:
    session.touch()
    session.set_problem("swap", None)
    state.swap = None
    cached.WORK.leave(state.owner, [Lane.TEXT_SWAPPED, Lane.TEXT_AFTER, Lane.TEXT_BEFORE])


def _texts(now: session.Experiment, choice: Choice, swapped: SwapChoice) -> TextColumns:
    text, settings = choice.text, chat.fitting(now, choice.text)
    plans: dict[str, Any] = {"before": (Lane.TEXT_BEFORE, now.identity)}
    plans |= {} if now.plan.is_identity else {"after": (Lane.TEXT_AFTER, now.plan)}
    columns = [
        Column(TITLES[side], cached.text_job(now.owner, lane, now.loaded, plan, text, settings), at - 1 if at else None)
        for at, (side, (lane, plan)) in enumerate(plans.items())
    ]
    job = lens_jobs.swapped_job(now.owner, now.loaded, now.plan, text, settings, swapped, choice.reading)
    columns.append(Column("Swapped", job, list(plans).index(swapped.side)))
    section = TextColumns(now.owner, chat.shown(now, text), columns, "swap-text")
    beside = " the swapped text is compared with that" + f" {swapped.side} surgery."
    st.caption(f"Underlined: from where a text differs, to its end{';' + beside if len(plans) > 1 else '.'}")
    return section
