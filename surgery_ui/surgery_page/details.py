"""One text in detail: coloured token by token, and read layer by layer."""

from __future__ import annotations

from typing import Any

import streamlit as st

from surgery_core.charts import lens_lines as lens_line_charts
from surgery_core.charts.style import layer_losses
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.measure.results import Comparison
from surgery_core.text import Text
from surgery_ui.components.arrival import arrival
from surgery_ui.components.tinted import MAX_TOKENS, tinted_text
from surgery_ui.parts import chart_specs, waiting
from surgery_ui.parts.awaited import Awaited
from surgery_ui.parts.sections import Section
from surgery_ui.session import session
from surgery_ui.session.state import State, state
from surgery_ui.surgery_page.scores import BUNDLED, OWN, Scores
from surgery_ui.words import present
from surgery_ui.words.labels import unique
from surgery_ui.work import lens_jobs
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane

TEXT, CHART = 190, 320
"""Heights of what stands here, in pixels, where it is not there yet."""


def detail_sections(now: session.Experiment, scores: Scores) -> list[Section]:
    """Show which text is looked at, and return the two sections about it. They come, and fail, each by itself."""
    with st.container(gap=None):  # the place has no height, and shall not have a gap either
        arrival("text-arrival", state.opened)
        st.subheader("Token by token", anchor=False)
    lane, text = _choice(scores)
    tokens = _tokens(now, scores.jobs_by_lane[lane], text)
    st.subheader("Layer by layer", anchor=False)
    st.caption(
        "Loss of the right next token if the model stopped after this layer and spoke (logit lens), by running position."
    )
    lenses = _lens_jobs(now, text)
    layers = Awaited(
        now.owner, lenses, "layers", lambda: _draw_layers([job.result for job in lenses]), text="Reading the layers",
        height=CHART, said=True,
    )  # fmt: skip
    return [tokens, layers]


def _choice(scores: Scores) -> tuple[Lane, Text]:
    """Show the field with the texts that are scored, and return the chosen one with its lane."""
    choices = [(lane, text) for lane in (OWN, BUNDLED) for text in scores.texts.get(lane, ())]
    titles = unique(
        {at: text.title for at, (_, text) in enumerate(choices)},
        {at: "yours" for at, (lane, _) in enumerate(choices) if lane == OWN},
    )
    at = st.selectbox(
        "Text",
        range(len(choices)),
        format_func=titles.__getitem__,
        key=State.detail.key,
        width=320,
        on_change=session.touch,
    )
    return choices[at or 0]


def _tokens(now: session.Experiment, job: Job[Any], text: Text) -> Section:
    def draw() -> None:
        if waiting.not_finite(st, job.result):
            return
        frame = job.result.tokens(_scored_title(job.result, text))
        tinted_text(frame, key="tinted")
        if text.window is not None:
            note.caption("The first window is drawn.")
        if len(frame) > MAX_TOKENS:
            note.caption(f"The first {MAX_TOKENS:,} of {len(frame):,} tokens are drawn; the table scores them all.")

    section = Awaited(now.owner, [job], "tokens", draw, height=TEXT, said=True)
    note = st.container()
    return section


def _scored_title(result: Comparison, text: Text) -> str:
    """Return under which title a text is in the table; of one that is cut it is that of its first window."""
    return text.title if text.window is None else result.rows[0].before.title


def _draw_layers(sides: list[Trajectory]) -> None:
    for read in sides:
        if said := str(getattr(read, "not_finite", "")):
            st.error(present.plain(said))

    def make() -> Any:
        return lens_line_charts.layer_loss(layer_losses(*(read.frame() for read in sides)))

    chart_specs.show(make, made_of=tuple(sides), alt="Loss after each layer", key="layers")


def _lens_jobs(now: session.Experiment, text: Text) -> list[Job[Any]]:
    beginning = lens_jobs.beginning(now.loaded, text)
    before = lens_jobs.lens_job(now.owner, Lane.LAYERS_BEFORE, now.loaded, now.identity, beginning)
    return [before, lens_jobs.lens_job(now.owner, Lane.LAYERS_AFTER, now.loaded, now.plan, beginning)]
