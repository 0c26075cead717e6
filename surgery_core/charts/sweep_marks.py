"""What stands on a sweep's chart besides its figures: intervals, the starting plan's line, empty places, places to click."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from surgery_core.charts.style import INK, QUIET
from surgery_core.sweeps.frames import ValueScale

HEIGHT = 300
EMPTY = {False: "#dbe2e5", True: "#2e3a3f"}
"""Outline of what has not been run, by whether the page is dark; a fill would pass for a low figure."""
GREY = {False: "#c3ccd0", True: "#47545a"}
"""Fill of a cell that was refused."""
FIGURELESS = "datum.state === 'refused' || datum.state === 'broken'"
"""What has a mark in place of a figure."""
ALIKE = "="
"""What marks a plan whose loss cannot be told from the starting plan's."""
FAINT: Any = alt.condition("datum.left", alt.value(0.45), alt.value(1))
"""What was left early, with the figures of some texts, is fainter than what was measured to the end."""


@dataclass(frozen=True)
class Sheet:
    """What a sweep's chart says besides its figures.

    Attributes:
        metric: key of the figure that is drawn.
        value_title, x_title, y_title: of axes and legends.
        first: the figure of the plan that the sweep starts from.
        scale: how far the axis reaches; made of the figures themselves where it is None.
        chosen: notation of the plan whose place is outlined.
        dark: whether it is drawn on a dark page.
        pick: name of the selection that a click sets, or None.
        height: of bars and lines, in pixels.
        title: above the chart.
        named: whether the axes of bars have titles.
        live: whether the chart fills while it is looked at; `first` is then in its data, not in its title.
        log: whether the axis of bars and lines is logarithmic, by default where a linear one would squeeze most figures;
            colours are so unless it is False.
        intervals: whether figures have intervals, which tooltips tell.
    """

    metric: str
    value_title: str
    x_title: str
    y_title: str = ""
    first: float | None = None
    scale: ValueScale | None = None
    chosen: str | None = None
    dark: bool = False
    pick: str | None = "point"
    height: int = HEIGHT
    title: str = ""
    named: bool = True
    live: bool = False
    log: bool | None = None
    intervals: bool = True


def reach(data: pd.DataFrame, sheet: Sheet, y: alt.Y) -> list[Any]:
    """Return marks that nobody sees and that hold a live chart's axis open."""
    if not sheet.live:
        return []
    ends = alt.Chart(data).mark_point(opacity=0, aria=False, tooltip=None)
    return [ends.encode(y=of_column(y, "low")), ends.encode(y=of_column(y, "high"))]


def of_column(y: alt.Y, column: str) -> alt.Y:
    """Return the same axis for another column."""
    own = y.copy()
    own.shorthand = f"{column}:Q"
    return own


def finite(value: float | None) -> float:
    """Return a figure, NaN where there is none or an infinite one."""
    return value if value is not None and math.isfinite(value) else math.nan


def rule(data: pd.DataFrame, sheet: Sheet, y: alt.Y) -> list[Any]:
    """Return the starting plan's figure as a line across the chart."""
    mark: dict[str, Any] = {"color": QUIET[sheet.dark], "strokeDash": [4, 3], "aria": False}
    if sheet.live:
        once = f"isValid(datum.first) && datum.number === {data['number'].min()}"
        return [alt.Chart(data).transform_filter(once).mark_rule(**mark).encode(y=of_column(y, "first"))]
    if math.isnan(finite(sheet.first)):
        return []
    return [alt.Chart(pd.DataFrame({"shown": [sheet.first]})).mark_rule(**mark).encode(y=y)]


def whiskers(base: alt.Chart, sheet: Sheet, y: alt.Y) -> alt.Chart:
    """Return the 95 % intervals as thin lines."""
    there = base.transform_filter("datum.state === 'done' && isValid(datum.whisker_low)")
    mark: alt.Chart = there.mark_rule(strokeWidth=1.4, color=INK[sheet.dark], opacity=0.75, clip=True, aria=False)
    return mark.encode(y=of_column(y, "whisker_low"), y2="whisker_high:Q")


def equal_signs(base: alt.Chart, sheet: Sheet, y: alt.Y) -> alt.Chart:
    """Return the marks above bars whose plans cannot be told from the starting plan."""
    mark: alt.Chart = base.transform_filter("datum.alike").mark_text(
        text=ALIKE, fontSize=13, fontWeight=600, baseline="bottom", dy=-1, color=QUIET[sheet.dark]
    )
    return mark.encode(y=of_column(y, "whisker_high"))


def crosses(base: alt.Chart, sheet: Sheet) -> alt.Chart:
    """Return the marks in place of bars that have no figure."""
    mark: alt.Chart = base.transform_filter(FIGURELESS).mark_text(
        fontSize=12, baseline="bottom", dy=-4, color=QUIET[sheet.dark]
    )
    return mark.encode(y=alt.value("height"), text="mark:N")


def targets(base: alt.Chart, sheet: Sheet) -> list[Any]:
    """Return the whole height over each label as the place to point at: a short bar is hard to hit."""
    full = {"y": alt.value(0), "y2": alt.value("height")}
    chosen = [] if sheet.chosen is None else [
        base.transform_filter(is_plan(sheet.chosen))
        .mark_bar(filled=False, stroke=INK[sheet.dark], strokeWidth=1.5, cornerRadius=2, aria=False).encode(**full)
    ]  # fmt: skip
    target = base.mark_bar(opacity=0, width=alt.RelativeBandSize(1)).encode(**full, tooltip=tooltip(sheet))
    return [*chosen, *picking(target, sheet)]


def waiting(dark: bool) -> dict[str, Any]:
    """Return how a cell or a bar looks that has not been run."""
    return {"filled": False, "stroke": EMPTY[dark], "strokeWidth": 1, "cornerRadius": 1.5}


def places(base: alt.Chart, sheet: Sheet) -> list[Any]:
    """Return the outlines of bars that a live chart has yet to fill."""
    if not sheet.live:
        return []
    mark = base.transform_filter("datum.state === 'waiting'").mark_bar(aria=False, **waiting(sheet.dark))
    return [mark.encode(y=alt.value(0), y2=alt.value("height"))]


def outline(base: alt.Chart, sheet: Sheet) -> list[Any]:
    """Return the outline of the cell whose plan is in the strip."""
    if sheet.chosen is None:
        return []
    mark = base.transform_filter(is_plan(sheet.chosen)).mark_rect(
        filled=False, stroke=INK[sheet.dark], strokeWidth=2, aria=False
    )  # fmt: skip
    return [mark]


def picking(target: alt.Chart, sheet: Sheet) -> list[Any]:
    """Return the places to click, which set the sheet's selection."""
    if sheet.pick is None:
        return [target]
    chosen = alt.selection_point(name=sheet.pick, fields=["number"], on="click", toggle=False, empty=False)
    return [target.add_params(chosen)]


def is_plan(plan: str) -> str:
    """Return Vega's test for a plan, by its notation."""
    return f"datum.plan === {json.dumps(plan)}"


def tooltip(sheet: Sheet) -> list[alt.Tooltip]:
    """Return what a place says when it is pointed at."""
    second = [alt.Tooltip("y:N", title=sheet.y_title)] if sheet.y_title else []
    return [
        alt.Tooltip("x:N", title=sheet.x_title),
        *second,
        alt.Tooltip("said:N", title=sheet.value_title),
        *([alt.Tooltip("between:N", title="95 % interval")] if sheet.intervals else []),
        *([alt.Tooltip("plan:N", title="Plan")] if sheet.pick else []),
    ]
