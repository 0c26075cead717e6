"""The scores of a plan: headline figures and the perplexity table."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery_core.errors import Stopped
from surgery_core.results import Comparison, ScoreTable
from surgery_core.text import Text, bundled_texts
from surgery_ui import cached, present, session
from surgery_ui.jobs import Job

BUNDLED, OWN = "scores", "own-scores"
"""Lanes of the two jobs: the bundled texts, and the person's own, which may be long."""


class Scores:
    """The figures of one plan, each drawn when it is there."""

    def __init__(self, now: session.Experiment, headline: DeltaGenerator, table: DeltaGenerator) -> None:
        self._headline, self._table = headline, table
        self._progress = table.empty()
        self._grid: DeltaGenerator | None = None
        own = session.own_text()
        self.texts: dict[str, tuple[Text, ...]] = {BUNDLED: bundled_texts()} | ({OWN: (own,)} if own else {})
        self.by_lane = {lane: _request(now, lane, texts) for lane, texts in self.texts.items()}
        self._drawn: set[str] = set()

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs to look at."""
        return list(self.by_lane.values())

    def show(self) -> None:
        """Draw what is new."""
        new = {lane for lane, job in self.by_lane.items() if job.done} - self._drawn
        if BUNDLED in new:
            self._show_headline(self.by_lane[BUNDLED])
        if OWN in new:
            _fail(self._table, self.by_lane[OWN])
        if new:
            self._drawn |= new
            self._show_table()
        self._show_progress()

    def _show_headline(self, job: Job[Any]) -> None:
        if job.error is None:
            _metrics(self._headline, job.result)
        else:
            _fail(self._headline, job)

    def _show_table(self) -> None:
        done = [self.by_lane[lane] for lane in (OWN, BUNDLED) if lane in self._drawn]
        results = [job.result for job in done if job.error is None]
        if results:
            frame = pd.concat([result.frame() for result in results], ignore_index=True)
            target = self._table if self._grid is None else self._grid
            self._grid = _grid(target, frame)
            self._say_stride(frame)

    def _say_stride(self, frame: pd.DataFrame) -> None:
        long = frame[frame["stride"].notna()]
        if len(long) and "stride" not in self._drawn:
            self._drawn.add("stride")
            self._table.caption(
                f"Texts longer than the model's context are read in windows of {long['context'].iloc[0]:,} tokens, "
                f"{int(long['stride'].iloc[0]):,} apart; every token is scored once."
            )

    def _show_progress(self) -> None:
        waiting = [job for job in self.jobs if not job.done]
        done, total = (sum(job.progress[i] for job in waiting) for i in (0, 1))
        if total:
            self._progress.progress(min(1.0, done / total), text="Scoring texts")
        elif not waiting:
            self._progress.empty()


def _request(now: session.Experiment, lane: str, texts: tuple[Text, ...]) -> Job[Any]:
    if now.plan.is_identity:
        return cached.table_job(now.owner, lane, now.loaded, texts)
    return cached.comparison_job(now.owner, lane, now.loaded, now.plan, texts)


def _fail(place: DeltaGenerator, job: Job[Any]) -> None:
    """Say what went wrong with a job, if anything did."""
    if job.error is not None and not isinstance(job.error, Stopped):
        place.error(present.plain(str(job.error)))


def _metrics(place: DeltaGenerator, result: Comparison | ScoreTable) -> None:
    row = place.grid(4, min_column_width=155)
    for metric in present.headline(result):
        row.metric(
            metric.label,
            metric.value,
            metric.change,
            delta_color=metric.colour,
            delta_arrow="off",
            help=metric.help,
            border=True,
            height="stretch",
        )


def _grid(place: DeltaGenerator, frame: pd.DataFrame) -> DeltaGenerator:
    number = st.column_config.NumberColumn
    if "ratio" not in frame:
        columns: dict[str, Any] = {
            "title": "Text",
            "tokens": number("Tokens", format="localized"),
            "perplexity": number("Perplexity", format="%.2f"),
            "bits_per_byte": number("Bits per byte", format="%.3f"),
        }
    else:
        bar = st.column_config.ProgressColumn
        widest = float(frame["ratio"].replace([float("inf")], float("nan")).max())
        columns = {
            "title": "Text",
            "tokens": number("Tokens", format="localized"),
            "perplexity_before": number("Before", format="%.2f", help="Perplexity of the unchanged model."),
            "perplexity_after": number("After", format="%.2f", help="Perplexity after surgery."),
            "ratio": bar("Ratio", format="×%.2f", min_value=0, max_value=max(2.0, widest), help="After over before."),
            "kl": number("KL, nats", format="%.3f", help="Mean KL(base || operated) over the tokens."),
            "top1": number("Top-1 kept", format="%.1f%%", help="How often both models think the same token likeliest."),
        }
        frame = frame.assign(top1=100 * frame["top1"])
    shown = frame[list(columns)]
    return place.dataframe(
        shown,
        hide_index=True,
        height="content",
        column_config=columns,
        alt="Perplexity of every text, before and after",
    )
