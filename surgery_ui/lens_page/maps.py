"""The lens before and after as maps of layers by tokens, with their difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from surgery_core.charts import lens_maps as lens_charts
from surgery_core.charts.style import CELL
from surgery_core.lenses.before_after import difference
from surgery_core.lenses.said import lens_said
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.states.residuals import points_of
from surgery_core.sweeps.estimate import lens_seconds
from surgery_ui.components.room import page_width
from surgery_ui.lens_page.cell import choose_cell, chosen_cell, show_cell
from surgery_ui.lens_page.controls import DIFFERENCE, SIDE_BY_SIDE, STACKED, Choice
from surgery_ui.lens_page.swap import swap_form
from surgery_ui.parts import chart_specs, keeping
from surgery_ui.parts.awaited import Awaited
from surgery_ui.parts.opening import Opening
from surgery_ui.parts.sections import Section
from surgery_ui.session import echo, session
from surgery_ui.words import present
from surgery_ui.work import lens_jobs, timing
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane

MAP, START = "map", "lens-start"
"""Keys of the maps and of the slider above long ones."""
LANES = {"before": Lane.LENS_BEFORE, "after": Lane.LENS_AFTER}
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
DEPTH = (
    "Prediction depth (arXiv 2106.09647; with a lens, arXiv 2303.08112, section 5): the layer from which on the likeliest "
    "next token stays what it is at the end, averaged over the tokens of this text. The later, the harder the text is for "
    "the model. It is about this text, not about others."
)


def maps_section(now: session.Experiment, choice: Choice, opening: Opening) -> Section:
    """Have both sides read, hold the place of their maps open, and return the section that draws them.

    Args:
        now: what the page works on.
        choice: what is read, and how it is shown.
        opening: says what both sides come to.
    """
    plans = {"before": now.identity} if now.plan.is_identity else {"before": now.identity, "after": now.plan}
    sides = {
        side: lens_jobs.lens_job(now.owner, LANES[side], now.loaded, plan, choice.text, choice.reading)
        for side, plan in plans.items()
    }
    between = None
    if choice.metric.between:
        between = lens_jobs.distances_job(now.owner, now.loaded, now.plan, choice.text, choice.reading)
    jobs: list[Job[Any]] = [*sides.values(), *([between] if between else [])]
    rows = max(len(points_of(plan, choice.reading.sublayers)) for plan in plans.values())
    expected = _expected(now, choice, jobs, rows)
    # the room in a chart's own pixels, which are larger ones on a projector
    room = round(page_width(ROOM, CELL) / chart_specs.times())

    def draw() -> None:
        read = {side: job.result for side, job in sides.items()}
        if between is not None:
            read["after"] = replace(read["after"], statistics=read["after"].statistics | between.result)
        _draw(now, read, choice, room)

    def say() -> str:
        return lens_said(sides["before"].result, sides["after"].result if "after" in sides else None, now.plan)

    opening.await_(list(sides.values()), say, DEPTH)
    height = AROUND + rows * lens_charts.ROW * (len(plans) if _is_stacked(choice, room) else 1)
    return Awaited(now.owner, jobs, "map", draw, text="Reading the layers", height=height, expected=expected)


def _expected(
    now: session.Experiment, choice: Choice, jobs: list[Job[Any]], rows: int
) -> Callable[[], float | None]:  # fmt: skip
    """Return what tells how long the maps take; a model is timed where a text is long and not read yet."""
    waits = not all(job.done for job in jobs)
    read = min(choice.n_tokens, lens_jobs.window_of(now.loaded))
    figures = len(jobs) * rows * read * now.loaded.info.vocab_size
    timed = timing.speeds_job(now.owner, now.loaded) if waits and figures > LONG else None

    def seconds() -> float | None:
        speeds = timing.known(timed)
        window = lens_jobs.window_of(now.loaded)
        tokens = min(choice.n_tokens, window)
        return None if speeds is None else len(jobs) * lens_seconds(speeds, tokens, window, rows)

    return seconds


def offer_maps(section: Section, choice: Choice) -> None:
    """Offer what was read as tables and as maps of all its tokens, to be kept."""
    read = [job.result for job in section.jobs if job.done and job.error is None]
    sides = dict(zip(TITLES, (one for one in read if isinstance(one, Trajectory)), strict=False))
    if not sides or choice.metric.between:
        return
    frame = pd.concat([one.frame().assign(side=TITLES[side]) for side, one in sides.items()], ignore_index=True)
    chart = partial(_chart, sides, choice, 0, len(sides["before"].tokens) - 1, CELL, stacked=True)
    keeping.offer_results({"Every layer and token": frame}, {choice.metric.title: keeping.chart_file(chart)})


def _draw(now: session.Experiment, sides: dict[str, Trajectory], choice: Choice, room: int) -> None:
    """Draw the maps, the chosen cell, and what can be swapped there."""
    first = sides["before"]
    if first.truncated:
        st.info(present.plain(first.note))
    for read in sides.values():
        if said := str(getattr(read, "not_finite", "")):
            st.error(present.plain(said))
    fit = _fit(sides, choice, room)
    start = _window(len(first.tokens), fit.shown)
    st.caption(f"{choice.said} **Colour:** {present.plain(_colour(choice, len(sides)))}")
    width = round(fit.width * chart_specs.times())
    # On a narrow screen the maps scroll sideways in their grid, not the page.
    stacked = _is_stacked(choice, room)
    chart_specs.show(
        partial(_chart, sides, choice, start, start + fit.shown - 1, fit.cell, stacked=stacked),
        made_of=(*sides.values(), choice.metric.name, choice.view, start, fit, stacked),
        place=st.container(width=width).grid(1, min_column_width=width, wrap=False),
        width="content",
        key=MAP,
        on_select=_choose,
        selection_mode="cell",
        alt="The likeliest next token after each layer at each token, before and after surgery",
    )
    _say_rows(sides, choice, stacked=stacked, wide=fit.width > room)
    show_cell(sides, choice.metric, range(start, start + fit.shown))
    swap_form(now, choice, sides, chosen_cell(sides, range(start, start + fit.shown)))


@dataclass(frozen=True)
class Fit:
    """How maps fit into the page: tokens that are shown, and widths of a cell and of the whole in pixels."""

    shown: int
    cell: int
    width: int


def _is_stacked(choice: Choice, room: int) -> bool:
    """Whether the maps stand one below the other: where that is chosen, or there is no room for two."""
    return choice.view == STACKED or (choice.view == SIDE_BY_SIDE and room < NARROW)


def _fit(sides: dict[str, Trajectory], choice: Choice, room: int) -> Fit:
    alone = choice.metric.between or choice.view == DIFFERENCE or len(sides) == 1
    beside = 1 if alone or _is_stacked(choice, room) else 2
    labels = max(_label_width(read) for read in sides.values())
    each = (room - GAP * (beside - 1)) // beside - labels
    shown = min(len(sides["before"].tokens), max(LEAST, each // CELL))
    # A short text gets wider cells, which have room for longer words.
    cell = max(CELL, min(WIDEST, each // shown))
    return Fit(shown, cell, beside * (labels + cell * shown) + GAP * (beside - 1))


def _chart(sides: dict[str, Trajectory], choice: Choice, start: int, stop: int, cell: int, *, stacked: bool) -> Any:
    """Return the maps of a window of tokens."""
    name, between = choice.metric.name, choice.metric.between
    if choice.view == DIFFERENCE and not between and len(sides) > 1:
        frame = difference(sides["before"], sides["after"], name)
        return lens_charts.difference_map(frame[frame["position"].between(start, stop)], name, dark=chart_specs.dark())
    frames = {TITLES[side]: read.frame() for side, read in sides.items() if not between or side == "after"}
    bounds = lens_charts.map_bounds(pd.concat(list(frames.values())), name)
    shown = {title: frame[frame["position"].between(start, stop)] for title, frame in frames.items()}
    if len(sides) == 1:
        shown = {"": shown["Before"]}
    return lens_charts.lens_maps(shown, name, dark=chart_specs.dark(), bounds=bounds, stacked=stacked, cell=cell)


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
    echo.hold(START, min(st.session_state.get(START, 0), last))
    return int(
        st.select_slider(
            f"Tokens shown, of {n_tokens:,}", range(last + 1), format_func=lambda at: f"{at:,} to {at + size - 1:,}",
            value=st.session_state[START], key=START, width=420, on_change=session.touch,
        )
    )  # fmt: skip


def _choose() -> None:
    """Keep the cell that was clicked."""
    session.touch()
    chosen = st.session_state[MAP]["selection"].get("cell") or []
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
