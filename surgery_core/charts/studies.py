"""Pictures of studies: pure functions from a finding's frame to an Altair chart.

One chart has two sizes: a small one for a card, about 300 pixels wide, and a whole one. Nothing is cut off: where one
figure is far from the rest, the axis of figures is logarithmic far from zero.
"""

from __future__ import annotations

import json
import math
import textwrap
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from surgery_core.charts.style import INK, PAPER, QUIET
from surgery_core.charts.sweeps import VARIANT_COLOURS
from surgery_core.studies.finding import Picture
from surgery_core.studies.words import number_text
from surgery_core.sweeps.axes import axis_scale, value_axis
from surgery_core.sweeps.frames import ValueScale, value_scale

HEIGHT, SMALL_HEIGHT = 360, 220
"""Height in pixels, with axes, title and legend; the app fits a chart into it. All small ones are alike."""
ROW, AROUND, MOST_HEIGHT = 24, 120, 560
"""Height of a map's row; what its axis, title and legend take; and of the whole map at most."""
LEGEND_ROW = 18
"""Height of a row of a card's legend."""
BESIDE = 18
"""Longest name, in characters, of which a card's legend has two in a row."""
_FIGURE = "loss_change"
"""What axes of figures behave like: bars and lines begin at zero."""


@dataclass(frozen=True)
class _Look:
    """How a picture is drawn, besides its form."""

    picture: Picture
    dark: bool
    small: bool

    @property
    def height(self) -> int:
        """Return how high it is, in pixels."""
        return SMALL_HEIGHT if self.small else HEIGHT

    @property
    def colours(self) -> list[str]:
        """Return the colours of variants, in their order."""
        return VARIANT_COLOURS[self.dark]


def study_chart(frame: pd.DataFrame, picture: Picture, *, dark: bool = False, small: bool = False) -> alt.LayerChart:
    """Draw what a study found.

    Args:
        frame: one line a mark, with the columns that the picture names.
        picture: the form, and what axes and legends say.
        dark: whether it is drawn on a dark page.
        small: whether it is drawn at the size of a card.
    """
    look, data = _Look(picture, dark, small), _data(frame, picture)
    make = {"bars": _bars, "lines": _lines, "heat": _heat, "dots": _dots}[picture.form]
    chart: alt.LayerChart = alt.layer(*make(data, look)).configure_view(strokeWidth=0)
    height = _map_height(data) if picture.form == "heat" and not small else look.height + _legend_height(data, look)
    # written level above the chart, the axis' title can be read; turned on its side it would be cut at this height
    words = picture.value_title if picture.form == "heat" else picture.y_title
    title = alt.TitleParams(
        words, anchor="start", fontSize=11 if small else 13, fontWeight=400, color=QUIET[dark], offset=6
    )
    return chart.properties(height=height, title=title) if words else chart.properties(height=height)


def _data(frame: pd.DataFrame, picture: Picture) -> pd.DataFrame:
    """Return the columns that are drawn under names of their own; what is no number, or infinite, as missing."""
    names = {"x": picture.x, "y": picture.y, "series": picture.series, "value": picture.value}
    names |= {"low": picture.low, "high": picture.high}
    data = pd.DataFrame({name: frame[column].to_numpy() for name, column in names.items() if column})
    for name in data.columns:
        if pd.api.types.is_float_dtype(data[name]):
            data[name] = data[name].where(np.isfinite(data[name]))
    shown = data["value" if picture.form == "heat" else "y"]
    data = data.assign(said=[number_text(value) if _is_number(value) else str(value) for value in shown])
    if {"low", "high"} <= set(data.columns):
        ends = zip(data["low"], data["high"], strict=True)
        data = data.assign(between=[_between(low, high) for low, high in ends])
    return data


def _bars(data: pd.DataFrame, look: _Look) -> list[alt.Chart]:
    scale = _scale(data)
    y = alt.Y("y:Q", title=None, scale=axis_scale(scale), axis=_figures(scale, look))
    base = alt.Chart(data).encode(x=_places(data, "x", look))
    if look.picture.series:
        names = _order(data, "series")
        base = base.encode(
            xOffset=alt.XOffset("series:N", scale=alt.Scale(domain=names, paddingInner=0.1)),
            color=_series(names, look),
        )
    bars = base.mark_bar(cornerRadiusEnd=2, aria=False).encode(y=y, y2=alt.datum(scale.origin))
    target = base.mark_bar(opacity=0).encode(y=alt.value(0), y2=alt.value("height"), tooltip=_tooltip(look))
    return [bars, *_whiskers(base, y, look), *_zero(scale, y, look), target]


def _lines(data: pd.DataFrame, look: _Look) -> list[alt.Chart]:
    scale = _scale(data)
    y = alt.Y("y:Q", title=None, scale=axis_scale(scale), axis=_figures(scale, look))
    base = alt.Chart(data).transform_filter("isValid(datum.y)").encode(x=_across(data, look))
    shape: Any = alt.Undefined
    if look.picture.series:
        names = _order(data, "series")
        base, shape = base.encode(color=_series(names, look)), _shapes(names, look)
    drawn = base.encode(y=y, order="x:Q" if _is_numeric(data["x"]) else alt.Undefined)
    line = drawn.mark_line(strokeWidth=1.4 if look.small else 1.8)
    points = drawn.mark_point(size=18 if look.small else 44, filled=True, opacity=1).encode(shape=shape)
    target = drawn.mark_point(size=220, opacity=0, filled=True).encode(tooltip=_tooltip(look))
    return [line, *_whiskers(base, y, look), points, *_zero(scale, y, look), target]


def _dots(data: pd.DataFrame, look: _Look) -> list[alt.Chart]:
    y = _level(data, look)
    base = alt.Chart(data).encode(x=_across(data, look), y=y)
    if look.picture.series:
        names = _order(data, "series")
        base = base.encode(color=_series(names, look), shape=_shapes(names, look))
    points = base.mark_point(size=22 if look.small else 46, filled=True, opacity=0.75)
    target = base.mark_point(size=180, opacity=0, filled=True).encode(tooltip=_tooltip(look))
    return [*_whiskers(base, y, look), points, target]


def _heat(data: pd.DataFrame, look: _Look) -> list[alt.Chart]:
    numeric = _is_numeric(data["y"])
    rows = _order(data, "y")[:: -1 if numeric else 1]
    y = alt.Y("y:N", title=look.picture.y_title or None, sort=rows, axis=_labels(look, 150))
    values = data["value"].dropna()
    both = len(values) > 0 and float(values.min()) < 0 < float(values.max())
    most = float(values.abs().max()) if len(values) else 1.0
    scale = alt.Scale(domain=[-most, most], domainMid=0) if both else alt.Scale()
    legend = alt.Legend(
        orient="bottom" if look.small else "top", title=None, gradientLength=120 if look.small else 200,
        gradientThickness=8, tickCount=3, labelFontSize=10,
    )  # fmt: skip
    base = alt.Chart(data).encode(x=_places(data, "x", look), y=y)
    stroke: dict[str, Any] = {} if look.small else {"stroke": PAPER[look.dark], "strokeWidth": 1}
    there = base.transform_filter("isValid(datum.value)")
    cells = there.mark_rect(**stroke).encode(color=alt.Color("value:Q", scale=scale, legend=legend))
    target = base.mark_rect(opacity=0).encode(tooltip=_tooltip(look))
    return [cells, target]


def _scale(data: pd.DataFrame) -> ValueScale:
    ends = [data[name].astype(float) for name in ("y", "low", "high") if name in data]
    found = value_scale(pd.concat(ends), _FIGURE)
    # a share of 0 to 1 says so by an axis that ends there
    return replace(found, high=1.0) if found.spread == "linear" and 0.8 < found.high <= 1 and found.low == 0 else found


def _zero(scale: ValueScale, y: alt.Y, look: _Look) -> list[alt.Chart]:
    """Return a line at zero, where figures lie on both sides of it."""
    if not scale.low < 0 < scale.high:
        return []
    return [alt.Chart(pd.DataFrame({"y": [0.0]})).mark_rule(color=QUIET[look.dark], strokeWidth=1).encode(y=y)]


def _whiskers(base: alt.Chart, y: alt.Y, look: _Look) -> list[alt.Chart]:
    """Return the 95 % intervals as thin lines."""
    if not (look.picture.low and look.picture.high):
        return []
    low = y.copy()
    low.shorthand = "low:Q"
    there = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
    mark = there.mark_rule(strokeWidth=1 if look.small else 1.4, color=INK[look.dark], opacity=0.75, aria=False)
    whisker = mark.encode(y=low, y2="high:Q")
    # on lines a whisker has its line's colour; on bars it must be seen on them
    return [whisker if look.picture.form == "lines" else whisker.encode(color=alt.value(INK[look.dark]))]


def _places(data: pd.DataFrame, name: str, look: _Look) -> alt.X:
    """Return an axis with a place for each value."""
    order = _order(data, name)
    axis = _labels(look, 90, labelAngle=0, **({} if look.small else _wrapped(order)))
    return alt.X(f"{name}:N", title=look.picture.x_title or None, sort=order, axis=axis)


def _wrapped(names: list[Any]) -> dict[str, Any]:
    """Return what writes long names in several lines instead of cutting them."""
    lines = {str(name): textwrap.wrap(str(name), LETTERS) for name in names}
    if all(len(one) < 2 for one in lines.values()):
        return {}
    return {"labelExpr": f"({json.dumps(lines)})[datum.label]", "labelLineHeight": 13}


LETTERS = 15
"""Letters of a line below a bar."""


def _across(data: pd.DataFrame, look: _Look) -> alt.X:
    """Return an axis of numbers, or of places where there are none."""
    if not _is_numeric(data["x"]):
        return _places(data, "x", look)
    known = data["x"].dropna()
    whole = bool(len(known)) and bool((known == known.round()).all())
    axis = alt.Axis(
        grid=False, domain=False, ticks=False, tickCount=4 if look.small else 8, labelOverlap=True,
        labelFontSize=10 if look.small else 11, titleFontSize=10 if look.small else 11,
        **({"tickMinStep": 1, "format": "d"} if whole else {"format": ",.3~r"}),
    )  # fmt: skip
    return alt.X("x:Q", title=look.picture.x_title or None, scale=alt.Scale(zero=False, padding=6), axis=axis)


def _level(data: pd.DataFrame, look: _Look) -> alt.Y:
    """Return the upright axis of dots."""
    if not _is_numeric(data["y"]):
        return alt.Y("y:N", title=None, sort=_order(data, "y"), axis=_labels(look, 150))
    axis = alt.Axis(
        domain=False,
        ticks=False,
        tickCount=4,
        labelOverlap=True,
        format=",.3~r",
        labelFontSize=10 if look.small else 11,
    )
    return alt.Y("y:Q", title=None, scale=alt.Scale(zero=False, padding=6), axis=axis)


def _labels(look: _Look, limit: int, **more: Any) -> alt.Axis:
    return alt.Axis(
        labelOverlap=True, labelSeparation=4, ticks=False, domain=False, grid=False,
        labelLimit=limit * 2 // 3 if look.small else limit, labelFontSize=10 if look.small else 11,
        titleFontSize=10 if look.small else 11, **more,
    )  # fmt: skip


def _figures(scale: ValueScale, look: _Look) -> alt.Axis:
    axis = value_axis(scale, _FIGURE)
    axis.labelFontSize = 10 if look.small else 11
    if look.small and scale.spread == "linear":
        axis.tickCount = 3
    return axis


def _series(names: list[Any], look: _Look) -> alt.Color:
    colours = [look.colours[at % len(look.colours)] for at in range(len(names))]
    return alt.Color("series:N", scale=alt.Scale(domain=names, range=colours), legend=_legend(names, look))


def _shapes(names: list[Any], look: _Look) -> alt.Shape:
    return alt.Shape("series:N", scale=alt.Scale(domain=names), legend=_legend(names, look))


def _legend(names: list[Any], look: _Look) -> alt.Legend | None:
    if len(names) < 2:
        return None
    beside = _beside(names, look)
    return alt.Legend(
        orient="bottom" if look.small else "top", title=None, columns=beside, symbolSize=50,
        labelFontSize=10 if look.small else 11, labelLimit=240,
    )  # fmt: skip


def _beside(names: list[Any], look: _Look) -> int:
    """Return how many names of a legend stand in a row."""
    if not look.small:
        return 3
    return 2 if max(len(str(name)) for name in names) <= BESIDE else 1


def _legend_height(data: pd.DataFrame, look: _Look) -> int:
    """Return what a card's legend takes beyond its first row, so that the marks have as much room as without it."""
    names = [] if not look.small or "series" not in data else list(data["series"].dropna().unique())
    return LEGEND_ROW * (math.ceil(len(names) / _beside(names, look)) - 1) if len(names) > 1 else 0


def _tooltip(look: _Look) -> list[alt.Tooltip]:
    """Return what a mark says: where it is, its figure, its interval."""
    picture = look.picture
    heat = picture.form == "heat"
    found = [alt.Tooltip("x", title=picture.x_title or picture.x)]
    found += [alt.Tooltip("y", title=picture.y_title or picture.y)] if heat else []
    found += [alt.Tooltip("series:N", title=" ")] if picture.series else []
    found += [alt.Tooltip("said:N", title=picture.value_title if heat else picture.y_title or picture.y)]
    found += [alt.Tooltip("between:N", title="95 % interval")] if picture.low and picture.high else []
    return found


def _between(low: float, high: float) -> str:
    return "" if pd.isna(low) or pd.isna(high) else f"{number_text(low)} to {number_text(high)}"


def _order(data: pd.DataFrame, name: str) -> list[Any]:
    """Return values in their order: numbers by size, names as they come."""
    found = list(dict.fromkeys(data[name].dropna()))
    return sorted(found) if _is_numeric(data[name]) else found


def _is_numeric(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column)) and not pd.api.types.is_bool_dtype(column)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _map_height(data: pd.DataFrame) -> int:
    return int(min(MOST_HEIGHT, AROUND + max(120, data["y"].nunique() * ROW)))
