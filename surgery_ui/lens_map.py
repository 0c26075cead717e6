"""The lens before and after as maps of layers by tokens, with their difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from surgery_core import lens_charts
from surgery_core.charts import CELL
from surgery_core.errors import Stopped
from surgery_core.lens_pairs import difference
from surgery_core.trajectory import Trajectory
from surgery_ui import lens_jobs, present, session
from surgery_ui.jobs import Job
from surgery_ui.lens_cell import show_cell
from surgery_ui.lens_controls import Choice

SHOWN = {1: 16, 2: 8}
"""Tokens that are shown at once, by the number of maps; a slider moves on through longer texts."""
LABELS = 80
"""Room in pixels for the names of the layers beside a map."""
TITLES = {"before": "Before", "after": "After"}


class LensMap:
    """The maps and the chosen cell, drawn when both sides are read."""

    def __init__(self, now: session.Experiment, choice: Choice) -> None:
        self._choice = choice
        plans = {"before": now.identity} if now.plan.is_identity else {"before": now.identity, "after": now.plan}
        text, reading = choice.text, choice.reading
        self._sides = {
            side: lens_jobs.lens_job(now.owner, f"lens-{side}", now.loaded, plan, text, reading)
            for side, plan in plans.items()
        }
        self._distances: Job[Any] | None = None
        if choice.metric.between:
            self._distances = lens_jobs.distances_job(now.owner, now.loaded, now.plan, text, reading)
        self._place = st.container()
        self._drawn = False

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs to look at."""
        return [*self._sides.values(), *([self._distances] if self._distances else [])]

    def show(self) -> None:
        """Draw everything once all is there."""
        if self._drawn or not all(job.done for job in self.jobs):
            return
        self._drawn = True
        errors = [job.error for job in self.jobs if job.error is not None]
        with self._place:
            if not errors:
                self._draw()
            elif not isinstance(errors[0], Stopped):
                st.error(present.plain(str(errors[0])))

    def _draw(self) -> None:
        sides = {side: job.result for side, job in self._sides.items()}
        if self._distances is not None:
            after = sides["after"]
            sides["after"] = replace(after, statistics=after.statistics | self._distances.result)
        first = sides["before"]
        if first.truncated:
            st.info(present.plain(first.note))
        name, between = self._choice.metric.name, self._choice.metric.between
        count = 1 if between or self._choice.difference else len(sides)
        start = _window(len(first.tokens), SHOWN[count])
        stop = start + SHOWN[count] - 1
        if self._choice.difference:
            frame = difference(first, sides["after"], name)
            chart: Any = lens_charts.difference_map(frame[frame["position"].between(start, stop)], name, dark=dark())
        else:
            frames = {TITLES[side]: read.frame() for side, read in sides.items() if not between or side == "after"}
            bounds = lens_charts.colour_bounds(pd.concat([frame[name] for frame in frames.values()]), name)
            shown = {title: frame[frame["position"].between(start, stop)] for title, frame in frames.items()}
            if len(sides) == 1:
                shown = {"": shown["Before"]}
            chart = lens_charts.lens_maps(shown, name, dark=dark(), bounds=bounds)
        width = count * (LABELS + CELL * min(SHOWN[count], len(first.tokens))) + 30 * (count - 1)
        # On a narrow screen the maps scroll sideways in their grid, not the page.
        st.container(width=width).grid(1, min_column_width=width, wrap=False).altair_chart(
            chart,
            width="content",
            key="map",
            on_select=_choose,
            selection_mode="cell",
            alt="The likeliest next token after each layer at each token, before and after surgery",
        )
        _say_rows(sides, self._choice)
        show_cell(sides, self._choice.metric, min(stop, len(first.tokens) - 1))


def dark() -> bool:
    """Return whether the page is dark."""
    return bool(st.context.theme.type == "dark")


def _window(n_tokens: int, size: int) -> int:
    """Return the first position to show; a long text gets a slider."""
    if n_tokens <= size:
        return 0
    last = n_tokens - size
    st.session_state["lens-start"] = min(st.session_state.get("lens-start", 0), last)
    label = f"First of {size} tokens shown, of {n_tokens}"
    return int(st.slider(label, 0, last, key="lens-start", width=420, on_change=session.touch))


def _choose() -> None:
    """Keep the cell that was clicked."""
    session.touch()
    chosen = st.session_state["map"]["selection"].get("cell") or []
    if chosen:
        side = "after" if chosen[0].get("side") == "After" else "before"
        st.session_state["cell"] = (side, int(chosen[0]["row"]), int(chosen[0]["position"]))


def _say_rows(sides: dict[str, Trajectory], choice: Choice) -> None:
    if "after" not in sides:
        st.caption("Change the plan in the sidebar, and a second map shows the model after surgery.")
    elif choice.difference or choice.metric.between:
        log = ", as the logarithm of the ratio" if choice.difference and choice.metric.scale == "log" else ""
        st.caption(
            f"Each layer is compared with the same layer before surgery, wherever it runs now{log}; every run of a "
            "repeated layer with that one, and a layer of another model with none."
        )
