"""A statistic layer by layer, averaged over the evaluation texts, with the spread between them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from surgery_core.charts import lens_lines as lens_line_charts
from surgery_core.lenses.averages import mean_depth, spread
from surgery_core.sweeps.estimate import lens_texts_seconds
from surgery_core.text import Text, bundled_texts
from surgery_ui.lens_page.controls import Choice
from surgery_ui.parts import chart_specs, waiting
from surgery_ui.parts.waiting import Waiting
from surgery_ui.session import session
from surgery_ui.work import lens_jobs, timing
from surgery_ui.work.kinds import Lane
from surgery_ui.work.pool import Job

LANES = {"Before": Lane.AVERAGES_BEFORE, "After": Lane.AVERAGES_AFTER}
HEIGHT = 310
"""Height in pixels of what stands here, where it is not there yet."""


class LensTexts:
    """The averages; they are read once the section is open."""

    def __init__(self, now: session.Experiment, choice: Choice) -> None:
        section = st.expander(
            "Averages over the texts", icon=":material/stacked_line_chart:", key="lens-texts", on_change="rerun"
        )
        self._choice = choice
        self._jobs: dict[str, Job[pd.DataFrame]] = {}
        self._drawn = False
        if not section.open:
            return
        with section:
            if choice.metric.between or choice.metric.name == "picked":
                st.caption("Choose one of the statistics that each side has by itself, such as KL to the output.")
                return
            self._bar = st.container()
        texts = evaluation_texts()
        plans = {"Before": now.identity} | ({} if now.plan.is_identity else {"After": now.plan})
        for side, plan in plans.items():
            self._jobs[side] = lens_jobs.averages_job(now.owner, LANES[side], now.loaded, plan, texts, choice.reading)
        self._hold(now, texts)

    def _hold(self, now: session.Experiment, texts: tuple[Text, ...]) -> None:
        """Hold the section's place open while the texts are read, and say how long that takes."""
        waits = not all(job.done for job in self.jobs)
        costs = timing.reading_job(now.owner, now.loaded, texts, Lane.COSTS_AVERAGES) if waits else None

        def expected() -> float | None:
            known = timing.known(costs)
            return None if known is None else len(self._jobs) * lens_texts_seconds(known)

        with self._bar:
            self._wait = Waiting(now.owner, self.jobs, "Reading the texts", "averages", expected)
            self._owner, self._here = now.owner, st.skeleton(height=HEIGHT) if waits else st.empty()

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs to look at."""
        return list(self._jobs.values())

    def show(self) -> None:
        """Draw the averages once both sides are there, and the progress until then."""
        if not self._jobs or self._drawn:
            return
        self._wait.show()
        if not all(job.done for job in self.jobs):
            return
        self._drawn = True
        if not waiting.failed(self._here, self._owner, self.jobs, "averages"):
            with self._here.container():
                self._draw()

    def _draw(self) -> None:
        name = self._choice.metric.name
        frames = {side: job.result for side, job in self._jobs.items()}
        lines = [
            spread(frame, name).rename(columns={"mean": "value"}).assign(side=side) for side, frame in frames.items()
        ]
        when = {side: f" {side.lower()} surgery" if len(frames) > 1 else "" for side in frames}
        depths = [f"{mean_depth(frame):.1f}{when[side]}" for side, frame in frames.items()]
        count = frames["Before"]["text"].nunique()
        st.caption(
            f"Mean over the tokens of {count} texts; the band holds the middle 80% of the texts. "
            f"Mean prediction depth, in layers: {', '.join(depths)}. "
            "Texts longer than the model's context are read in windows, each without what comes before it."
        )
        chart = lens_line_charts.layer_lines(pd.concat(lines, ignore_index=True), name)
        chart_specs.show(
            chart, alt=f"{self._choice.metric.title} after each layer, over all texts", key="lens-averages"
        )


def evaluation_texts() -> tuple[Text, ...]:
    """Return the bundled texts and the person's own."""
    own = session.own_text()
    return (*bundled_texts(), *([own] if own else []))
