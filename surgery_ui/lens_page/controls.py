"""What the Lens page reads, through which lens, and what its colours say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import streamlit as st

from surgery_core.keeping.script import LensView
from surgery_core.lenses.metrics import METRICS, Metric
from surgery_core.lenses.reading import Follow
from surgery_core.recipes.swap_choice import SwapChoice
from surgery_ui.parts import chat, examples, keeping
from surgery_ui.parts.choices import segments
from surgery_ui.session import session
from surgery_ui.session.state import State, state
from surgery_ui.words.lenses import FOLLOW
from surgery_ui.work import lens_jobs
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.lens_jobs import JACOBIAN, LOGIT, TUNED, Reading

TEXT_PICK, STATISTIC, TOKEN, PART = "lens-pick", "lens-metric", "lens-token", "lens-part"
INSIDE = "lens-sublayers"
"""Keys of the fields."""
NAMES = {LOGIT: "Logit lens", TUNED: "Tuned lens", JACOBIAN: "Jacobian lens"}
_CELL = (
    "Rows are layers, the last on top; columns are the tokens read. A cell has the token that would come next if the model "
    "stopped there: its residual stream, decoded "
)
ABOUT = {
    LOGIT: f"{_CELL}with the model's own head.",
    TUNED: f"{_CELL}by a translator trained for that layer (arXiv 2303.08112) and then the model's own head.",
    JACOBIAN: "Rows are layers, the last on top; columns are the tokens read. A cell has what its state moves the output "
    "towards, here and at the tokens to come, through the model's average Jacobian from that layer on and then its own head "
    "(transformer-circuits.pub/2026/workspace). So middle layers show words that the model has in mind and may say later, "
    "where the logit lens shows little and a tuned lens only its best guess of the next token.",
}
"""What the maps show, by what the lens decodes with."""
FOLLOWED: dict[Follow, str] = {
    "layer": "After surgery each translator follows its layer, wherever that runs.",
    "position": "After surgery each translator stays at its position, whatever runs there.",
}
ANEW = "After surgery it reads with matrices that were fitted on this plan, slot by slot; before surgery with those of the unchanged model."
MORE = "What else colours can show than probability, and rows inside the layers."
SIDE_BY_SIDE, STACKED, DIFFERENCE = "Side by side", "Stacked", "Difference"
VIEWS = (SIDE_BY_SIDE, STACKED, DIFFERENCE)
MID = (
    "“L3 mid” is the state inside L3, after its attention and before its MLP; a tuned or Jacobian lens has nothing of its "
    "own for it and takes that of what enters the layer."
)


@dataclass(frozen=True)
class Choice:
    """What the page shows: the text and its length in tokens, how it is read, and the statistic."""

    text: str
    reading: Reading
    metric: Metric
    view: str = SIDE_BY_SIDE
    said: str = ""
    n_tokens: int = 0


def lens_controls(now: session.Experiment) -> Choice:
    """Show the controls above the maps and return what was chosen."""
    text = _text(now)
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        chosen, said = _lens(now)
        beside = st.container(width="content")
        with st.popover("More", icon=":material/tune:", key="lens-more", help=MORE):
            metric, picked = _statistic(now)
            # a field of a panel that is opened later begins with its default, and must not send back another value
            sublayers = st.toggle(
                "Inside layers too", bool(st.session_state.get(INSIDE)), key=INSIDE, persist_state="session",
                on_change=session.touch, help=MID,
            )  # fmt: skip
        with beside:
            view = _view(now, metric)
    reading = replace(chosen, sublayers=bool(sublayers))
    n_tokens = cached.count_tokens(now.loaded, chat.as_read(now, text))
    start = _start(lens_jobs.window_of(now.loaded), n_tokens)
    system = state.system if chat.applies(now) else None
    reading = replace(reading, picked=picked, start=start, system=system)
    return Choice(text, reading, metric, view, said, n_tokens)


def offer_lens(now: session.Experiment, choice: Choice, swap: SwapChoice | None) -> None:
    """Offer what the page reads as a script; a lens of one's own is the folder that was saved from the page."""
    reading = choice.reading
    lens = reading.lens if reading.lens in NAMES else lens_jobs.saved_as(now.loaded)
    kind: Literal["tuned", "jacobian"] = "jacobian" if lens_jobs.what_reads(reading.lens) == JACOBIAN else "tuned"
    view = LensView(choice.text, lens, reading.follow, reading.sublayers, reading.start, kind)
    read = lens_jobs.lens_of_side(reading, swap.side) if swap is not None else ""
    keeping.offer_script(now, "lens", lens=view, swap=swap, swap_lens=read)


def own_lenses(now: session.Experiment) -> dict[str, str]:
    """Return the titles of the lenses that this session made or opened for the model, by their ids."""
    return state.own_lenses.setdefault(now.loaded.info.key, {})


def lenses(now: session.Experiment) -> dict[str, str]:
    """Return the titles of the lenses that can read this plan, by their ids."""
    came = {TUNED: lens_jobs.has_lens(now.loaded), JACOBIAN: lens_jobs.has_jacobian_lens(now.loaded)}
    names = {LOGIT: NAMES[LOGIT]} | {key: NAMES[key] for key, there in came.items() if there}
    return names | {
        key: title for key, title in own_lenses(now).items() if lens_jobs.plan_of_lens(key) in ("", str(now.plan))
    }


def jacobian_of_base(now: session.Experiment) -> str:
    """Return the id of a Jacobian lens of the unchanged model, the last of one's own first; empty where there is none."""
    found = [key for key in lenses(now) if lens_jobs.what_reads(key) == JACOBIAN and not lens_jobs.plan_of_lens(key)]
    return found[-1] if found else ""


def _lens(now: session.Experiment) -> tuple[Reading, str]:
    """Show which lens reads and what its translators follow; return both, and what they mean in words."""
    names = lenses(now)
    lens, follow = LOGIT, "Their layer"
    if (wanted := State.lens_wanted.take()) is not None and wanted in names:
        state.lens_kind = wanted
    if len(names) > 1:
        if state.lens_kind not in names:
            # it was fitted on another plan than the one there is now
            state.lens_kind = jacobian_of_base(now) or LOGIT
        lens = segments("Lens", list(names), State.lens_kind.key, format_func=names.__getitem__)
    about = ABOUT[lens_jobs.what_reads(lens)]
    if lens == LOGIT or now.plan.is_identity:
        return Reading(lens, FOLLOW[follow]), about
    if lens_jobs.plan_of_lens(lens):
        return Reading(lens, FOLLOW[follow], unchanged=jacobian_of_base(now)), f"{about} {ANEW}"
    text = "Whether the row behind layer 5 is read as layer 5's wherever it runs, or by its place."
    follow = segments("Translators follow", list(FOLLOW), "lens-follow", help=text)
    return Reading(lens, FOLLOW[follow]), f"{about} {FOLLOWED[FOLLOW[follow]]}"


def _text(now: session.Experiment) -> str:
    """Show the field with the text that the lens reads, and return the text."""
    titles = examples.follow(State.lens.key, TEXT_PICK)
    left, right = st.columns([1, 3], gap="medium")
    left.selectbox(
        "Examples", titles, key=TEXT_PICK, placeholder="Your own", on_change=examples.take_pick,
        args=(State.lens.key, TEXT_PICK),
    )  # fmt: skip
    right.text_area(
        "Text to read",
        key=State.lens.key,
        height=68,
        persist_state="session",
        on_change=examples.take_text,
        args=(State.lens.key,),
    )
    examples.drawn(State.lens.key, TEXT_PICK)
    if chat.offered(now):
        with st.container(horizontal=True, vertical_alignment="center"):
            chat.controls(now, state.lens)
            chat.caption(now)
    return state.lens


def _statistic(now: session.Experiment) -> tuple[Metric, str]:
    """Show what the colours and lines say; return the statistic and the picked token."""
    offered = [name for name, metric in METRICS.items() if not (metric.between and now.plan.is_identity)]
    if st.session_state.get(STATISTIC) not in offered:
        st.session_state[STATISTIC] = offered[0]
    name = st.selectbox(
        "Colours and lines show",
        offered,
        offered.index(st.session_state[STATISTIC]),
        format_func=lambda name: METRICS[name].title,
        key=STATISTIC,
        width=280,
        persist_state="session",
        on_change=session.touch,
    )
    if name != "picked":
        return METRICS[name], ""
    if not str(st.session_state.get(TOKEN) or "").strip():
        st.session_state[TOKEN] = "the"
    picked = st.text_input(
        "Token", st.session_state[TOKEN], key=TOKEN, width=280, persist_state="session", on_change=session.touch,
        help="As the model writes it; a space before it is tried too.",
    )  # fmt: skip
    return METRICS[name], str(picked)


def _view(now: session.Experiment, metric: Metric) -> str:
    """Show how the two maps stand, where there are two, and return it."""
    return (
        SIDE_BY_SIDE
        if now.plan.is_identity or metric.between
        else str(segments("Before and after", list(VIEWS), "lens-view"))
    )


def _start(size: int, total: int) -> int:
    """Show which part of a text that is longer than what is read at once is read; return its first token."""
    if total <= size:
        return 0
    parts = {at: f"{at:,} to {min(at + size, total) - 1:,}" for at in range(0, total, size)}
    if st.session_state.get(PART) not in parts:
        st.session_state[PART] = 0
    st.select_slider(
        f"Tokens read, of {total:,} (the model sees {size:,} at once)", list(parts), format_func=parts.__getitem__,
        key=PART, width=420, on_change=session.touch,
    )  # fmt: skip
    return int(st.session_state[PART])
