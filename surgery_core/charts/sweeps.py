"""Charts of sweeps: pure functions from a DataFrame to an Altair chart.

Bars over positions, a heat map of two coordinates or several side by side, or lines of variants. What has not been run
yet keeps its empty place, so that the axes stand still while a sweep runs; what was refused is crossed out, and what is
no number says so. Nothing is cut off: where one figure is far from the rest, the axis is logarithmic. A live chart says
nothing in its specification that depends on figures: a browser then replaces its data and need not draw it anew.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from surgery_core.charts.style import INK, PAPER, QUIET
from surgery_core.charts.sweep_marks import (
    ALIKE,
    FAINT,
    FIGURELESS,
    GREY,
    Sheet,
    crosses,
    equal_signs,
    finite,
    is_plan,
    outline,
    picking,
    places,
    reach,
    rule,
    targets,
    tooltip,
    waiting,
    whiskers,
)
from surgery_core.sweeps.axes import axis_ends, axis_scale, kind_of, value_axis
from surgery_core.sweeps.frames import (
    FROM_ZERO,
    LOGARITHMIC,
    SHARES,
    ValueScale,
    between,
    figure,
    map_frame,
    map_names,
    shade_ticks,
    shades,
    value_scale,
)
from surgery_core.sweeps.kinds import Form

ROW = 24
"""Height of a row of a heat map in pixels, where there are few."""
AROUND = 120
"""Pixels of a heat map's height that its axis and legend take."""
VARIANT_COLOURS = {
    False: ["#1f6f8b", "#a58a3c", "#6b5b95", "#3f7d4e", "#b4532a", "#7d8a90"],
    True: ["#5aa9c2", "#c9b06a", "#a797cf", "#7fbf8e", "#d98a5f", "#93a2a8"],
}
"""One colour a variant; a sixth one, as the themes have five."""


MAPS = {"skip": "Left out", "repeat": "Run again", "damped": "Run again, in smaller steps"}
"""What maps side by side are called."""
MAP = 280
"""Width of one of them in pixels, in a file."""
SweepChart = alt.LayerChart | alt.HConcatChart
"""What a sweep is drawn as: one chart, or maps side by side."""
LIVE_KNEE = 0.1
"""Where a live axis goes over from linear to logarithmic, in nats: it must not depend on figures."""
MARKS = {"refused": "×", "broken": "NaN"}
"""What stands in place of a figure."""


def sweep_chart(form: Form, frame: pd.DataFrame, sheet: Sheet) -> SweepChart:
    """Draw a sweep in its form.

    Args:
        form: bars, a heat map, maps side by side, or lines.
        frame: the output of `sweep_frame`.
        sheet: what the chart says besides.
    """
    if form == "maps":
        return maps(frame, sheet)
    return {"bars": bars, "heat": heat, "lines": lines}[form](frame, sheet)


def maps(frame: pd.DataFrame, sheet: Sheet) -> alt.HConcatChart:
    """Draw the maps of a sweep side by side, with the same colours.

    Args:
        frame: the output of `sweep_frame`.
        sheet: what the charts say besides.
    """
    scale = _scale(frame[["value"]], sheet)
    drawn = [
        heat(map_frame(frame, name), replace(sheet, scale=scale, title=MAPS.get(name, name), pick=None)).properties(
            width=MAP
        )
        for name in map_names(frame["y"])
    ]
    for one in drawn:
        # what stands side by side has its settings once
        one.config = alt.Undefined
    together: alt.HConcatChart = alt.hconcat(*drawn).properties(title=sheet.title).configure_view(strokeWidth=0)
    return together


def bars(frame: pd.DataFrame, sheet: Sheet) -> alt.LayerChart:
    """Draw one bar a point, from the starting plan's figure; an infinite one goes to the end of the axis and says so.

    Args:
        frame: the output of `sweep_frame`.
        sheet: what the chart says besides.
    """
    scale, sheet = _scale(frame, sheet), replace(sheet, intervals="low" in frame)
    top = axis_ends(scale)[1] if len(frame) else scale.high
    shown = frame["value"].replace({math.inf: top, -math.inf: scale.low})
    data = _said(frame, sheet).assign(shown=shown, origin=scale.origin, **_ends(frame, scale, sheet))
    base = alt.Chart(data).encode(x=_x(data, sheet))
    y = _y(scale, sheet, _named(scale, sheet) if sheet.named else None)
    bar = (
        base.transform_filter("datum.state === 'done'")
        .mark_bar(cornerRadiusEnd=2, aria=False)
        .encode(y=y, y2="origin:Q", opacity=FAINT)
    )
    endless = base.transform_filter("datum.endless").mark_text(
        text="∞", fontSize=13, fontWeight=600, baseline="top", dy=2, color=PAPER[sheet.dark]
    )
    layers: list[Any] = [*places(base, sheet), bar, whiskers(base, sheet, y), endless.encode(y=alt.value(0))]
    layers += [equal_signs(base, sheet, y)]
    layers += [crosses(base, sheet), *reach(data, sheet, y), *rule(data, sheet, y), *targets(base, sheet)]
    return _titled(_finished(layers, sheet.height), sheet)


def heat(frame: pd.DataFrame, sheet: Sheet) -> alt.LayerChart:
    """Draw one cell a point; colour is linear near the starting plan's figure and logarithmic far from it.

    Args:
        frame: the output of `sweep_frame`.
        sheet: what the chart says besides.
    """
    scale = _scale(frame[["value"]], sheet)
    data = _said(frame, sheet).assign(shade=shades(frame["value"], scale, sheet.metric, even=sheet.log is False))
    y = alt.Y("y:N", title=sheet.y_title, sort=_order(data, "y")[::-1], axis=_plain_axis(labelFlush=False))
    base = alt.Chart(data).encode(x=_x(data, sheet), y=y)
    words = _shade_words(scale, sheet)
    stroke: dict[str, Any] = {"stroke": PAPER[sheet.dark], "strokeWidth": 1, "cornerRadius": 1.5}
    empty = base.transform_filter("datum.state === 'waiting'").mark_rect(**waiting(sheet.dark))
    done = base.transform_filter("datum.state === 'done'").mark_rect(**stroke)
    done = done.encode(color=_shade(words, sheet), opacity=FAINT)
    refused = base.transform_filter(FIGURELESS).mark_rect(color=GREY[sheet.dark], **stroke)
    cross = base.transform_filter(FIGURELESS).mark_text(fontSize=11, color=INK[sheet.dark]).encode(text="mark:N")
    target = base.mark_rect(opacity=0).encode(tooltip=tooltip(sheet))
    same = base.transform_filter("datum.alike").mark_text(text=ALIKE, fontSize=11, color=INK[sheet.dark])
    layers = [empty, done, same, refused, cross, *outline(base, sheet), *picking(target, sheet)]
    rows = data["y"].nunique()
    drawn = _finished(layers, height=AROUND + max(120, rows * ROW if rows <= 16 else 420))
    return drawn.properties(title=sheet.title) if sheet.title else drawn


def lines(frame: pd.DataFrame, sheet: Sheet) -> alt.LayerChart:
    """Draw one line a variant.

    Args:
        frame: the output of `sweep_frame`; `y` names the variant.
        sheet: what the chart says besides.
    """
    scale = _scale(frame, sheet)
    variants = list(dict.fromkeys(frame["y"]))
    finite = frame["value"].where(np.isfinite(frame["value"]))
    data = _said(frame, sheet).assign(shown=finite, **_ends(frame, scale, sheet))
    colours = [VARIANT_COLOURS[sheet.dark][at % len(VARIANT_COLOURS[sheet.dark])] for at in range(len(variants))]
    base = alt.Chart(data).encode(x=_x(data, sheet))
    y = _y(scale, sheet, _named(scale, sheet))
    legend = alt.Legend(orient="top", title=None, columns=3, symbolSize=70, symbolStrokeWidth=2)
    colour = alt.Color("y:N", scale=alt.Scale(domain=variants, range=colours), legend=legend)
    shape = alt.Shape("y:N", scale=alt.Scale(domain=variants), legend=legend)
    there = base.transform_filter("datum.state === 'done' && isValid(datum.shown)").encode(
        y=y, order="x_at:Q", color=colour, shape=shape
    )
    line = there.mark_line(strokeWidth=1.8, clip=True)
    points = there.mark_point(size=46, filled=True, opacity=1)
    target = there.mark_point(size=260, opacity=0, filled=True).encode(tooltip=tooltip(sheet))
    chosen = [] if sheet.chosen is None else [
        there.transform_filter(is_plan(sheet.chosen)).mark_point(size=170, filled=False, strokeWidth=2, aria=False)
        .encode(color=alt.value(INK[sheet.dark]), shape=alt.value("circle"))
    ]  # fmt: skip
    layers = [
        line,
        whiskers(base, sheet, y),
        points,
        *reach(data, sheet, y),
        *rule(data, sheet, y),
        *chosen,
        *picking(target, sheet),
    ]
    return _titled(_finished(layers, sheet.height + 40), sheet)


def _scale(frame: pd.DataFrame, sheet: Sheet) -> ValueScale:
    """Return how far figures reach. What kind of axis a live chart has must not change with its figures."""
    ends = [frame[name] for name in ("value", "low", "high") if name in frame]
    found = sheet.scale or value_scale(pd.concat(ends), sheet.metric, sheet.first, log=sheet.log)
    if not sheet.live or sheet.metric in SHARES:
        return found
    if sheet.log is False or (sheet.log is None and sheet.metric not in LOGARITHMIC):
        return replace(found, spread="linear")
    return replace(found, spread="log" if sheet.metric in LOGARITHMIC else "symlog", knee=LIVE_KNEE)


def _named(scale: ValueScale, sheet: Sheet) -> str:
    """Return what the axis of figures is called; that it is not linear must be said."""
    return sheet.value_title if scale.spread == "linear" else f"{sheet.value_title} (log scale)"


def _said(frame: pd.DataFrame, sheet: Sheet) -> pd.DataFrame:
    """Return the frame with figures in words; an infinite one would not survive JSON."""
    words = [
        state_words(state, value, sheet.metric) for state, value in zip(frame["state"], frame["value"], strict=True)
    ]
    if "left" not in frame:
        frame = frame.assign(left=False)
    words = [f"{one}, left early" if left else one for one, left in zip(words, frame["left"], strict=True)]
    finite = frame["value"].where(np.isfinite(frame["value"]))
    if "low" not in frame:
        frame = frame.assign(low=math.nan, high=math.nan, alike=False)
    known = np.isfinite(frame["low"]) & np.isfinite(frame["high"])
    ends = {name: frame[name].where(known) for name in ("low", "high")}
    words_between = [between(low, high, sheet.metric) for low, high in zip(ends["low"], ends["high"], strict=True)]
    marks = [MARKS.get(state, "") for state in frame["state"]]
    endless = np.isposinf(frame["value"].astype(float))
    frame = frame.drop(columns=["low", "high"])
    frame = frame.assign(whisker_low=ends["low"], whisker_high=ends["high"], between=words_between)
    return frame.assign(value=finite, said=words, mark=marks, endless=endless, y_at=frame["y_at"].map(str))


def state_words(state: str, value: float, metric: str) -> str:
    """Return a figure in words, or what stands in its place."""
    known = {"waiting": "not run yet", "refused": "refused", "broken": "not a number"}
    return known[state] if state in known else figure(value, metric)


def _order(data: pd.DataFrame, axis: str) -> list[str]:
    return list(data.drop_duplicates(axis).sort_values(f"{axis}_at", key=_numbers)[axis])


def _numbers(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column, errors="coerce").fillna(0)


def _x(data: pd.DataFrame, sheet: Sheet) -> alt.X:
    order = _order(data, "x")
    title = sheet.x_title if sheet.named else None
    return alt.X(
        "x:N", title=title, sort=order, scale=alt.Scale(domain=order), axis=_plain_axis(labelAngle=0, labelFlush=False)
    )


def _plain_axis(**more: Any) -> alt.Axis:
    return alt.Axis(
        labelOverlap=True, labelSeparation=5, ticks=False, domain=False, grid=False, labelLimit=90, **more
    )  # fmt: skip


def _y(scale: ValueScale, sheet: Sheet, title: str | None) -> alt.Y:
    """Return the axis of figures; on a live chart it reaches as far as its data say."""
    reach = alt.Scale(nice=False, **kind_of(scale)) if sheet.live else axis_scale(scale)
    return alt.Y("shown:Q", title=title, scale=reach, axis=value_axis(scale, sheet.metric, live=sheet.live))


def _ends(frame: pd.DataFrame, scale: ValueScale, sheet: Sheet) -> dict[str, float]:
    """Return the columns that a live chart's axis and rule are made of; without figures its axis has none either."""
    if not sheet.live:
        return {}
    if not np.isfinite(frame["value"]).any():
        return dict.fromkeys(("low", "high", "first"), math.nan)
    low, high = axis_ends(scale)
    return {"low": low, "high": high, "first": finite(sheet.first)}


def _titled(chart: alt.LayerChart, sheet: Sheet) -> alt.LayerChart:
    """Write the chart's name above it, and what its dashed line is; beside the line bars would cover that."""
    first = finite(sheet.first)
    known = "" if sheet.live or math.isnan(first) else f"{figure(first, sheet.metric)}, "
    small = f"- - -  {known}the plan that the sweep starts from" if sheet.live or known else ""
    quiet: dict[str, Any] = {"anchor": "start", "offset": 8}
    colour = QUIET[sheet.dark]
    if sheet.title:
        return chart.properties(
            title=alt.Title(sheet.title, subtitle=small, subtitleFontSize=11, subtitleColor=colour, **quiet)
        )
    if small:
        return chart.properties(title=alt.Title(small, fontSize=11, fontWeight=400, color=colour, **quiet))
    return chart


def _shade_words(scale: ValueScale, sheet: Sheet) -> dict[float, str]:
    """Return what the ends and the middle of the colour ramp are called; on a live chart the figures still change."""
    if sheet.live and sheet.metric not in SHARES:
        return {0.0: "as at the start" if sheet.metric not in FROM_ZERO else "0", 0.5: "", 1.0: "most so far"}
    ticks = shade_ticks(scale, sheet.metric, even=sheet.log is False)
    return {at: figure(value, sheet.metric) for at, value in ticks.items()}


def _shade(words: dict[float, str], sheet: Sheet) -> alt.Color:
    named = json.dumps({f"{at:g}": said for at, said in words.items()})
    legend = alt.Legend(
        orient="top", title=sheet.value_title, titleLimit=260, gradientLength=200, gradientThickness=9,
        values=list(words), labelExpr=f"({named})[toString(datum.value)]",
    )  # fmt: skip
    return alt.Color("shade:Q", scale=alt.Scale(domain=[0, 1]), legend=legend)


def _finished(layers: list[Any], height: int) -> alt.LayerChart:
    chart: alt.LayerChart = alt.layer(*layers).properties(height=height).configure_view(strokeWidth=0)
    return chart
