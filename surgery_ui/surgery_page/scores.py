"""The scores of a plan: headline figures and the perplexity table."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery_core.measure.results import Comparison, ScoreTable
from surgery_core.sweeps.estimate import reading_seconds
from surgery_core.text import Text, bundled_texts
from surgery_ui.parts import waiting
from surgery_ui.parts.waiting import Waiting
from surgery_ui.session import session
from surgery_ui.words import present
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work import timing
from surgery_ui.work.pool import Job

BUNDLED, OWN = "scores", "own-scores"
"""Lanes of the two jobs: the bundled texts, and the person's own, which may be long."""
METRIC = 128
"""Height of a headline figure in pixels."""


class Scores:
    """The figures of one plan, each drawn when it is there."""

    def __init__(self, now: session.Experiment, headline: DeltaGenerator, table: DeltaGenerator) -> None:
        self._now, self._owner = now, now.owner
        own = session.own_text()
        self.texts: dict[str, tuple[Text, ...]] = {BUNDLED: bundled_texts()} | ({OWN: (own,)} if own else {})
        self.by_lane = {lane: _request(now, lane, texts) for lane, texts in self.texts.items()}
        self._costs = _costs(now, self.texts.get(OWN, ()), self.by_lane.get(OWN))
        self._sides = 1 if now.plan.is_identity else 2
        self._headline = headline.empty()
        self._cells = [] if self.by_lane[BUNDLED].done else _metric_skeletons(self._headline)
        with table:
            self._waiting = [self._wait(lane) for lane in self.by_lane]
            self._trouble = {lane: st.empty() for lane in self.by_lane}
            rows = sum(len(texts) for texts in self.texts.values())
            waits = not any(job.done for job in self.by_lane.values())
            self._grid = st.skeleton(height=waiting.table_height(rows)) if waits else st.empty()
            self._notes = st.container()
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
        for lane in new:
            waiting.failed(self._trouble[lane], self._owner, [self.by_lane[lane]], f"table-{lane}")
        if new:
            self._drawn |= new
            self._show_table()
        for wait in self._waiting:
            wait.show()

    def _wait(self, lane: str) -> Waiting:
        text = "Scoring your text" if lane == OWN else "Scoring texts"
        return Waiting(self._owner, [self.by_lane[lane]], text, lane, lambda: self._expected(lane))

    def _expected(self, lane: str) -> float | None:
        """Return how long a lane takes: a plan about as long as the unchanged model did, for each of its layers."""
        costs = timing.known(self._costs) if lane == OWN else None
        if costs is not None:
            return reading_seconds(costs, self._sides)
        plan = self._now.plan
        before = None if plan.is_identity else cached.base_seconds(self._now.loaded, self.texts[lane])
        return None if before is None else before * max(1.0, len(plan) / max(1, plan.n_layers))

    def _show_headline(self, job: Job[Any]) -> None:
        if waiting.failed(self._headline, self._owner, [job], "headline"):
            return
        if not waiting.not_finite(self._headline, job.result):
            _metrics(self._cells or _metric_cells(self._headline), job.result)

    def _show_table(self) -> None:
        done = [self.by_lane[lane] for lane in (OWN, BUNDLED) if lane in self._drawn]
        results = [job.result for job in done if job.error is None]
        if results:
            frame = pd.concat([result.frame() for result in results], ignore_index=True)
            self._grid = _table(self._grid, frame)
            self._say_stride(frame)
        elif len(done) == len(self.by_lane):
            self._grid.empty()

    def _say_stride(self, frame: pd.DataFrame) -> None:
        long = frame[frame["stride"].notna()]
        if len(long) and "stride" not in self._drawn:
            self._drawn.add("stride")
            self._notes.caption(
                f"Texts longer than the model's context are read in windows of {long['context'].iloc[0]:,} tokens, "
                f"{int(long['stride'].iloc[0]):,} apart; every token is scored once."
            )


def _request(now: session.Experiment, lane: str, texts: tuple[Text, ...]) -> Job[Any]:
    if now.plan.is_identity:
        return cached.table_job(now.owner, lane, now.loaded, texts)
    return cached.comparison_job(now.owner, lane, now.loaded, now.plan, texts)


def _costs(now: session.Experiment, texts: tuple[Text, ...], job: Job[Any] | None) -> Job[Any] | None:
    """Have the model timed where a text is long and not scored yet."""
    if job is None or job.done or not timing.are_long(texts):
        return None
    return timing.reading_job(now.owner, now.loaded, texts, "costs-own")


def _metric_cells(place: DeltaGenerator) -> list[DeltaGenerator]:
    with place.container():
        row = st.container().grid(4, min_column_width=155)
    return [row.empty() for _ in range(4)]


def _metric_skeletons(place: DeltaGenerator) -> list[Any]:
    with place.container():
        row = st.container().grid(4, min_column_width=155)
    return [row.skeleton(height=METRIC) for _ in range(4)]


def _metrics(cells: list[Any], result: Comparison | ScoreTable) -> None:
    for cell, metric in zip(cells, present.headline(result), strict=True):
        cell.metric(
            metric.label,
            metric.value,
            metric.change,
            delta_color=metric.colour,
            delta_arrow="off",
            help=metric.help,
            border=True,
            height="stretch",
        )


def _table(place: Any, frame: pd.DataFrame) -> Any:
    number = st.column_config.NumberColumn
    if "ratio" not in frame:
        columns: dict[str, Any] = {
            "title": "Text",
            "tokens": number("Tokens", width="small", format="localized"),
            "perplexity": number("Perplexity", width="small", format="%.2f"),
            "bits_per_byte": number("Bits per byte", format="%.3f"),
        }
    else:
        bar = st.column_config.ProgressColumn
        # A bar of infinite length could not be drawn.
        ratio = frame["ratio"].where(frame["ratio"].abs() < float("inf"))
        widest = float(ratio.max()) if ratio.notna().any() else 2.0
        columns = {
            "title": "Text",
            "tokens": number("Tokens", width="small", format="localized"),
            "perplexity_before": number(
                "Before", width="small", format="%.2f", help="Perplexity of the unchanged model."
            ),
            "perplexity_after": number("After", width="small", format="%.2f", help="Perplexity after surgery."),
            "ratio": bar("Ratio", format="×%.2f", min_value=0, max_value=max(2.0, widest), help="After over before."),
            "kl": number("KL, nats", width="small", format="%.3f", help="Mean KL(base || operated) over the tokens."),
            "top1": number("Top-1 kept", format="%.1f%%", help="How often both models think the same token likeliest."),
        }
        frame = frame.assign(top1=100 * frame["top1"], ratio=ratio)
    shown = frame[list(columns)]
    return place.dataframe(
        shown,
        hide_index=True,
        height="content",
        column_config=columns,
        alt="Perplexity of every text, before and after",
    )
