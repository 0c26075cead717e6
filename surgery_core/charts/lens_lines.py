"""Charts of a lens over the layers: a token's or a text's trajectory, averages with their spread, a lens's quality."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import altair as alt
import numpy as np
import pandas as pd

from surgery_core.charts.lens_maps import named
from surgery_core.lenses.metrics import METRICS, Metric

SIDES = ("Before", "After")


def layer_lines(frame: pd.DataFrame, metric: str, *, title: str | None = None) -> alt.LayerChart:
    """Draw a statistic over the layers, a line a side, with a band around it where there is one.

    Args:
        frame: `side`, `row`, `layer`, `value`; with `low` and `high` for a band.
        metric: name of the statistic.
        title: of the value axis; by default the statistic and its unit.
    """
    what = METRICS[metric]
    log = what.scale == "log"
    names = [name for name in ("value", "low", "high") if name in frame]
    data = frame.assign(**{name: _above(frame[name], what) for name in names})
    if log:
        scale, axis = alt.Scale(type="log"), _decades(data[names])
    else:
        form: dict[str, Any] = {"format": ".0%"} if what.unit == "probability" else {}
        scale, axis = alt.Scale(zero=what.zero), alt.Axis(tickCount=5, labelFlush=False, **form)
    base = alt.Chart(data).encode(x=_rows_x(data), color=_sides(data))
    y = alt.Y("value:Q", title=title or named(what), scale=scale, axis=axis)
    drawn = base.transform_filter("isValid(datum.value)")
    lines = drawn.mark_line(point=alt.OverlayMarkDef(size=36), strokeWidth=2).encode(
        y=y,
        tooltip=[
            alt.Tooltip("side:N", title="Side"),
            alt.Tooltip("layer:N", title="After layer"),
            alt.Tooltip("value:Q", title=named(what), format=".4~g"),
        ],
    )
    bands = [drawn.mark_area(opacity=0.18).encode(y=alt.Y("low:Q"), y2="high:Q")] if "low" in data else []
    return cast("alt.LayerChart", alt.layer(*bands, lines).properties(height=300))


def layer_loss(frame: pd.DataFrame) -> alt.Chart:
    """Draw the loss that the lens reads off after each layer, before and after surgery, by running position.

    Args:
        frame: the output of `charts.layer_losses`.
    """
    known = frame.assign(loss=frame["loss"].where(np.isfinite(frame["loss"])))
    chart: alt.Chart = (
        alt.Chart(known)
        .transform_filter("isValid(datum.loss)")
        .mark_line(point=alt.OverlayMarkDef(size=36), strokeWidth=2)
        .encode(
            x=_rows_x(known),
            y=alt.Y("loss:Q", title="Nats a token", scale=alt.Scale(zero=True)),
            color=_sides(known),
            order="row:Q",
            tooltip=[
                alt.Tooltip("side:N", title="Side"),
                alt.Tooltip("layer:N", title="After layer"),
                alt.Tooltip("loss:Q", title="Nats a token", format=".3f"),
            ],
        )
        .properties(height=320)
    )
    return chart


def lens_quality(frame: pd.DataFrame) -> alt.Chart:
    """Draw how far what each lens reads is from the model's own output, by the layer that the state enters.

    Args:
        frame: `layer` (its number), and of `tuned_lens`, `logit_lens` and `jacobian_lens` those that were measured: mean
            KL(final || lens) in nats.
    """
    known = {"tuned_lens": "Tuned lens", "logit_lens": "Logit lens", "jacobian_lens": "Jacobian lens"}
    titles = {name: title for name, title in known.items() if name in frame}
    long = frame.melt("layer", list(titles), "lens", "kl").assign(lens=lambda rows: rows["lens"].map(titles))
    long["name"] = long["layer"].map(lambda number: "input" if number == 0 else f"L{number - 1}")
    order = list(dict.fromkeys(long["name"]))
    chart: alt.Chart = (
        alt.Chart(long.assign(kl=long["kl"].clip(lower=METRICS["kl"].floor)))
        .mark_line(point=alt.OverlayMarkDef(size=36), strokeWidth=2)
        .encode(
            x=alt.X("name:N", title=None, sort=order, axis=alt.Axis(labelAngle=0, labelOverlap=True, grid=False)),
            y=alt.Y("kl:Q", title="KL to the output (nats)", scale=alt.Scale(type="log"), axis=_decades(long[["kl"]])),
            color=alt.Color(
                "lens:N", title=None, scale=alt.Scale(domain=list(titles.values())), legend=alt.Legend(orient="top")
            ),
            tooltip=[
                alt.Tooltip("lens:N", title="Lens"),
                alt.Tooltip("name:N", title="After"),
                alt.Tooltip("kl:Q", title="KL, nats", format=".4~g"),
            ],
        )
        .properties(height=220)
    )  # fmt: skip
    return chart


def _decades(values: pd.DataFrame) -> alt.Axis:
    """Return an axis with a line a power of ten; a logarithmic one draws many more by itself."""
    finite = values.to_numpy(dtype=float)
    finite = finite[np.isfinite(finite) & (finite > 0)]
    low, high = (finite.min(), finite.max()) if len(finite) else (1.0, 1.0)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return alt.Axis(values=[10.0**power for power in powers], format="~g", labelFlush=False)


def _above(values: pd.Series[float], what: Metric) -> pd.Series[float]:
    """Return values for an axis; a divergence of nothing, as at the output itself, has no place on a logarithmic one."""
    values = values.astype(float)
    return values.mask(values < what.floor) if what.scale == "log" else values


def _sides(data: pd.DataFrame) -> Any:
    """Return the colours of the sides; a single one has the theme's first colour and needs no legend."""
    if data["side"].nunique() < 2:
        return alt.Undefined
    legend = alt.Legend(orient="top", symbolOpacity=1, values=list(SIDES))
    return alt.Color("side:N", title=None, scale=alt.Scale(domain=["After", "Before"]), legend=legend)


def _rows_x(frame: pd.DataFrame) -> alt.X:
    """Return an axis of rows, named by layer; where the sides differ, before's name above after's."""
    names: dict[int, list[str]] = {}
    for side in SIDES:
        for row, layer in frame[frame["side"] == side].drop_duplicates("row")[["row", "layer"]].itertuples(index=False):
            known = names.setdefault(int(row), [])
            if str(layer) not in known:
                known.append(str(layer))
    lookup = json.dumps({str(row): labels if len(labels) > 1 else labels[0] for row, labels in names.items()})
    differ = any(len(labels) > 1 for labels in names.values())
    axis = alt.Axis(
        labelExpr=f"({lookup})[datum.value]", labelAngle=0, labelOverlap=True, grid=False, labelLineHeight=12,
        titleFontWeight="normal",
    )  # fmt: skip
    title = "Layer (before surgery above, after it below)" if differ else None
    return alt.X("row:O", title=title, axis=axis, scale=alt.Scale(domain=sorted(names)))
