"""Charts of what a lens reads: maps of layers by tokens, and their difference.

Pure functions from DataFrames to Altair charts. Colours of scales are left to the theme that draws the chart; only
text inside a coloured cell has to know whether the theme is dark.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import altair as alt
import numpy as np
import pandas as pd

from surgery_core.charts.style import CELL, INK, PAPER, TURN, WORDS, labels_axis, short
from surgery_core.lenses.metrics import METRICS, Metric
from surgery_core.text import visible

ROW = 24
"""Height of a cell in pixels."""
TURNS = {False: (0.69, 0.87), True: (0.54, 0.62)}
"""Shares of the two sides of the app's diverging ramp, below and above 0, from which words are the other colour."""
RATIO = "datum.value === 0 ? 'same' : (datum.value < 0 ? '÷ ' : '× ') + format(exp(abs(datum.value)), ',.2~r')"
"""Label of a logarithm of a ratio as the ratio."""
SIGNED = "datum.value === 0 ? '0' : format(datum.value, '+.2~f')"
Maps: TypeAlias = alt.HConcatChart | alt.VConcatChart
POINTED = {False: "#b4532a", True: "#f2a67c"}
"""Outline of the cells that the pointer is on, by whether the theme is dark."""


def lens_maps(
    sides: Mapping[str, pd.DataFrame],
    metric: str = "probability",
    *,
    dark: bool = False,
    pick: str | None = "cell",
    bounds: tuple[float, float] | None = None,
    stacked: bool = False,
    cell: int = CELL,
) -> Maps:
    """Draw what each layer would predict next: maps of layers (last on top) by tokens, beside or below each other.

    Each cell has its likeliest token, coloured by a statistic on a scale that all maps share. Pointing at a cell
    outlines the same token and original layer in every map.

    Args:
        sides: by title, frames of `Trajectory.frame()`, with the statistic.
        metric: name of the statistic.
        dark: whether it is drawn on a dark page.
        pick: name of the selection that a click on a cell sets (side, layer, position), or None for no clicks.
        bounds: ends of the colour scale; by default those of the values shown.
        stacked: whether the maps stand one below the other.
        cell: width of a cell in pixels.
    """
    what, whole = METRICS[metric], pd.concat(list(sides.values()))
    ends = bounds or map_bounds(whole, metric)
    hover = alt.selection_point(
        name="hover", fields=["origin", "position"], on="pointerover", clear="pointerout", empty=False
    )
    chosen = alt.selection_point(name=pick or "cell", fields=["side", "layer", "position"], toggle=False, empty=False)
    colour = _colour(what, ends, whole[metric])
    maps = [
        _map(
            _cells(frame, metric, ends).assign(side=side),
            side,
            colour,
            what,
            dark,
            (hover, chosen if pick else None),
            cell,
        )
        for side, frame in sides.items()
    ]
    chart = _together(maps, list(sides), [hover, chosen] if pick else [hover], stacked)
    titled: Maps = chart.configure_title(anchor="start", fontSize=13, color=INK[dark], offset=2)
    return titled


def difference_map(
    frame: pd.DataFrame, metric: str, *, dark: bool = False, pick: str | None = "cell", cell: int = CELL
) -> Maps:  # fmt: skip
    """Draw after against before of one statistic: a map of the operated model's layers by tokens.

    What is linear is subtracted; what is logarithmic (KL, rank) is divided. Rust is for what is worse after surgery.

    Args:
        frame: of `lens_pairs.difference`.
        metric: name of the statistic.
        dark: whether it is drawn on a dark page.
        pick: name of the selection that a click on a cell sets (side, layer, position), or None for no clicks.
        cell: width of a cell in pixels.
    """
    what = METRICS[metric]
    values = frame["difference"].replace([np.inf, -np.inf], np.nan)
    most = float(values.abs().max()) if values.notna().any() else 0.0
    most = most or 1.0
    said = [_change(value, what) for value in values]
    cells = _spelled(frame).assign(colour=values.clip(-most, most), said=said, side="After", origin=frame["layer"])
    log = what.scale == "log"
    how = "after ÷ before" if log else "after minus before"
    written: dict[str, Any] = {"labelExpr": RATIO if log else SIGNED}
    legend = _legend(f"{what.title if log else named(what)}, {how}", values=[-most, 0, most], **written)
    # The theme's ramp ends in rust, which is for what is worse, also where that is the lower figure. Without `rgb` its
    # two hues would meet in a third one.
    lower = what.worse == "lower"
    turning: dict[str, Any] = {"reverse": True} if lower else {}
    scale = alt.Scale(domain=[-most, most], domainMid=0, interpolate="rgb", **turning)
    tooltip = [
        *_reading(),
        alt.Tooltip("top_before:N", title="Before surgery it says"),
        alt.Tooltip("before:Q", title=f"{named(what)}, before", format=".4~g"),
        alt.Tooltip("after:Q", title=f"{named(what)}, after", format=".4~g"),
        alt.Tooltip("said:N", title="After ÷ before" if log else "After minus before"),
    ]
    chosen = alt.selection_point(name=pick or "cell", fields=["side", "layer", "position"], toggle=False, empty=False)
    below, above = (share * most for share in TURNS[dark])
    turned = f"datum.colour < {-(above if lower else below)} || datum.colour > {below if lower else above}"
    colour = alt.Color("colour:Q", scale=scale, legend=legend)
    drawn = _layers(cells, colour, tooltip, dark, (None, chosen if pick else None), turned, cell)
    return _together([drawn], ["After"], [chosen] if pick else [], False)


def map_bounds(frame: pd.DataFrame, metric: str) -> tuple[float, float]:
    """Return the ends of the colour scale of maps: of all rows, or where one row would flatten the others without it.

    What the head makes of the bare input can be ten times as far off as anything behind a layer.
    """
    behind = frame[frame["row"] > 0]
    return colour_bounds((frame if METRICS[metric].scale == "log" or behind.empty else behind)[metric], metric)


def colour_bounds(values: pd.Series[float], metric: str) -> tuple[float, float]:
    """Return the ends of a statistic's colour scale: those of its range, or the largest value's."""
    what = METRICS[metric]
    finite = values[np.isfinite(values.astype(float))]
    most = float(finite.max()) if len(finite) else 1.0
    if metric == "probability":
        return 0.0, 1.0
    if what.between:
        return 0.0, max(most, 0.05)
    if what.scale == "log":
        return what.floor, max(most, what.floor * 10)
    if not what.zero:
        return min(float(finite.min()) if len(finite) else -1.0, -1e-3), 0.0
    return 0.0, max(most, 1e-3)


def _map(
    cells: pd.DataFrame, title: str, colour: alt.Color, what: Metric, dark: bool, params: tuple[Any, Any], cell: int
) -> alt.LayerChart:
    tooltip = [*_reading(), alt.Tooltip("probability:Q", title="Its probability", format=".1%")]
    if what.name != "probability":
        tooltip.append(alt.Tooltip(f"{what.name}:Q", title=named(what), format=".4~g"))
    tooltip += [
        alt.Tooltip("target:N", title="Right next token"),
        alt.Tooltip("rank:Q", title="Rank of the right one", format=",d"),
        alt.Tooltip("settles:N", title="Says what it ends as from"),
    ]
    chart = _layers(cells, colour, tooltip, dark, params, f"datum.share > {TURN[dark]}", cell)
    return chart.properties(title=title) if title else chart


def _layers(
    cells: pd.DataFrame, colour: alt.Color, tooltip: list[alt.Tooltip], dark: bool, params: tuple[Any, Any],
    turned: str, cell: int,
) -> alt.LayerChart:  # fmt: skip
    """Return a map: cells, their words, and outlines; `turned` says where words have the other colour."""
    rows = cells.drop_duplicates("row").sort_values("row", ascending=False)
    axis = alt.Axis(labelLimit=90, ticks=False, domain=False, labelFlush=False)
    base = alt.Chart(cells).encode(
        x=alt.X("position:O", title=None, axis=_token_axis(cells, cell)),
        y=alt.Y("layer:N", title=None, sort=list(rows["layer"]), axis=axis),
    )
    # Only the cells have a tooltip: what has one catches the pointer, and both are for the cell below the word.
    rects = base.mark_rect(cornerRadius=2, stroke=PAPER[dark], strokeWidth=1.5)
    filled = alt.condition("isValid(datum.colour)", colour, alt.value("transparent"))
    rects = rects.encode(color=filled, tooltip=tooltip)
    plain, other = WORDS[dark]
    ink = alt.condition(turned, alt.value(other), alt.value(plain))
    words = base.mark_text(fontSize=11, limit=cell - 4).encode(text="word:N", color=ink)
    hover, chosen = params
    layers: list[Any] = [rects, words]
    for param, stroke in ((chosen, INK[dark]), (hover, POINTED[dark])):
        if param is not None:
            outline = base.mark_rect(filled=False, stroke=stroke, strokeWidth=2, cornerRadius=2, aria=False)
            layers.append(outline.transform_filter(param))
    chart = alt.layer(*layers).properties(width=alt.Step(cell), height=alt.Step(ROW))
    return cast("alt.LayerChart", chart)


def _together(maps: list[Any], sides: list[str], params: list[alt.Parameter], stacked: bool) -> Maps:
    """Return maps with selections that are one for all: an outline in one follows the pointer in another."""
    names = [f"map_{side.lower()}" for side in sides]
    for drawn, name in zip(maps, names, strict=True):
        drawn.layer[0].name = name
    chart: Any = alt.vconcat(*maps, spacing=18) if stacked else alt.hconcat(*maps, spacing=22)
    # altair numbers the views of charts that stand together, but not a single one
    views = names if len(names) == 1 else [f"{name}_{number}" for number, name in enumerate(names)]
    selects: list[Any] = [param.param for param in params]
    chart.params = [
        alt.TopLevelSelectionParameter(name=param.name, select=param.select, views=views) for param in selects
    ]
    chart = chart.properties(autosize="pad")
    done: Maps = chart.resolve_scale(x="independent", y="independent").configure_view(strokeWidth=0)
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


def _colour(what: Metric, ends: tuple[float, float], values: pd.Series[float]) -> alt.Color:
    """Return the colours of a statistic; where values lie beyond an end, the legend's label there says so."""
    if what.scale == "log":
        scale, form = alt.Scale(type="log", domain=list(ends), clamp=True), "~g"
        steps = [10.0**power for power in range(-3, 7) if ends[0] <= 10.0**power <= ends[1]]
        return alt.Color("colour:Q", scale=scale, legend=_legend(named(what), values=steps, format=form))
    form = ".0%" if what.unit == "probability" else ".2~f"
    low, high = ends
    words = {low: "≤ " if (values < low).any() else "", high: "≥ " if (values > high).any() else ""}
    said = "".join(f"datum.value === {at} ? {json.dumps(word)} : " for at, word in words.items() if word)
    more = {"labelExpr": f"({said}'') + datum.label"} if said else {}
    legend = _legend(named(what), values=[low, (low + high) / 2, high], format=form, **more)
    return alt.Color("colour:Q", scale=alt.Scale(domain=list(ends)), legend=legend)


def _legend(title: str, **more: Any) -> alt.Legend:
    return alt.Legend(
        orient="top", direction="horizontal", title=title, titleOrient="left", titleFontWeight="normal",
        titleLimit=300, offset=8, gradientLength=150, gradientThickness=9, **more,
    )  # fmt: skip


def named(what: Metric) -> str:
    """Return a statistic's title with its unit."""
    return f"{what.title} ({_unit(what)})" if _unit(what) else what.title


def _unit(what: Metric) -> str:
    """Return a unit as it stands in brackets behind a title."""
    return "" if what.unit.lower() == what.title.lower() else what.unit


def _change(value: float, what: Metric) -> str:
    """Return a cell's change in words: a ratio where the statistic is logarithmic."""
    if not math.isfinite(value):
        return "–"
    if what.scale == "linear":
        return f"{value:+.4g}"
    return "the same" if value == 0 else f"{'×' if value > 0 else '÷'} {math.exp(abs(value)):.3g}"


def _reading() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("layer:N", title="After layer"),
        alt.Tooltip("token:N", title="Token read"),
        alt.Tooltip("top:N", title="Would say next"),
    ]


def _token_axis(frame: pd.DataFrame, cell: int) -> alt.Axis:
    tokens = frame.drop_duplicates("position").sort_values("position")
    return labels_axis(list(tokens["position"]), [visible(token) for token in tokens["token"]], "X", cell)
