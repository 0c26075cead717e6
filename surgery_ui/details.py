"""One text in detail: coloured token by token, and read layer by layer."""

from __future__ import annotations

from typing import Any

import streamlit as st

from surgery_core import charts
from surgery_core.errors import Stopped
from surgery_core.text import Text
from surgery_ui import lens_jobs, present, session
from surgery_ui.jobs import Job
from surgery_ui.scores import BUNDLED, OWN, Scores
from surgery_ui.tinted import MAX_TOKENS, tinted_text


class Details:
    """The section about one chosen text. It waits for the scores that it shows."""

    def __init__(self, now: session.Experiment, scores: Scores) -> None:
        st.subheader("Token by token", anchor=False)
        choices = [(lane, text) for lane in (OWN, BUNDLED) for text in scores.texts.get(lane, ())]
        titles = [text.title for _, text in choices]
        at = st.selectbox(
            "Text",
            range(len(choices)),
            format_func=titles.__getitem__,
            key="detail",
            width=320,
            on_change=session.touch,
        )
        lane, self._text = choices[at or 0]
        self._scores = scores.by_lane[lane]
        self._tokens_place = st.container()
        st.subheader("Layer by layer", anchor=False)
        st.caption("Loss of the right next token if the model stopped after this layer and spoke (logit lens).")
        self._layers_place = st.container()
        self._lenses = _lens_jobs(now, self._text)
        self._drawn: set[str] = set()

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs to look at."""
        return [self._scores, *self._lenses]

    def show(self) -> None:
        """Draw what is new."""
        if self._scores.done and "tokens" not in self._drawn:
            self._drawn.add("tokens")
            if self._scores.error is None:
                self._show_tokens()
        if all(job.done for job in self.jobs) and "layers" not in self._drawn:
            self._drawn.add("layers")
            # What is wrong with the text is said once, beside the scores.
            if self._scores.error is None:
                self._show_layers()

    def _show_tokens(self) -> None:
        frame = self._scores.result.tokens(self._text.title)
        with self._tokens_place:
            tinted_text(frame, key="tinted")
            if len(frame) > MAX_TOKENS:
                st.caption(f"The first {MAX_TOKENS:,} of {len(frame):,} tokens are drawn; the table scores them all.")

    def _show_layers(self) -> None:
        errors = [job.error for job in self._lenses if job.error is not None]
        with self._layers_place:
            if errors:
                if not isinstance(errors[0], Stopped):
                    st.error(present.plain(str(errors[0])))
                return
            frames = [job.result.frame() for job in self._lenses]
            st.altair_chart(charts.layer_loss(charts.layer_losses(*frames)), alt="Loss after each layer", key="layers")


def _lens_jobs(now: session.Experiment, text: Text) -> list[Job[Any]]:
    before = lens_jobs.lens_job(now.owner, "layers-before", now.loaded, now.identity, text.text)
    return [before, lens_jobs.lens_job(now.owner, "layers-after", now.loaded, now.plan, text.text)]
