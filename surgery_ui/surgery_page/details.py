"""One text in detail: coloured token by token, and read layer by layer."""

from __future__ import annotations

from typing import Any

import streamlit as st

from surgery_core.charts import lens_lines as lens_line_charts
from surgery_core.charts.style import layer_losses
from surgery_core.text import Text
from surgery_ui.components.tinted import MAX_TOKENS, tinted_text
from surgery_ui.parts import chart_specs, waiting
from surgery_ui.parts.waiting import Waiting
from surgery_ui.session import session
from surgery_ui.surgery_page.scores import BUNDLED, OWN, Scores
from surgery_ui.words import present
from surgery_ui.words.labels import unique
from surgery_ui.work import lens_jobs
from surgery_ui.work.pool import Job

CHARACTERS = 32
"""Characters a token, more than any text has on average."""
TEXT, CHART = 190, 320
"""Heights of what stands here, in pixels, where it is not there yet."""


class Details:
    """The section about one chosen text. Its two parts come, and fail, each by itself."""

    def __init__(self, now: session.Experiment, scores: Scores) -> None:
        st.subheader("Token by token", anchor=False)
        choices = [(lane, text) for lane in (OWN, BUNDLED) for text in scores.texts.get(lane, ())]
        titles = unique(
            {at: text.title for at, (_, text) in enumerate(choices)},
            {at: "yours" for at, (lane, _) in enumerate(choices) if lane == OWN},
        )
        at = st.selectbox(
            "Text",
            range(len(choices)),
            format_func=titles.__getitem__,
            key="detail",
            width=320,
            on_change=session.touch,
        )
        lane, self._text = choices[at or 0]
        self._owner, self._scores = now.owner, scores.by_lane[lane]
        self._tokens_place = _place(TEXT, self._scores.done)
        self._tokens_note = st.container()
        st.subheader("Layer by layer", anchor=False)
        st.caption(
            "Loss of the right next token if the model stopped after this layer and spoke (logit lens), by running "
            "position."
        )
        self._lenses = _lens_jobs(now, self._text)
        self._wait = Waiting(now.owner, self._lenses, "Reading the layers", "layers")
        self._layers_place = _place(CHART, all(job.done for job in self._lenses))
        self._drawn: set[str] = set()

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs to look at."""
        return [self._scores, *self._lenses]

    def show(self) -> None:
        """Draw what is new."""
        if self._scores.done and "tokens" not in self._drawn:
            self._drawn.add("tokens")
            if not waiting.failed(self._tokens_place, self._owner, [self._scores], "tokens", said=True):
                self._show_tokens()
        if all(job.done for job in self._lenses) and "layers" not in self._drawn:
            self._drawn.add("layers")
            if not waiting.failed(self._layers_place, self._owner, self._lenses, "layers", said=True):
                self._show_layers()
        self._wait.show()

    def _show_tokens(self) -> None:
        if waiting.not_finite(self._tokens_place, self._scores.result):
            return
        frame = self._scores.result.tokens(self._text.title)
        with self._tokens_place.container():
            tinted_text(frame, key="tinted")
        if len(frame) > MAX_TOKENS:
            self._tokens_note.caption(
                f"The first {MAX_TOKENS:,} of {len(frame):,} tokens are drawn; the table scores them all."
            )

    def _show_layers(self) -> None:
        frames = [job.result.frame() for job in self._lenses]
        with self._layers_place.container():
            for job in self._lenses:
                if said := str(getattr(job.result, "not_finite", "")):
                    st.error(present.plain(said))
            chart = lens_line_charts.layer_loss(layer_losses(*frames))
            chart_specs.show(chart, alt="Loss after each layer", key="layers")


def _place(height: int, ready: bool) -> Any:
    """Return the place of something that comes, held open where it is not there yet."""
    return st.empty() if ready else st.skeleton(height=height)


def _lens_jobs(now: session.Experiment, text: Text) -> list[Job[Any]]:
    # Only as much as the model sees at once is read; to cut a text of a megabyte into tokens takes many seconds.
    beginning = text.text[: CHARACTERS * lens_jobs.window_of(now.loaded)]
    before = lens_jobs.lens_job(now.owner, "layers-before", now.loaded, now.identity, beginning)
    return [before, lens_jobs.lens_job(now.owner, "layers-after", now.loaded, now.plan, beginning)]
