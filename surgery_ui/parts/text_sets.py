"""The choice of the texts that plans are scored on, and of how: one for the whole session."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from surgery_core.measure.cut import how_cut
from surgery_core.text import EACH, PAPERS, PAPERS_WINDOW
from surgery_ui.parts.choices import segments
from surgery_ui.session import echo, own_texts, session
from surgery_ui.session.state import state

CUTS = {EACH: "Text by text", PAPERS: "As papers do it"}
"""How texts are scored, in words."""
CUT_HELP = (
    "Published perplexities, those of WikiText-2 for instance, join the texts with blank lines, cut the tokens into windows "
    "of 2,048 (or the model's context, where that is shorter) without overlap, and score all tokens of each window but its "
    "first. What fills no window is left out."
)


MARGINS = (0.01, 0.02, 0.05, 0.1)
"""Shares of the perplexity that can be chosen as not worth a difference; a link or a recipe may have others."""
MARGIN_HELP = (
    "“The same” is said where the whole 95 % interval of the change of perplexity lies within this. Figures and intervals "
    "stay what they are."
)


def set_choice(key: str, label: str = "Texts", more: Sequence[str] = ()) -> str:
    """Show the sets of texts, other choices behind them, and how they are scored; return the title that is chosen.

    Args:
        key: of the field.
        label: of the field.
        more: what can be chosen besides.
    """
    titles = [one.title for one in own_texts.all_sets().values()]
    # a browser that draws it late sends that nothing is chosen
    shown = st.session_state.get(key) or state.chosen.get(key)
    if shown not in more:
        # chosen on another page, or by a link
        echo.hold(key, session.text_set().title)
    with st.container(horizontal=True, gap="medium", width="content" if more else "stretch"):
        chosen = str(segments(label, [*titles, *more], key, on_change=_take, args=(key,)))
        _cut_choice(f"{key}-cut")
        _margin_choice(f"{key}-margin")
    return chosen


def cut_caption(now: session.Experiment) -> None:
    """Say how texts are joined and cut, where they are."""
    if state.cut == PAPERS:
        window = min(PAPERS_WINDOW, now.loaded.info.context_length or PAPERS_WINDOW)
        st.caption(f"{how_cut(window)} What fills no window is left out.")


def choose(name: str) -> None:
    """Choose a set, on every page."""
    session.touch()
    state.text_set, state.detail = name, 0
    for key in [key for key in state.chosen if key.endswith("-texts")]:
        echo.hold(key, session.text_set().title)


def _cut_choice(key: str) -> None:
    echo.hold(key, CUTS[state.cut])
    segments("Scored", list(CUTS.values()), key, on_change=_take_cut, args=(key,), help=CUT_HELP)


def _take_cut(key: str) -> None:
    session.touch()
    chosen = next((name for name, title in CUTS.items() if title == st.session_state[key]), None)
    if chosen is not None and chosen != state.cut:
        state.cut, state.detail = chosen, 0


def _margin_choice(key: str) -> None:
    margins = sorted({*MARGINS, state.margin})
    echo.hold(key, _percent(state.margin))
    titles = [_percent(margin) for margin in margins]
    segments("Same within", titles, key, on_change=_take_margin, args=(key,), help=MARGIN_HELP)


def _take_margin(key: str) -> None:
    session.touch()
    chosen = str(st.session_state[key] or "").removesuffix(" %")
    if chosen:
        state.margin = float(chosen) / 100


def _percent(margin: float) -> str:
    return f"{100 * margin:g} %"


def _take(key: str) -> None:
    session.touch()
    named = {one.title: one.name for one in own_texts.all_sets().values()}
    chosen = named.get(st.session_state[key])
    if chosen is not None and chosen != state.text_set:
        state.text_set, state.detail = chosen, 0
