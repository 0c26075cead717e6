"""The lens before and after as maps of layers by tokens, with their difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from surgery_core.charts import lens_maps as lens_charts
from surgery_core.charts.style import CELL
from surgery_core.lenses.before_after import difference
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.states.residuals import points_of
from surgery_core.sweeps.estimate import lens_seconds
from surgery_ui.components.room import page_width
from surgery_ui.lens_page.cell import choose_cell, show_cell
from surgery_ui.lens_page.controls import DIFFERENCE, SIDE_BY_SIDE, STACKED, Choice
from surgery_ui.parts import chart_specs, waiting
from surgery_ui.parts.waiting import Waiting
from surgery_ui.session import session
from surgery_ui.words import present
from surgery_ui.work import lens_jobs, timing
from surgery_ui.work.pool import Job

ROOM = 790
"""Width in pixels that the maps may take before the browser has told more: that of the page on a small laptop."""
WIDEST = 100
"""Width of a cell of a short text, in pixels, where there is room."""
GAP = 22
"""Pixels between two maps."""
LEAST = 4
"""Tokens that are always shown."""
NARROW = 520
"""Room in pixels below which two maps of so many tokens do not fit side by side."""
AROUND = 470
"""Height in pixels of what stands above and below the rows of a map, the chosen cell included."""
TITLES = {"before": "Before", "after": "After"}


class LensMap:
    """The maps and the chosen cell, drawn when both sides are read."""

    def __init__(self, now: session.Experiment, choice: Choice) -> None:
        self._choice, self._now = choice, now
        plans = {"before": now.identity} if now.plan.is_identity else {"before": now.identity, "after": now.plan}
        text, reading = choice.text, choice.reading
        self._sides = {
            side: lens_jobs.lens_job(now.owner, f"lens-{side}", now.loaded, plan, text, reading)
            for side, plan in plans.items()
        }
        self._distances: Job[Any] | None = None
        if choice.metric.between:
            self._distances = lens_jobs.distances_job(now.owner, now.loaded, now.plan, text, reading)
        waits = not all(job.done for job in self.jobs)
        self._rows = max(len(points_of(plan, reading.sublayers)) for plan in plans.values())
        tokens = min(choice.n_tokens, lens_jobs.window_of(now.loaded))
        figures = len(plans) * self._rows * tokens * now.loaded.info.vocab_size
        self._speeds = timing.speeds_job(now.owner, now.loaded) if waits and figures > LONG else None
        self._room = page_width(ROOM, CELL)
        self._wait = Waiting(now.owner, self.jobs, "Reading the layers", "map", self._expected)
        self._stacked = choice.view == STACKED or (choice.view == SIDE_BY_SIDE and self._room < NARROW)
        rows = self._rows * lens_charts.ROW * (len(plans) if self._stacked else 1)
        self._place: Any = st.skeleton(height=AROUND + rows) if waits else st.empty()
        self._drawn, self._cell = False, CELL

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs to look at."""
        return [*self._sides.values(), *([self._distances] if self._distances else [])]

    def show(self) -> None:
        """Draw everything once all is there."""
        self._wait.show()
        if self._drawn or not all(job.done for job in self.jobs):
            return
        self._drawn = True
        if not waiting.failed(self._place, self._now.owner, self.jobs, "map"):
            with self._place.container():
                self._draw()

    def _expected(self) -> float | None:
        speeds = timing.known(self._speeds)
        if speeds is None:
            return None
        window = lens_jobs.window_of(self._now.loaded)
        return len(self.jobs) * lens_seconds(speeds, min(self._choice.n_tokens, window), window, self._rows)

    def _draw(self) -> None:
        sides = {side: job.result for side, job in self._sides.items()}
        if self._distances is not None:
            after = sides["after"]
            sides["after"] = replace(after, statistics=after.statistics | self._distances.result)
        first = sides["before"]
        if first.truncated:
            st.info(present.plain(first.note))
        for read in sides.values():
            if said := str(getattr(read, "not_finite", "")):
                st.error(present.plain(said))
        metric, view = self._choice.metric, self._choice.view
        alone = metric.between or view == DIFFERENCE or len(sides) == 1
        beside = 1 if alone or self._stacked else 2
        labels = max(_label_width(read) for read in sides.values())
        room = (self._room - GAP * (beside - 1)) // beside - labels
        shown = min(len(first.tokens), max(LEAST, room // CELL))
        # A short text gets wider cells, which have room for longer words.
        self._cell = max(CELL, min(WIDEST, room // shown))
        start = _window(len(first.tokens), shown)
        st.caption(f"{self._choice.said} **Colour:** {present.plain(_colour(self._choice, len(sides)))}")
        chart = self._chart(sides, start, start + shown - 1)
        width = beside * (labels + self._cell * shown) + GAP * (beside - 1)
        # On a narrow screen the maps scroll sideways in their grid, not the page.
        chart_specs.show(
            chart,
            place=st.container(width=width).grid(1, min_column_width=width, wrap=False),
            width="content",
            key="map",
            on_select=_choose,
            selection_mode="cell",
            alt="The likeliest next token after each layer at each token, before and after surgery",
        )
        _say_rows(sides, self._choice, stacked=self._stacked, wide=width > self._room)
        show_cell(sides, metric, range(start, start + shown))

    def _chart(self, sides: dict[str, Trajectory], start: int, stop: int) -> Any:
        """Return the maps of a window of tokens."""
        name, between = self._choice.metric.name, self._choice.metric.between
        if self._choice.view == DIFFERENCE and not between and len(sides) > 1:
            frame = difference(sides["before"], sides["after"], name)
            return lens_charts.difference_map(
                frame[frame["position"].between(start, stop)], name, dark=chart_specs.dark()
            )
        frames = {TITLES[side]: read.frame() for side, read in sides.items() if not between or side == "after"}
        bounds = lens_charts.map_bounds(pd.concat(list(frames.values())), name)
        shown = {title: frame[frame["position"].between(start, stop)] for title, frame in frames.items()}
        if len(sides) == 1:
            shown = {"": shown["Before"]}
        return lens_charts.lens_maps(
            shown, name, dark=chart_specs.dark(), bounds=bounds, stacked=self._stacked, cell=self._cell
        )


LONG = 400_000_000
"""Probabilities from which on a timing of the model is worth its time before they are read: 130 tokens through two
maps of thirty layers with 49,152 tokens, more than there are in a window of `fable`."""


def _colour(choice: Choice, sides: int) -> str:
    """Return what the colours of the maps mean."""
    metric = choice.metric
    if choice.view != DIFFERENCE or metric.between or sides < 2:
        return metric.meaning
    how = "after surgery divided by before" if metric.scale == "log" else "after surgery less before"
    return f"{metric.title}, {how}: rust where the layer reads worse than before ({metric.worse}), petrol where better."


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
            f"Tokens shown, of {n_tokens:,}", range(last + 1), format_func=lambda at: f"{at:,} to {at + size - 1:,}",
            key="lens-start", width=420, on_change=session.touch,
        )
    )  # fmt: skip


def _choose() -> None:
    """Keep the cell that was clicked."""
    session.touch()
    chosen = st.session_state["map"]["selection"].get("cell") or []
    if chosen:
        side = "after" if chosen[0].get("side") == "After" else "before"
        choose_cell(side, str(chosen[0]["layer"]), int(chosen[0]["position"]))


def _say_rows(sides: dict[str, Trajectory], choice: Choice, *, stacked: bool, wide: bool) -> None:
    """Say what the maps do not: which rows are compared, and where the second map is."""
    if "after" not in sides:
        st.caption("Change the plan in the sidebar, and a second map shows the model after surgery.")
    elif choice.view == DIFFERENCE or choice.metric.between:
        st.caption(
            "Each layer is compared with the same layer before surgery, wherever it runs now; every run of a repeated "
            "layer with that one, and a layer of another model with none."
        )
    elif stacked and choice.view == SIDE_BY_SIDE:
        st.caption("This screen has no room for two maps side by side, so they stand one below the other.")
    elif wide:
        st.caption("Swipe the maps sideways to see all of them, or choose “Stacked”.")
