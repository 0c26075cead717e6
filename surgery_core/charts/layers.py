"""Charts of layers: how important each is, how alike they leave the residual stream, which can go, what they know.

Pure functions from a DataFrame to an Altair chart, as in `charts`.
"""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from surgery_core.charts.style import INK, PAPER, QUIET
from surgery_core.charts.sweep_marks import FIGURELESS, GREY, Sheet, waiting
from surgery_core.charts.sweeps import AROUND, MARKS, ROW, bars, state_words
from surgery_core.sweeps.axes import axis_scale, value_axis
from surgery_core.sweeps.frames import between, figure, value_scale

SIDES = ["After", "Before"]
"""In this order the theme's first colour is the operated model's and its quiet one the base's."""


def layer_bars(frame: pd.DataFrame, column: str, title: str, *, dark: bool = False) -> alt.LayerChart:
    """Draw one figure of each layer as bars over the layers; where one is far above the rest, on a logarithmic axis.

    Its axes have no titles; what it shows stands above it.

    Args:
        frame: one line a layer: `position`, `layer`, and the column.
        column: which figure.
        title: what tooltips call it.
        dark: whether it is drawn on a dark page.
    """
    places = frame["position"]
    data = pd.DataFrame({"number": places, "x": frame["layer"], "x_at": places, "value": frame[column]})
    data = data.assign(y="", y_at=None, plan="", reason="")
    data["state"] = ["broken" if np.isnan(value) else "done" for value in data["value"]]
    return bars(data, Sheet(column, title, "Layer", dark=dark, pick=None, height=170, named=False))


def rank_chart(frame: pd.DataFrame, estimate: str, *, dark: bool = False) -> alt.LayerChart:
    """Draw the rank of each layer by an estimate against its measured rank; on the diagonal both agree.

    Args:
        frame: one line a layer: `layer`, `estimated`, `measured` (ranks, 1 is the most important).
        estimate: what the estimate is called.
        dark: whether it is drawn on a dark page.
    """
    n = max(1, len(frame))
    scale = alt.Scale(domain=[n + 0.6, 0.4], nice=False, zero=False)
    axis = alt.Axis(
        values=sorted({1, *range(4, n + 1, 4 if n <= 40 else 16)}), format="d", grid=False, domain=False, ticks=False
    )
    ends = pd.DataFrame({"estimated": [1, n], "measured": [1, n]})
    x = alt.X("estimated:Q", title=f"Rank by {estimate}", scale=scale, axis=axis)
    y = alt.Y("measured:Q", title="Rank by measured damage", scale=scale, axis=axis)
    line = alt.Chart(ends).mark_line(strokeDash=[4, 3], strokeWidth=1, color=QUIET[dark]).encode(x=x, y=y)
    tooltip = [
        alt.Tooltip("layer:N", title="Layer"),
        alt.Tooltip("estimated:Q", title=f"Rank by {estimate}"),
        alt.Tooltip("measured:Q", title="Rank by measured damage"),
    ]
    base = alt.Chart(frame.assign(named=_telling(frame))).encode(x=x, y=y, tooltip=tooltip)
    named = base.transform_filter("datum.named").encode(text="layer:N")
    halo, words = _words(named, dark, INK[dark], dy=-11)
    return _plain(alt.layer(line, halo, base.mark_circle(size=60, opacity=1), words).properties(height=260))


def _words(base: alt.Chart, dark: bool, colour: str, **more: Any) -> tuple[Any, Any]:
    """Return labels and what lies beneath them: room in the colour of the page, so that no line runs through them."""
    halo: dict[str, Any] = {"color": PAPER[dark], "stroke": PAPER[dark], "strokeWidth": 4, "strokeJoin": "round"}
    return (
        base.mark_text(fontSize=11, aria=False, tooltip=None, **halo, **more),
        base.mark_text(fontSize=11, color=colour, **more),
    )


NAMED = 16
"""Most points of a chart that all have their names beside them."""


def _telling(frame: pd.DataFrame) -> pd.Series:
    """Return which points get their names: all, or of many the two ends and those farthest from the diagonal.

    Of many points a name is left out where it would run into another name, or, as long as there are others, a point.
    """
    named = pd.Series(len(frame) <= NAMED, index=frame.index)
    if len(frame) <= NAMED:
        return named
    measured = frame["measured"].rank(method="first")
    far = (frame["estimated"] - frame["measured"]).abs().where(measured.between(2, len(frame) - 1), np.inf)
    order = np.argsort(-far.to_numpy(dtype=float), kind="stable")
    points = frame[["estimated", "measured"]].to_numpy(dtype=float) / len(frame)
    words = points - (0.0, ABOVE)
    free = [not _near(np.delete(points, at, 0), words[at], POINT) for at in range(len(frame))]
    taken: list[int] = []
    for most, places in ((MOST, [at for at in order if free[at]]), (LEAST, order)):
        for at in places:
            if len(taken) < most and not _near(words[taken], words[at], WORD):
                taken.append(at)
    named.iloc[taken] = True
    return named


def _near(others: np.ndarray[Any, Any], place: np.ndarray[Any, Any], room: tuple[float, float]) -> bool:
    return bool((np.abs(others - place) < room).all(axis=1).any())


MOST, LEAST = 8, 5
"""Names that a chart of many points has at most; and at least, should they run into points."""
ABOVE, POINT, WORD = 0.062, (0.055, 0.055), (0.085, 0.07)
"""How far above its point a name stands, and how near it may come to a point and to a name, across and along, as
shares of the drawing; it is about 260 pixels wide and 180 high."""


def similarity_map(frame: pd.DataFrame, *, dark: bool = False) -> alt.Chart:
    """Draw the cosine similarity of the residual stream at every two places.

    Args:
        frame: `row`, `column` (places, in order of the stream), `cosine`.
        dark: whether it is drawn on a dark page.
    """
    order = list(dict.fromkeys(frame["row"]))
    least = float(np.floor(frame["cosine"].min() * 10) / 10) if len(frame) else 0.0
    tooltip = [
        alt.Tooltip("row:N", title="After"),
        alt.Tooltip("column:N", title="and after"),
        alt.Tooltip("cosine:Q", title="Cosine similarity", format=".3f"),
    ]
    return _map(frame, "column", "row", order, order[::-1], _ramp("cosine", "Cosine similarity", (least, 1.0)), dark,
                None, None, tooltip)  # fmt: skip


def block_map(frame: pd.DataFrame, labels: list[str], *, dark: bool = False) -> alt.Chart:
    """Draw the angular distance across every block of layers.

    Args:
        frame: `start`, `length`, `angular_distance` (0 to 1).
        labels: names of the positions.
        dark: whether it is drawn on a dark page.
    """
    data = frame.dropna().assign(first=[labels[int(start)] for start in frame.dropna()["start"]])
    tooltip = [
        alt.Tooltip("first:N", title="First layer"),
        alt.Tooltip("length:O", title="Layers"),
        alt.Tooltip("angular_distance:Q", title="Angular distance", format=".3f"),
    ]
    most = float(data["angular_distance"].max()) if len(data) else 1.0
    lengths = sorted(data["length"].unique(), reverse=True)
    colour = _ramp("angular_distance", "Angular distance", (0.0, most))
    return _map(data, "first", "length", labels, lengths, colour, dark, "First layer of the block", "Layers", tooltip)


def removal_curve(
    frame: pd.DataFrame, metric: str, title: str, *, dark: bool = False, chosen: str | None = None,
    pick: str | None = "point", ends_at: int | None = None, log: bool | None = None,
) -> alt.LayerChart:  # fmt: skip
    """Draw a figure against the layers that are left, all layers on the left.

    Args:
        frame: one line a step: `number`, `layers_left`, `removed`, `plan`, and the metric; with `low` and `high`, its
            interval, perplexity gets a band.
        metric: which figure.
        title: what the axis calls it.
        dark: whether it is drawn on a dark page.
        chosen: notation of the plan whose point is outlined.
        pick: name of the selection that a click sets, or None.
        ends_at: layers left in the end, so that the axis stands still while the search runs.
        log: whether the axis is logarithmic; by default where a linear one would squeeze most figures.
    """
    band = ["low", "high"] if metric == "perplexity" and "low" in frame else []
    columns = ["number", "layers_left", "removed", "plan", metric, *band]
    data = frame[columns].rename(columns={metric: "value"})
    data = data.assign(
        said=[figure(value, metric) for value in data["value"]], value=data["value"].where(np.isfinite(data["value"]))
    )
    if band:
        ends = {name: data[name].where(np.isfinite(data[name])) for name in band}
        words = [between(low, high, metric) for low, high in zip(ends["low"], ends["high"], strict=True)]
        data = data.assign(**ends, between=words)
    counts = sorted(data["layers_left"], reverse=True)
    if ends_at is not None and counts:
        counts = list(range(counts[0], min(counts[-1], ends_at) - 1, -1))
    places = alt.Scale(domain=counts)
    y = _figures(data, metric, title, log)
    base = alt.Chart(data).encode(
        x=alt.X("layers_left:O", title="Layers left", sort=counts, scale=places, axis=_labels()), y=y
    )
    tooltip = [
        alt.Tooltip("layers_left:O", title="Layers left"),
        alt.Tooltip("removed:N", title="Removed here"),
        alt.Tooltip("said:N", title=title),
        *([alt.Tooltip("between:N", title="95 % interval")] if band else []),
        alt.Tooltip("plan:N", title="Plan"),
    ]
    target: Any = base.mark_point(size=420, opacity=0, filled=True).encode(tooltip=tooltip)
    if pick is not None:
        target = target.add_params(
            alt.selection_point(name=pick, fields=["number"], on="click", toggle=False, empty=False)
        )
    named = base.transform_filter(f"datum.number % {_every(len(counts))} === 0").encode(text="removed:N")
    halo, words = _words(named, dark, QUIET[dark], **_above(len(counts)))
    ring = base.transform_filter(alt.datum.plan == (chosen or "")).mark_point(size=170, strokeWidth=2, color=INK[dark])
    layers = [*_band(base, y, data), base.mark_line(strokeWidth=2), halo, base.mark_circle(size=64, opacity=1), words]
    return _plain(alt.layer(*layers, *([ring] if chosen is not None else []), target).properties(height=260))


def _band(base: alt.Chart, y: alt.Y, data: pd.DataFrame) -> list[alt.Chart]:
    """Return the intervals of a curve as a band, where there are any."""
    if "low" not in data or not (np.isfinite(data["low"]) & np.isfinite(data["high"])).any():
        return []
    there = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
    own = y.copy()
    own.shorthand = "low:Q"
    return [there.mark_area(opacity=0.18, clip=True, aria=False).encode(y=own, y2="high:Q")]


UPRIGHT, SIDEWAYS = 16, 60
"""Most labels that stand side by side above a curve, upright and turned sideways."""


def _above(count: int) -> dict[str, Any]:
    """Return how labels above the points of a curve stand, so that they do not run into each other."""
    if count <= UPRIGHT:
        return {"dy": -13}
    return {"angle": 270, "align": "left", "baseline": "middle", "dx": 9}


def _every(count: int) -> int:
    """Return the distance between points that have a label: all of them, or fewer where there are very many."""
    return max(1, -(-count // SIDEWAYS))


def skill_bars(frame: pd.DataFrame, metric: str, title: str, *, dark: bool = False) -> alt.LayerChart:
    """Draw a figure of each skill before and after surgery.

    Args:
        frame: one line a skill and side: `skill`, `side` ("Before" or "After"), and the metric; where it has columns
            `METRIC_low` and `METRIC_high`, those are drawn as thin lines.
        metric: `"accuracy"` (0 to 1) or `"margin"` (nats).
        title: what the axis calls it.
    """
    share = metric == "accuracy"
    x = alt.X(
        "value:Q", title=title, scale=alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=True),
        axis=alt.Axis(format=".0%" if share else "~g", tickCount=5, domain=False, ticks=False),
    )  # fmt: skip
    known = f"{metric}_low" in frame
    ends = {f"{metric}_low": "low", f"{metric}_high": "high"} if known else {}
    data = frame[["skill", "side", metric, *ends]].rename(columns={metric: "value"} | ends)
    legend = alt.Legend(orient="top", values=["Before", "After"]) if data["side"].nunique() > 1 else None
    form = ".1%" if share else ".3f"
    tooltip = [
        alt.Tooltip("skill:N", title="Skill"),
        alt.Tooltip("side:N", title="Side"),
        alt.Tooltip("value:Q", title=title, format=form),
    ]
    if known:
        tooltip += [alt.Tooltip(f"{end}:Q", title=f"95 % interval, {end}", format=form) for end in ("low", "high")]
    base = alt.Chart(data).encode(
        y=alt.Y("skill:N", title=None, sort=list(dict.fromkeys(data["skill"])), axis=_labels(labelLimit=150)),
        yOffset=alt.YOffset("side:N", sort=["Before", "After"]),
        tooltip=tooltip,
    )
    colour = alt.Color("side:N", title=None, scale=alt.Scale(domain=SIDES), legend=legend)
    drawn: list[Any] = [base.mark_bar(cornerRadiusEnd=2).encode(x=x, color=colour)]
    if known:
        whisker = base.mark_rule(strokeWidth=1.4, opacity=0.75, color=INK[dark], aria=False)
        # in the middle of its bar; a line would stand at its edge
        offset = alt.YOffset("side:N", sort=["Before", "After"], bandPosition=0.5)
        drawn.append(whisker.encode(x=alt.X("low:Q", title=title), x2="high:Q", yOffset=offset))
    height = 95 + data["skill"].nunique() * (30 if data["side"].nunique() > 1 else 22)
    chart: Any = alt.layer(*drawn)
    return chart.properties(height=height)  # type: ignore[no-any-return]


def skill_map(
    frame: pd.DataFrame, x_title: str, *, dark: bool = False, pick: str | None = "point"
) -> alt.LayerChart:  # fmt: skip
    """Draw the accuracy on every skill under every plan of a sweep.

    Args:
        frame: one line a skill and plan: `number`, `x` (label), `skill`, `accuracy`, `plan`, and `state` as in
            `sweep_frame`.
        x_title: what the plans change.
        dark: whether it is drawn on a dark page.
        pick: name of the selection that a click sets, or None.
    """
    states = zip(frame["state"], frame["accuracy"], strict=True)
    said = [state_words(state, value, "skill_accuracy") for state, value in states]
    data = frame.assign(said=said, mark=[MARKS.get(state, "") for state in frame["state"]])
    base = alt.Chart(data).encode(
        x=alt.X("x:N", title=x_title, sort=list(dict.fromkeys(data["x"])), axis=_labels()),
        y=alt.Y("skill:N", title=None, sort=list(dict.fromkeys(data["skill"])), axis=_labels(labelLimit=130)),
    )
    stroke: dict[str, Any] = {"stroke": PAPER[dark], "strokeWidth": 1, "cornerRadius": 1.5}
    empty = base.transform_filter("datum.state === 'waiting'").mark_rect(**waiting(dark))
    done = base.transform_filter("datum.state === 'done'").mark_rect(**stroke)
    crossed = base.transform_filter(FIGURELESS)
    refused = crossed.mark_rect(color=GREY[dark], **stroke)
    cross = crossed.mark_text(fontSize=11, color=INK[dark]).encode(text="mark:N")
    done = done.encode(color=_ramp("accuracy", "Accuracy", (0.0, 1.0), ".0%"))
    tooltip = [
        alt.Tooltip("skill:N", title="Skill"),
        alt.Tooltip("x:N", title=x_title),
        alt.Tooltip("said:N", title="Accuracy"),
        alt.Tooltip("plan:N", title="Plan"),
    ]
    target: Any = base.mark_rect(opacity=0).encode(tooltip=tooltip)
    if pick is not None:
        target = target.add_params(
            alt.selection_point(name=pick, fields=["number"], on="click", toggle=False, empty=False)
        )
    return _plain(
        alt.layer(empty, done, refused, cross, target).properties(height=AROUND + ROW * frame["skill"].nunique())
    )


def _figures(data: pd.DataFrame, metric: str, title: str, log: bool | None) -> alt.Y:
    scale = value_scale(data["value"], metric, log=log)
    title = title if scale.spread == "linear" else f"{title} (log scale)"
    return alt.Y("value:Q", title=title, scale=axis_scale(scale), axis=value_axis(scale, metric))


def _map(
    data: pd.DataFrame, x: str, y: str, columns: list[Any], rows: list[Any], colour: alt.Color, dark: bool,
    x_title: str | None, y_title: str | None, tooltip: list[alt.Tooltip],
) -> alt.Chart:  # fmt: skip
    chart: alt.Chart = (
        alt.Chart(data)
        .mark_rect(stroke=PAPER[dark], strokeWidth=1, cornerRadius=1.5)
        .encode(
            x=alt.X(f"{x}:N", title=x_title, sort=columns, axis=_labels()),
            y=alt.Y(f"{y}:N", title=y_title, sort=rows, axis=_labels(labelLimit=90)),
            color=colour,
            tooltip=tooltip,
        )
        .properties(height=AROUND + max(120, min(ROW * len(rows), 420)))
        .configure_view(strokeWidth=0)
    )
    return chart


def _ramp(column: str, title: str, domain: tuple[float, float], number: str = ".2~f") -> alt.Color:
    legend = alt.Legend(
        orient="top", title=title, format=number, gradientLength=180, gradientThickness=9, tickCount=3, titleLimit=200
    )
    return alt.Color(f"{column}:Q", scale=alt.Scale(domain=list(domain)), legend=legend)


def _labels(**more: Any) -> alt.Axis:
    return alt.Axis(
        labelAngle=0,
        labelOverlap=True,
        labelSeparation=5,
        labelFlush=False,
        ticks=False,
        domain=False,
        grid=False,
        **more,
    )


def _plain(chart: Any) -> alt.LayerChart:
    drawn: alt.LayerChart = chart.configure_view(strokeWidth=0)
    return drawn
