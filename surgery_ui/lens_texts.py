"""A statistic layer by layer, averaged over the evaluation texts, with the spread between them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from surgery_core import lens_line_charts
from surgery_core.errors import Stopped
from surgery_core.lens_averages import spread
from surgery_core.text import Text, bundled_texts
from surgery_ui import lens_jobs, present, session
from surgery_ui.jobs import Job
from surgery_ui.lens_controls import Choice


class LensTexts:
    """The averages; they are read once the section is open."""

    def __init__(self, now: session.Experiment, choice: Choice) -> None:
        section = st.expander(
            "Averages over the texts", icon=":material/stacked_line_chart:", key="lens-texts", on_change="rerun"
        )
        self._choice, self._place = choice, section
        self._jobs: dict[str, Job[pd.DataFrame]] = {}
        self._drawn = False
        if not section.open:
            return
        with section:
            if choice.metric.between or choice.metric.name == "picked":
                st.caption("Choose one of the statistics that each side has by itself, such as KL to the output.")
                return
            self._progress = st.empty()
        texts = evaluation_texts()
        plans = {"Before": now.identity} | ({} if now.plan.is_identity else {"After": now.plan})
        for side, plan in plans.items():
            lane = f"averages-{side.lower()}"
            self._jobs[side] = lens_jobs.averages_job(now.owner, lane, now.loaded, plan, texts, choice.reading)

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs to look at."""
        return list(self._jobs.values())

    def show(self) -> None:
        """Draw the averages once both sides are there, and the progress until then."""
        if not self._jobs or self._drawn:
            return
        if not all(job.done for job in self.jobs):
            done, total = (sum(job.progress[at] for job in self.jobs) for at in (0, 1))
            self._progress.progress(done / total if total else 0.0, text="Reading the texts")
            return
        self._drawn = True
        self._progress.empty()
        errors = [job.error for job in self.jobs if job.error is not None]
        with self._place:
            if not errors:
                self._draw()
            elif not isinstance(errors[0], Stopped):
                st.error(present.plain(str(errors[0])))

    def _draw(self) -> None:
        name = self._choice.metric.name
        frames = {side: job.result for side, job in self._jobs.items()}
        lines = [
            spread(frame, name).rename(columns={"mean": "value"}).assign(side=side) for side, frame in frames.items()
        ]
        when = {side: f" {side.lower()} surgery" if len(frames) > 1 else "" for side in frames}
        depths = [f"{_depth(frame):.1f}{when[side]}" for side, frame in frames.items()]
        count = frames["Before"]["text"].nunique()
        st.caption(
            f"Mean over the tokens of {count} texts; the band holds the middle 80% of the texts. "
            f"Mean prediction depth, in layers: {', '.join(depths)}. "
            "Texts longer than the model's context are read in windows, each without what comes before it."
        )
        chart = lens_line_charts.layer_lines(pd.concat(lines, ignore_index=True), name)
        st.altair_chart(chart, alt=f"{self._choice.metric.title} after each layer, over all texts", key="lens-averages")


def evaluation_texts() -> tuple[Text, ...]:
    """Return the bundled texts and the person's own."""
    own = session.own_text()
    return (*bundled_texts(), *([own] if own else []))


def _depth(frame: pd.DataFrame) -> float:
    texts = frame.drop_duplicates("text")
    return float((texts["depth"] * texts["tokens"]).sum() / texts["tokens"].sum())
