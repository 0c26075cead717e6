"""Charts of sweeps: pure functions from a DataFrame to an Altair chart.

Bars over positions, a heat map of two coordinates, or lines of variants. What has not been run yet keeps its empty
place, so that the axes stand still while a sweep runs; what was refused is grey and crossed out. A live chart says
nothing in its specification that depends on figures: a browser then replaces its data and need not draw it anew.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from surgery_core.charts import INK, PAPER
from surgery_core.sweep_frames import FROM_ZERO, SHARES, ValueScale, figure, log_ticks, shade_ticks, shades, value_scale
from surgery_core.sweep_plans import Form

HEIGHT = 300
ROW = 24
"""Height of a row of a heat map in pixels, where there are few."""
AROUND = 120
"""Pixels of a heat map's height that its axis and legend take."""
EMPTY = {False: "#dbe2e5", True: "#2e3a3f"}
"""Outline of what has not been run, by whether the page is dark; a fill would pass for a low figure."""
GREY = {False: "#c3ccd0", True: "#47545a"}
"""Fill of a cell that was refused."""
QUIET = {False: "#59686e", True: "#a3b1b6"}
"""Rules and small print."""
VARIANT_COLOURS = {
    False: ["#1f6f8b", "#6b5b95", "#a58a3c", "#3f7d4e", "#b4532a", "#7d8a90"],
    True: ["#5aa9c2", "#a797cf", "#c9b06a", "#7fbf8e", "#d98a5f", "#93a2a8"],
}
"""One colour a variant; a sixth one, as the themes have five."""


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


def sweep_chart(form: Form, frame: pd.DataFrame, sheet: Sheet) -> alt.LayerChart:
    """Draw a sweep in its form.

    Args:
        form: bars, a heat map or lines.
        frame: the output of `sweep_frame`.
        sheet: what the chart says besides.
    """
    return {"bars": bars, "heat": heat, "lines": lines}[form](frame, sheet)


def bars(frame: pd.DataFrame, sheet: Sheet) -> alt.LayerChart:
    """Draw one bar a point, from the starting plan's figure; a bar that is cut off says how far it would go.

    Args:
        frame: the output of `sweep_frame`.
        sheet: what the chart says besides.
    """
    scale = _scale(frame, sheet)
    cut = frame["value"] > scale.high
    shown = frame["value"].clip(scale.low, scale.high).mask(cut, scale.high + 0.75 * _room(scale))
    data = _said(frame, sheet).assign(shown=shown, origin=scale.origin, cut=cut, **_ends(frame, scale, sheet))
    base = alt.Chart(data).encode(x=_x(data, sheet))
    y = _y(scale, sheet, sheet.value_title if sheet.named else None)
    bar = (
        base.transform_filter("datum.state === 'done'")
        .mark_bar(cornerRadiusEnd=2, aria=False)
        .encode(y=y, y2="origin:Q")
    )
    above = base.transform_filter("datum.cut").mark_text(dy=-7, fontSize=11, color=INK[sheet.dark])
    layers: list[Any] = [*_places(base, sheet), bar, above.encode(y=y, text="arrow:N")]
    layers += [_cross(base, sheet), *_reach(data, sheet, y), *_rule(data, sheet, y), *_targets(base, sheet)]
    return _titled(_finished(layers, sheet.height), sheet)


def heat(frame: pd.DataFrame, sheet: Sheet) -> alt.LayerChart:
    """Draw one cell a point; colour is linear near the starting plan's figure and logarithmic far from it.

    Args:
        frame: the output of `sweep_frame`.
        sheet: what the chart says besides.
    """
    scale = _scale(frame, sheet)
    data = _said(frame, sheet).assign(shade=shades(frame["value"], scale, sheet.metric))
    y = alt.Y("y:N", title=sheet.y_title, sort=_order(data, "y")[::-1], axis=_plain_axis(labelFlush=False))
    base = alt.Chart(data).encode(x=_x(data, sheet), y=y)
    words = _shade_words(frame, scale, sheet)
    stroke: dict[str, Any] = {"stroke": PAPER[sheet.dark], "strokeWidth": 1, "cornerRadius": 1.5}
    empty = base.transform_filter("datum.state === 'waiting'").mark_rect(**waiting(sheet.dark))
    done = base.transform_filter("datum.state === 'done'").mark_rect(**stroke)
    done = done.encode(color=_shade(words, sheet))
    refused = base.transform_filter("datum.state === 'refused'").mark_rect(color=GREY[sheet.dark], **stroke)
    cross = base.transform_filter("datum.state === 'refused'").mark_text(text="×", fontSize=12, color=INK[sheet.dark])
    target = base.mark_rect(opacity=0).encode(tooltip=_tooltip(sheet))
    layers = [empty, done, refused, cross, *_outline(base, sheet), *_picking(target, sheet)]
    rows = data["y"].nunique()
    drawn = _finished(layers, height=AROUND + max(120, rows * ROW if rows <= 16 else 420))
    return drawn.properties(title=sheet.title) if sheet.title else drawn


def lines(frame: pd.DataFrame, sheet: Sheet) -> alt.LayerChart:
    """Draw one line a variant.

    Args:
        frame: the output of `sweep_frame`; `y` names the variant.
        sheet: what the chart says besides.
    """
    scale = _scale(frame, sheet, cut=False)
    variants = list(dict.fromkeys(frame["y"]))
    data = _said(frame, sheet).assign(shown=frame["value"].clip(scale.low, scale.high), **_ends(frame, scale, sheet))
    colours = [VARIANT_COLOURS[sheet.dark][at % len(VARIANT_COLOURS[sheet.dark])] for at in range(len(variants))]
    base = alt.Chart(data).encode(x=_x(data, sheet))
    y = _y(scale, sheet, sheet.value_title)
    legend = alt.Legend(orient="top", title=None, columns=3, symbolSize=70, symbolStrokeWidth=2)
    colour = alt.Color("y:N", scale=alt.Scale(domain=variants, range=colours), legend=legend)
    shape = alt.Shape("y:N", scale=alt.Scale(domain=variants), legend=legend)
    there = base.transform_filter("datum.state === 'done'").encode(y=y, order="x_at:Q", color=colour, shape=shape)
    line = there.mark_line(strokeWidth=1.8, clip=True)
    points = there.mark_point(size=46, filled=True, opacity=1)
    target = there.mark_point(size=260, opacity=0, filled=True).encode(tooltip=_tooltip(sheet))
    chosen = [] if sheet.chosen is None else [
        there.transform_filter(_is(sheet.chosen)).mark_point(size=170, filled=False, strokeWidth=2)
        .encode(color=alt.value(INK[sheet.dark]), shape=alt.value("circle"))
    ]  # fmt: skip
    layers = [line, points, *_reach(data, sheet, y), *_rule(data, sheet, y), *chosen, *_picking(target, sheet)]
    return _titled(_finished(layers, sheet.height + 40), sheet)


def _scale(frame: pd.DataFrame, sheet: Sheet, *, cut: bool = True) -> ValueScale:
    """Return how far figures reach. A live chart is linear: one first bad figure would make it logarithmic and back."""
    found = sheet.scale or value_scale(frame["value"], sheet.metric, sheet.first, cut=cut)
    return replace(found, log=False) if sheet.live else found


def _said(frame: pd.DataFrame, sheet: Sheet) -> pd.DataFrame:
    """Return the frame with figures in words; an infinite one would not survive JSON."""
    said = [figure(value, sheet.metric) for value in frame["value"]]
    known = {"done": said, "waiting": ["not run yet"] * len(frame), "refused": ["refused"] * len(frame)}
    words = [known[state][at] for at, state in enumerate(frame["state"])]
    finite = frame["value"].where(np.isfinite(frame["value"]))
    return frame.assign(value=finite, said=words, arrow=[f"↑ {one}" for one in said], y_at=frame["y_at"].map(str))


def _order(data: pd.DataFrame, axis: str) -> list[str]:
    return list(data.drop_duplicates(axis).sort_values(f"{axis}_at", key=_numbers)[axis])


def _numbers(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column, errors="coerce").fillna(0)


def _x(data: pd.DataFrame, sheet: Sheet) -> alt.X:
    order = _order(data, "x")
    title = sheet.x_title if sheet.named else None
    return alt.X("x:N", title=title, sort=order, scale=alt.Scale(domain=order), axis=_plain_axis(labelAngle=0))


def _plain_axis(**more: Any) -> alt.Axis:
    return alt.Axis(labelOverlap=True, ticks=False, domain=False, grid=False, labelLimit=90, **more)


def axis_scale(scale: ValueScale) -> alt.Scale:
    """Return the scale of an axis of figures."""
    kind = {"type": "log"} if scale.log else {"zero": False}
    return alt.Scale(domain=axis_ends(scale), nice=False, **kind)


def axis_ends(scale: ValueScale) -> list[float]:
    """Return how far an axis reaches, with room beyond the highest figure."""
    if scale.log:
        return [scale.low / 1.1, scale.high * 1.15]
    room = _room(scale)
    return [scale.low - room if scale.low < scale.origin else scale.low, scale.high + room]


def _y(scale: ValueScale, sheet: Sheet, title: str | None) -> alt.Y:
    """Return the axis of figures; on a live chart it reaches as far as its data say."""
    reach = alt.Scale(zero=False, nice=False) if sheet.live else axis_scale(scale)
    return alt.Y("shown:Q", title=title, scale=reach, axis=value_axis(scale, sheet.metric))


def _ends(frame: pd.DataFrame, scale: ValueScale, sheet: Sheet) -> dict[str, float]:
    """Return the columns that a live chart's axis and rule are made of; without figures its axis has none either."""
    if not sheet.live:
        return {}
    if not np.isfinite(frame["value"]).any():
        return dict.fromkeys(("low", "high", "first"), math.nan)
    low, high = axis_ends(scale)
    return {"low": low, "high": high, "first": _finite(sheet.first)}


def _reach(data: pd.DataFrame, sheet: Sheet, y: alt.Y) -> list[Any]:
    """Return marks that nobody sees and that hold a live chart's axis open."""
    if not sheet.live:
        return []
    ends = alt.Chart(data).mark_point(opacity=0, aria=False, tooltip=None)
    return [ends.encode(y=_of(y, "low")), ends.encode(y=_of(y, "high"))]


def _of(y: alt.Y, column: str) -> alt.Y:
    """Return the same axis for another column."""
    own = y.copy()
    own.shorthand = f"{column}:Q"
    return own


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else math.nan


def _room(scale: ValueScale) -> float:
    """Return the room beyond the highest figure, into which a bar that is cut off reaches."""
    return (scale.high - scale.low) * (0.2 if scale.high != 1 or scale.low != 0 else 0.0)


def value_axis(scale: ValueScale, metric: str) -> alt.Axis:
    """Return an axis of figures, with few and round ones."""
    plain: dict[str, Any] = {"domain": False, "ticks": False}
    if scale.log:
        return alt.Axis(values=log_ticks(scale.low / 1.1, scale.high * 1.15), format=",.4~r", **plain)
    return alt.Axis(format=".0%" if metric in SHARES else ",.4~r", tickCount=5, **plain)


def _rule(data: pd.DataFrame, sheet: Sheet, y: alt.Y) -> list[Any]:
    """Return the starting plan's figure as a line across the chart."""
    mark: dict[str, Any] = {"color": QUIET[sheet.dark], "strokeDash": [4, 3]}
    if sheet.live:
        once = f"isValid(datum.first) && datum.number === {data['number'].min()}"
        return [alt.Chart(data).transform_filter(once).mark_rule(**mark).encode(y=_of(y, "first"))]
    if math.isnan(_finite(sheet.first)):
        return []
    return [alt.Chart(pd.DataFrame({"shown": [sheet.first]})).mark_rule(**mark).encode(y=y)]


def _titled(chart: alt.LayerChart, sheet: Sheet) -> alt.LayerChart:
    """Write the chart's name above it, and what its dashed line is; beside the line bars would cover that."""
    first = _finite(sheet.first)
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


def _cross(base: alt.Chart, sheet: Sheet) -> alt.Chart:
    mark: alt.Chart = base.transform_filter("datum.state === 'refused'").mark_text(
        text="×", fontSize=16, baseline="bottom", dy=-4, color=QUIET[sheet.dark]
    )
    return mark.encode(y=alt.value("height"))


def _targets(base: alt.Chart, sheet: Sheet) -> list[Any]:
    """Return the whole height over each label as the place to point at: a short bar is hard to hit."""
    full = {"y": alt.value(0), "y2": alt.value("height")}
    chosen = [] if sheet.chosen is None else [
        base.transform_filter(_is(sheet.chosen))
        .mark_bar(filled=False, stroke=INK[sheet.dark], strokeWidth=1.5, cornerRadius=2).encode(**full)
    ]  # fmt: skip
    target = base.mark_bar(opacity=0, width=alt.RelativeBandSize(1)).encode(**full, tooltip=_tooltip(sheet))
    return [*chosen, *_picking(target, sheet)]


def waiting(dark: bool) -> dict[str, Any]:
    """Return how a cell or a bar looks that has not been run."""
    return {"filled": False, "stroke": EMPTY[dark], "strokeWidth": 1, "cornerRadius": 1.5}


def _places(base: alt.Chart, sheet: Sheet) -> list[Any]:
    """Return the outlines of bars that a live chart has yet to fill."""
    if not sheet.live:
        return []
    mark = base.transform_filter("datum.state === 'waiting'").mark_bar(aria=False, **waiting(sheet.dark))
    return [mark.encode(y=alt.value(0), y2=alt.value("height"))]


def _outline(base: alt.Chart, sheet: Sheet) -> list[Any]:
    if sheet.chosen is None:
        return []
    mark = base.transform_filter(_is(sheet.chosen)).mark_rect(filled=False, stroke=INK[sheet.dark], strokeWidth=2)
    return [mark]


def _picking(target: alt.Chart, sheet: Sheet) -> list[Any]:
    if sheet.pick is None:
        return [target]
    chosen = alt.selection_point(name=sheet.pick, fields=["number"], on="click", toggle=False, empty=False)
    return [target.add_params(chosen)]


def _is(plan: str) -> str:
    return f"datum.plan === {json.dumps(plan)}"


def _shade_words(frame: pd.DataFrame, scale: ValueScale, sheet: Sheet) -> dict[float, str]:
    """Return what the ends and the middle of the colour ramp are called; on a live chart the figures still change."""
    if sheet.live and sheet.metric not in SHARES:
        return {0.0: "as at the start" if sheet.metric not in FROM_ZERO else "0", 0.5: "", 1.0: "most so far"}
    ticks = shade_ticks(frame["value"], scale, sheet.metric)
    return {at: figure(value, sheet.metric) for at, value in ticks.items()}


def _shade(words: dict[float, str], sheet: Sheet) -> alt.Color:
    named = json.dumps({f"{at:g}": said for at, said in words.items()})
    legend = alt.Legend(
        orient="top", title=sheet.value_title, titleLimit=260, gradientLength=200, gradientThickness=9,
        values=list(words), labelExpr=f"({named})[toString(datum.value)]",
    )  # fmt: skip
    return alt.Color("shade:Q", scale=alt.Scale(domain=[0, 1]), legend=legend)


def _tooltip(sheet: Sheet) -> list[alt.Tooltip]:
    second = [alt.Tooltip("y:N", title=sheet.y_title)] if sheet.y_title else []
    return [
        alt.Tooltip("x:N", title=sheet.x_title),
        *second,
        alt.Tooltip("said:N", title=sheet.value_title),
        *([alt.Tooltip("plan:N", title="Plan")] if sheet.pick else []),
    ]


def _finished(layers: list[Any], height: int) -> alt.LayerChart:
    chart: alt.LayerChart = alt.layer(*layers).properties(height=height).configure_view(strokeWidth=0)
    return chart
