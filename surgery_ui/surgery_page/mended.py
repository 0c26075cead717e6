"""A stitched plan beside the plain cut: base, cut and stitched with their figures, and what can be said of them."""

from __future__ import annotations

import streamlit as st

from surgery_core.suture.sides import sides_of
from surgery_ui.parts import waiting
from surgery_ui.parts.awaited import Awaited
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.surgery_page.scores import BUNDLED, Scores
from surgery_ui.words import heals as words
from surgery_ui.words import present

TALL = 215
"""Height of the table with the lines below it, in pixels."""


def mended_section(now: session.Experiment, scores: Scores) -> Awaited:
    """Return the section that draws base, cut and stitched side by side, once both plans are scored."""
    both = [scores.cuts_by_lane[BUNDLED], scores.jobs_by_lane[BUNDLED]]

    def draw() -> None:
        if any(waiting.not_finite(st, job.result) for job in both):
            return
        sides = sides_of(
            {name: job.result.within(state.margin) for name, job in zip(("cut", "stitched"), both, strict=True)}
        )
        st.table(words.side_table(sides, whole=True), border="horizontal")
        for sentence in words.verdicts(sides):
            st.caption(present.plain(sentence))

    return Awaited(now.owner, both, "mended", draw, height=TALL, said=True)
