"""Charts of what a lens reads: maps of layers by tokens, and their difference.

Pure functions from DataFrames to Altair charts. Colours of scales are left to the theme that draws the chart; only
text inside a coloured cell has to know whether the theme is dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import altair as alt
import numpy as np
import pandas as pd

from surgery_core.charts import CELL, INK, PAPER, TURN, labels_axis, short
from surgery_core.lens_metrics import METRICS, Metric
from surgery_core.text import visible

ROW = 24
"""Height of a cell in pixels."""
POINTED = {False: "#b4532a", True: "#f2a67c"}
"""Outline of the cells that the pointer is on, by whether the theme is dark."""


def lens_maps(
    sides: Mapping[str, pd.DataFrame],
    metric: str = "probability",
    *,
    dark: bool = False,
    pick: str | None = "cell",
    bounds: tuple[float, float] | None = None,
) -> alt.HConcatChart:
    """Draw what each layer would predict next: maps of layers (last on top) by tokens, side by side.

    Each cell has its likeliest token, coloured by a statistic on a scale that all maps share. Pointing at a cell
    outlines the same token and original layer in every map.

    Args:
        sides: by title, frames of `Trajectory.frame()`, with the statistic.
        metric: name of the statistic.
        dark: whether it is drawn on a dark page.
        pick: name of the selection that a click on a cell sets (side, row, position), or None for no clicks.
        bounds: ends of the colour scale; by default those of the values shown.
    """
    what = METRICS[metric]
    ends = bounds or colour_bounds(pd.concat([frame[metric] for frame in sides.values()]), metric)
    hover = alt.selection_point(
        name="hover", fields=["origin", "position"], on="pointerover", clear="pointerout", empty=False
    )
    chosen = alt.selection_point(name=pick or "cell", fields=["side", "row", "position"], toggle=False, empty=False)
    colour = _colour(what, ends)
    maps = [
        _map(_cells(frame, metric, ends).assign(side=side), side, colour, what, dark, (hover, chosen if pick else None))
        for side, frame in sides.items()
    ]
    chart = _beside(maps, list(sides), [hover, chosen] if pick else [hover])
    titled: alt.HConcatChart = chart.configure_title(anchor="start", fontSize=13, color=INK[dark], dy=-4)
    return titled


def difference_map(
    frame: pd.DataFrame, metric: str, *, dark: bool = False, pick: str | None = "cell"
) -> alt.HConcatChart:
    """Draw after minus before of one statistic: a map of the operated model's layers by tokens.

    Args:
        frame: of `lens_pairs.difference`.
        metric: name of the statistic.
        dark: whether it is drawn on a dark page.
        pick: name of the selection that a click on a cell sets (side, row, position), or None for no clicks.
    """
    what = METRICS[metric]
    values = frame["difference"].replace([np.inf, -np.inf], np.nan)
    most = float(values.abs().max()) if values.notna().any() else 0.0
    most = most or 1.0
    cells = _spelled(frame).assign(
        colour=values.clip(-most, most), share=values.abs().fillna(0.0) / most, side="After", origin=frame["layer"]
    )
    unit = what.unit if what.scale == "linear" else "log of the ratio"
    colour = alt.Color(
        "colour:Q",
        scale=alt.Scale(domain=[-most, most], domainMid=0),
        legend=_legend(f"After minus before, {unit}", values=[-most, 0, most], format="+.2~f"),
    )
    tooltip = [
        *_reading(),
        alt.Tooltip("top_before:N", title="Before"),
        alt.Tooltip("before:Q", title=f"{what.title}, before", format=".4~g"),
        alt.Tooltip("after:Q", title=f"{what.title}, after", format=".4~g"),
        alt.Tooltip("difference:Q", title="Difference", format="+.4~f"),
    ]
    chosen = alt.selection_point(name=pick or "cell", fields=["side", "row", "position"], toggle=False, empty=False)
    drawn = _layers(cells, colour, tooltip, dark, (None, chosen if pick else None))
    return _beside([drawn], ["After"], [chosen] if pick else [])


def colour_bounds(values: pd.Series[float], metric: str) -> tuple[float, float]:
    """Return the ends of a statistic's colour scale: those of its range, or where it has none of the values."""
    what = METRICS[metric]
    finite = values[np.isfinite(values.astype(float))]
    most = float(finite.max()) if len(finite) else 1.0
    if what.unit == "probability":
        return 0.0, 1.0
    if metric == "js":
        return 0.0, math.log(2)
    if what.scale == "log":
        return what.floor, max(most, what.floor * 10)
    if not what.zero:
        return min(float(finite.min()) if len(finite) else -1.0, -1e-3), 0.0
    return 0.0, max(most, 1e-3)


def _map(
    cells: pd.DataFrame, title: str, colour: alt.Color, what: Metric, dark: bool, params: tuple[Any, Any]
) -> alt.LayerChart:
    tooltip = [*_reading(), alt.Tooltip("probability:Q", title="Its probability", format=".1%")]
    if what.name != "probability":
        tooltip.append(alt.Tooltip(f"{what.name}:Q", title=named(what), format=".4~g"))
    tooltip += [
        alt.Tooltip("target:N", title="Right next token"),
        alt.Tooltip("rank:Q", title="Rank of the right one", format=",d"),
        alt.Tooltip("settles:N", title="Settles at"),
    ]
    chart = _layers(cells, colour, tooltip, dark, params)
    return chart.properties(title=title) if title else chart


def _layers(
    cells: pd.DataFrame, colour: alt.Color, tooltip: list[alt.Tooltip], dark: bool, params: tuple[Any, Any]
) -> alt.LayerChart:
    rows = cells.drop_duplicates("row").sort_values("row", ascending=False)
    axis = alt.Axis(labelLimit=90, ticks=False, domain=False, labelFlush=False)
    base = alt.Chart(cells).encode(
        x=alt.X("position:O", title=None, axis=_token_axis(cells)),
        y=alt.Y("layer:N", title=None, sort=list(rows["layer"]), axis=axis),
    )
    # Only the cells have a tooltip: what has one catches the pointer, and both are for the cell below the word.
    rects = base.mark_rect(cornerRadius=2, stroke=PAPER[dark], strokeWidth=1.5)
    filled = alt.condition("isValid(datum.colour)", colour, alt.value("transparent"))
    rects = rects.encode(color=filled, tooltip=tooltip)
    ink = alt.condition(f"datum.share > {TURN[dark]}", alt.value(PAPER[dark]), alt.value(INK[dark]))
    words = base.mark_text(fontSize=11, limit=CELL - 6).encode(text="word:N", color=ink)
    hover, chosen = params
    layers: list[Any] = [rects, words]
    for param, stroke in ((chosen, INK[dark]), (hover, POINTED[dark])):
        if param is not None:
            outline = base.mark_rect(filled=False, stroke=stroke, strokeWidth=2, cornerRadius=2)
            layers.append(outline.transform_filter(param))
    chart = alt.layer(*layers).properties(width=alt.Step(CELL), height=alt.Step(ROW))
    return cast("alt.LayerChart", chart)


def _beside(maps: list[Any], sides: list[str], params: list[alt.Parameter]) -> alt.HConcatChart:
    """Return maps side by side with selections that are one for all: an outline in one follows the pointer in another."""
    names = [f"map_{side.lower()}" for side in sides]
    chart: Any = alt.hconcat(*maps, spacing=26)
    for drawn, name in zip(chart.hconcat, names, strict=True):
        drawn.layer[0].name = name
    # altair numbers the views of charts that stand side by side, but not a single one
    views = names if len(names) == 1 else [f"{name}_{number}" for number, name in enumerate(names)]
    selects: list[Any] = [param.param for param in params]
    chart.params = [
        alt.TopLevelSelectionParameter(name=param.name, select=param.select, views=views) for param in selects
    ]
    done: alt.HConcatChart = chart.resolve_scale(x="independent", y="independent").configure_view(strokeWidth=0)
    return done


def _cells(frame: pd.DataFrame, metric: str, ends: tuple[float, float]) -> pd.DataFrame:
    """Return a frame with `colour`, the statistic within the scale, and `share`, how far along the scale that is."""
    low, high = ends
    values = frame[metric].astype(float).clip(low, high)
    if METRICS[metric].scale == "log":
        share = (values.map(np.log) - math.log(low)) / (math.log(high) - math.log(low))
    else:
        share = (values - low) / (high - low)
    names = dict(zip(frame["row"], frame["layer"], strict=True))
    settles = frame["depth"].map(names) if "depth" in frame else ""
    return _spelled(frame).assign(colour=values, share=share.fillna(0.0), settles=settles)


def _spelled(frame: pd.DataFrame) -> pd.DataFrame:
    names = [name for name in ("token", "target", "top", "top_before") if name in frame]
    return frame.assign(word=frame["top"].map(short), **{name: frame[name].map(visible) for name in names})


def _colour(what: Metric, ends: tuple[float, float]) -> alt.Color:
    if what.scale == "log":
        scale, form = alt.Scale(type="log", domain=list(ends), clamp=True), "~g"
        steps = [10.0**power for power in range(-3, 7) if ends[0] <= 10.0**power <= ends[1]]
        return alt.Color("colour:Q", scale=scale, legend=_legend(what.unit, values=steps, format=form))
    form = ".0%" if what.unit == "probability" else ".2~f"
    marks = [ends[0], sum(ends) / 2, ends[1]]
    return alt.Color(
        "colour:Q", scale=alt.Scale(domain=list(ends)), legend=_legend(what.unit, values=marks, format=form)
    )


def _legend(title: str, **more: Any) -> alt.Legend:
    return alt.Legend(
        orient="top", direction="horizontal", title=title, titleOrient="left", titleFontWeight="normal",
        titleLimit=260, gradientLength=150, gradientThickness=9, **more,
    )  # fmt: skip


def named(what: Metric) -> str:
    """Return a statistic's title with its unit."""
    return what.title if what.unit == "probability" else f"{what.title} ({what.unit})"


def _reading() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("layer:N", title="After layer"),
        alt.Tooltip("token:N", title="Token read"),
        alt.Tooltip("top:N", title="Would say next"),
    ]


def _token_axis(frame: pd.DataFrame) -> alt.Axis:
    tokens = frame.drop_duplicates("position").sort_values("position")
    return labels_axis(list(tokens["position"]), [visible(token) for token in tokens["token"]], "X")
