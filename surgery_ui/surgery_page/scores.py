"""The scores of a plan: headline figures and the perplexity table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery_core.measure.cut import Cut
from surgery_core.measure.results import Comparison, ScoreTable
from surgery_core.sweeps.estimate import reading_seconds
from surgery_core.text import Text
from surgery_ui.parts import waiting
from surgery_ui.parts.waiting import Waiting
from surgery_ui.session import session
from surgery_ui.words import present
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work import timing
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane

BUNDLED, OWN = Lane.SCORES, Lane.OWN_SCORES
"""Lanes of the two jobs: the bundled texts, and the person's own, which may be long."""
Expected = Callable[[], float | None]
METRIC = 128
"""Height of a headline figure in pixels."""
MOST_ROWS = 16
"""Rows of the table that are shown at once."""
LINE = 24
"""Height of the line below them."""


@dataclass
class Places:
    """Where the figures stand: the headline with its cells and verdict, what went wrong by lane, the table, notes below."""

    headline: DeltaGenerator
    cells: list[Any]
    verdict: DeltaGenerator
    trouble: dict[Lane, DeltaGenerator]
    grid: Any
    notes: DeltaGenerator


def scores_section(now: session.Experiment, headline: DeltaGenerator, table: DeltaGenerator) -> Scores:
    """Have the texts scored, hold the places of their figures open, and return the section that draws them."""
    own = session.own_text()
    texts: dict[Lane, tuple[Text, ...]] = {BUNDLED: session.scored_texts()} | ({OWN: (own,)} if own else {})
    jobs = {lane: _request(now, lane, some) for lane, some in texts.items()}
    place = headline.empty()
    cells = [] if jobs[BUNDLED].done else _metric_skeletons(place)
    verdict = headline.empty() if now.plan.is_identity else headline.empty().skeleton(height=LINE)
    with table:
        bars = [_bar(now, lane, job, texts[lane]) for lane, job in jobs.items()]
        trouble = {lane: st.empty() for lane in jobs}
        waits = not any(job.done for job in jobs.values())
        height = waiting.table_height(min(MOST_ROWS, sum(len(some) for some in texts.values())))
        grid = st.skeleton(height=height) if waits else st.empty()
        places = Places(place, cells, verdict, trouble, grid, st.container())
    return Scores(now.owner, texts, jobs, bars, places)


class Scores:
    """The figures of one plan, each drawn when it is there: those of the bundled texts, and of the person's own.

    Attributes:
        texts: what is scored, by lane.
        jobs_by_lane: what scores them.
    """

    def __init__(
        self, owner: str, texts: dict[Lane, tuple[Text, ...]], jobs: dict[Lane, Job[Any]], bars: list[Waiting],
        places: Places,
    ) -> None:  # fmt: skip
        self.texts, self.jobs_by_lane = texts, jobs
        self._owner, self._bars, self._places = owner, bars, places
        self._drawn: set[Lane] = set()
        self._said = self._said_cut = False

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs to look at."""
        return list(self.jobs_by_lane.values())

    def show(self) -> None:
        """Draw what is new."""
        new = {lane for lane, job in self.jobs_by_lane.items() if job.done} - self._drawn
        if BUNDLED in new:
            self._show_headline(self.jobs_by_lane[BUNDLED])
        for lane in new:
            waiting.failed(self._places.trouble[lane], self._owner, [self.jobs_by_lane[lane]], f"table-{lane}")
        if new:
            self._drawn |= new
            self._show_table()
        for bar in self._bars:
            bar.show()

    def _show_headline(self, job: Job[Any]) -> None:
        if waiting.failed(self._places.headline, self._owner, [job], "headline"):
            return
        if not waiting.not_finite(self._places.headline, job.result):
            _metrics(self._places.cells or _metric_cells(self._places.headline), job.result)
            _verdict(self._places.verdict, job.result)

    def _show_table(self) -> None:
        done = [self.jobs_by_lane[lane] for lane in (OWN, BUNDLED) if lane in self._drawn]
        results = [job.result for job in done if job.error is None]
        if results:
            frame = pd.concat([result.frame() for result in results], ignore_index=True)
            self._places.grid = _table(self._places.grid, frame)
            self._say_stride(frame)
            self._say_cut([result.cut for result in results if result.cut is not None])
        elif len(done) == len(self.jobs_by_lane):
            self._places.grid.empty()

    def _say_cut(self, cuts: Sequence[Cut]) -> None:
        if cuts and not self._said_cut:
            self._said_cut = True
            self._places.notes.caption(cuts[0].sentence)

    def _say_stride(self, frame: pd.DataFrame) -> None:
        long = frame[frame["stride"].notna()]
        if len(long) and not self._said:
            self._said = True
            self._places.notes.caption(
                f"Texts longer than the model's context are read in windows of {long['context'].iloc[0]:,} tokens, "
                f"{int(long['stride'].iloc[0]):,} apart; every token is scored once."
            )


def _request(now: session.Experiment, lane: Lane, texts: tuple[Text, ...]) -> Job[Any]:
    if now.plan.is_identity:
        return cached.table_job(now.owner, lane, now.loaded, texts)
    return cached.comparison_job(now.owner, lane, now.loaded, now.plan, texts)


def _bar(now: session.Experiment, lane: Lane, job: Job[Any], texts: tuple[Text, ...]) -> Waiting:
    text = "Scoring your text" if lane == OWN else "Scoring texts"
    return Waiting(now.owner, [job], text, lane, _expected(now, lane, job, texts))


def _expected(now: session.Experiment, lane: Lane, job: Job[Any], texts: tuple[Text, ...]) -> Expected:
    """Return what tells how long a lane takes.

    A long text of the person's has the model timed; else a plan takes about as long as the unchanged model did, for each
    of its layers.
    """
    timed = lane == OWN and not job.done and timing.are_long(texts)
    costs = timing.reading_job(now.owner, now.loaded, texts, Lane.COSTS_OWN) if timed else None

    def seconds() -> float | None:
        known = timing.known(costs)
        if known is not None:
            return reading_seconds(known, 1 if now.plan.is_identity else 2)
        return None if now.plan.is_identity else cached.plan_seconds(now.loaded, texts, now.plan)

    return seconds


def _metric_cells(place: DeltaGenerator) -> list[DeltaGenerator]:
    with place.container():
        row = st.container().grid(4, min_column_width=155)
    return [row.empty() for _ in range(4)]


def _metric_skeletons(place: DeltaGenerator) -> list[Any]:
    with place.container():
        row = st.container().grid(4, min_column_width=155)
    return [row.skeleton(height=METRIC) for _ in range(4)]


def _verdict(place: DeltaGenerator, result: Comparison | ScoreTable) -> None:
    """Say under the headline whether the difference is real."""
    if isinstance(result, Comparison):
        place.caption(present.verdict(result), help=present.INTERVAL)


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
            "ratio": bar(
                "Ratio", width=150, format="×%.2f", min_value=0, max_value=max(2.0, widest), help="After over before."
            ),
            "kl": number("KL, nats", width="small", format="%.3f", help="Mean KL(base || operated) over the tokens."),
            "top1": number("Top-1 kept", format="%.1f%%", help="How often both models think the same token likeliest."),
            "verdict": st.column_config.TextColumn(
                "Verdict",
                width=140,
                help="Over runs of 16 tokens of this text. “–” where the text is too short to say.",
            ),
        }
        words = frame["verdict"].where(frame["verdict"] != "too few to say", "–")
        frame = frame.assign(top1=100 * frame["top1"], ratio=ratio, verdict=words)
    shown = frame[list(columns)]
    return place.dataframe(
        shown,
        hide_index=True,
        height="content" if len(frame) <= MOST_ROWS else waiting.table_height(MOST_ROWS),
        column_config=columns,
        alt="Perplexity of every text, before and after",
    )
