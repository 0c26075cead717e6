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
from surgery_ui.lens_controls import DIFFERENCE, STACKED, Choice

ROOM = 790
"""Width in pixels that the maps may take: that of the page on a small laptop. A slider moves on through longer texts."""
GAP = 22
"""Pixels between two maps."""
LEAST = 4
"""Tokens that are always shown."""
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
        metric, view = self._choice.metric, self._choice.view
        stacked = view == STACKED
        alone = metric.between or view == DIFFERENCE or len(sides) == 1
        beside = 1 if alone or stacked else 2
        labels = max(_label_width(read) for read in sides.values())
        shown = min(len(first.tokens), max(LEAST, int((ROOM - GAP * (beside - 1)) / beside - labels) // CELL))
        start = _window(len(first.tokens), shown)
        st.caption(f"{self._choice.said} **Colour:** {present.plain(metric.meaning)}")
        chart = self._chart(sides, start, start + shown - 1)
        width = beside * (labels + CELL * shown) + GAP * (beside - 1)
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
        show_cell(sides, metric, start + shown - 1)

    def _chart(self, sides: dict[str, Trajectory], start: int, stop: int) -> Any:
        """Return the maps of a window of tokens."""
        name, between = self._choice.metric.name, self._choice.metric.between
        if self._choice.view == DIFFERENCE and not between and len(sides) > 1:
            frame = difference(sides["before"], sides["after"], name)
            return lens_charts.difference_map(frame[frame["position"].between(start, stop)], name, dark=dark())
        frames = {TITLES[side]: read.frame() for side, read in sides.items() if not between or side == "after"}
        bounds = lens_charts.map_bounds(pd.concat(list(frames.values())), name)
        shown = {title: frame[frame["position"].between(start, stop)] for title, frame in frames.items()}
        if len(sides) == 1:
            shown = {"": shown["Before"]}
        stacked = self._choice.view == STACKED
        return lens_charts.lens_maps(shown, name, dark=dark(), bounds=bounds, stacked=stacked)


def dark() -> bool:
    """Return whether the page is dark."""
    return bool(st.context.theme.type == "dark")


def _label_width(read: Trajectory) -> int:
    """Return the room in pixels for the names of layers beside a map."""
    return 16 + round(6.3 * max(len(label) for label in read.labels))


def _window(n_tokens: int, size: int) -> int:
    """Return the first position to show; a long text gets a slider."""
    if n_tokens <= size:
        return 0
    last = n_tokens - size
    st.session_state["lens-start"] = min(st.session_state.get("lens-start", 0), last)
    return int(
        st.select_slider(
            f"Tokens shown, of {n_tokens:,}", range(last + 1), format_func=lambda at: f"{at + 1:,} to {at + size:,}",
            key="lens-start", width=420, on_change=session.touch,
        )
    )  # fmt: skip


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
    elif choice.view == DIFFERENCE or choice.metric.between:
        st.caption(
            "Each layer is compared with the same layer before surgery, wherever it runs now; every run of a repeated "
            "layer with that one, and a layer of another model with none."
        )
    elif choice.view != STACKED:
        st.caption("Where the screen is too narrow, swipe the maps sideways or choose “Stacked”.")
