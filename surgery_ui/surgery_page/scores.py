"""The scores of a plan: headline figures and the perplexity table; of a stitched plan with those of the plain cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery_core.measure.cut import Cut
from surgery_core.measure.results import Comparison, ScoreTable
from surgery_core.suture.sides import by_text
from surgery_core.sweeps.estimate import reading_seconds
from surgery_core.text import Text
from surgery_ui.parts import waiting
from surgery_ui.parts.waiting import Waiting
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.surgery_page.table import MOST_ROWS, show_table
from surgery_ui.words import present
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work import timing
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane

BUNDLED, OWN = Lane.SCORES, Lane.OWN_SCORES
"""Lanes of the two jobs: the bundled texts, and the person's own, which may be long."""
CUT = {BUNDLED: Lane.CUT_SCORES, OWN: Lane.OWN_CUT_SCORES}
"""Lanes of the plain cut's scores, by that of the stitched plan's."""
Expected = Callable[[], float | None]
METRIC = 115
"""Height of a headline figure in pixels."""
LEAST = {False: 155, True: 232}
"""Width of one in which its words fit, by whether type is larger; four in a row, or two."""


@dataclass
class Places:
    """Where the figures stand: the headline with its cells, what went wrong by lane, the table, notes below."""

    headline: DeltaGenerator
    cells: list[Any]
    trouble: dict[Lane, DeltaGenerator]
    grid: Any
    notes: DeltaGenerator


def scores_section(now: session.Experiment, headline: DeltaGenerator, table: DeltaGenerator) -> Scores:
    """Have the texts scored, hold the places of their figures open, and return the section that draws them."""
    own = session.own_text()
    texts: dict[Lane, tuple[Text, ...]] = {BUNDLED: session.scored_texts()} | ({OWN: (own,)} if own else {})
    jobs = {lane: _request(now, lane, some) for lane, some in texts.items()}
    cuts = _cut_jobs(now, texts)
    place = headline.empty()
    cells = [] if jobs[BUNDLED].done else _metric_skeletons(place)
    with table:
        bars = [_bar(now, lane, job, texts[lane]) for lane, job in jobs.items()]
        bars += [Waiting(now.owner, [job], "Scoring the plain cut", CUT[lane]) for lane, job in cuts.items()]
        trouble = {lane: st.empty() for lane in jobs}
        waits = not any(job.done for job in jobs.values())
        height = waiting.table_height(min(MOST_ROWS, sum(len(some) for some in texts.values())))
        grid = st.skeleton(height=height) if waits else st.empty()
        places = Places(place, cells, trouble, grid, st.container())
    return Scores(now.owner, texts, jobs, cuts, bars, places)


class Scores:
    """The figures of one plan, each drawn when it is there: those of the bundled texts, and of the person's own.

    Attributes:
        texts: what is scored, by lane.
        jobs_by_lane: what scores them.
        cuts_by_lane: what scores them under the plain cut, where the plan is stitched.
    """

    def __init__(
        self, owner: str, texts: dict[Lane, tuple[Text, ...]], jobs: dict[Lane, Job[Any]], cuts: dict[Lane, Job[Any]],
        bars: list[Waiting], places: Places,
    ) -> None:  # fmt: skip
        self.texts, self.jobs_by_lane, self.cuts_by_lane = texts, jobs, cuts
        self._owner, self._bars, self._places = owner, bars, places
        self._drawn: set[Lane] = set()
        self._ready = 0
        self._said = self._said_cut = False

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs to look at."""
        return [*self.jobs_by_lane.values(), *self.cuts_by_lane.values()]

    def frame(self, lane: Lane) -> pd.DataFrame | None:
        """Return the lines of a lane's texts, with those of the plain cut once they are there; None where it has none."""
        job, cut = self.jobs_by_lane[lane], self.cuts_by_lane.get(lane)
        if not job.done or job.error is not None:
            return None
        result = _within(job.result)
        if isinstance(result, Comparison) and cut is not None and cut.done and cut.error is None:
            return by_text(cut.result, result)
        return result.frame()

    def whole_frame(self) -> pd.DataFrame:
        """Return the lines of all texts that are scored, the person's own first."""
        frames = [self.frame(lane) for lane in (OWN, BUNDLED) if lane in self.jobs_by_lane]
        there = [one for one in frames if one is not None]
        return pd.concat(there, ignore_index=True) if there else pd.DataFrame()

    def show(self) -> None:
        """Draw what is new."""
        new = {lane for lane, job in self.jobs_by_lane.items() if job.done} - self._drawn
        if BUNDLED in new:
            self._show_headline(self.jobs_by_lane[BUNDLED])
        for lane in new:
            waiting.failed(self._places.trouble[lane], self._owner, [self.jobs_by_lane[lane]], f"table-{lane}")
        self._drawn |= new
        ready = sum(job.done for job in self.jobs)
        if ready > self._ready:
            self._ready = ready
            self._show_table()
        for bar in self._bars:
            bar.show()

    def _show_headline(self, job: Job[Any]) -> None:
        if waiting.failed(self._places.headline, self._owner, [job], "headline"):
            return
        if not waiting.not_finite(self._places.headline, job.result):
            _metrics(self._places.cells or _metric_cells(self._places.headline), _within(job.result))

    def _show_table(self) -> None:
        done = [self.jobs_by_lane[lane] for lane in (OWN, BUNDLED) if lane in self._drawn]
        results = [_within(job.result) for job in done if job.error is None]
        if results:
            frame = self.whole_frame()
            self._places.grid = show_table(self._places.grid, frame, self._opens(results), self._ready)
            self._say_stride(frame)
            self._say_cut([result.cut for result in results if result.cut is not None])
        elif len(done) == len(self.jobs_by_lane):
            self._places.grid.empty()

    def _opens(self, results: Sequence[Any]) -> list[int]:
        """Return by line of the table which text it opens below; none where texts are cut into windows."""
        texts = [text for lane in (OWN, BUNDLED) for text in self.texts.get(lane, ())]
        lines = [row for result in results for row in result.rows]
        # a table that can be clicked is no element any more that another could replace
        if self._ready < len(self.jobs) or len(results) < len(self.jobs_by_lane) or len(lines) != len(texts):
            return []
        return list(range(len(texts)))

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


def _cut_jobs(now: session.Experiment, texts: dict[Lane, tuple[Text, ...]]) -> dict[Lane, Job[Any]]:
    """Have the texts scored under the plain cut too, where the plan is stitched."""
    if not now.is_stitched:
        return {}
    plain = now.plan.unstitched
    return {lane: cached.comparison_job(now.owner, CUT[lane], now.loaded, plain, some) for lane, some in texts.items()}


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
    row = _metric_row(place)
    return [row.empty() for _ in range(4)]


def _metric_skeletons(place: DeltaGenerator) -> list[Any]:
    row = _metric_row(place)
    return [row.skeleton(height=METRIC) for _ in range(4)]


def _metric_row(place: DeltaGenerator) -> Any:
    with place.container():
        return st.container().grid(4, min_column_width=LEAST[state.present])


def _within(result: Comparison | ScoreTable) -> Comparison | ScoreTable:
    """Return the figures with verdicts that count as the same what the person counts so."""
    return result.within(state.margin) if isinstance(result, Comparison) else result


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
