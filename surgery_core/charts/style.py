"""Charts of results: pure functions from a DataFrame to an Altair chart.

Colours of scales are left to the theme that draws the chart (Streamlit fills them from `.streamlit/config.toml`);
only text inside a coloured cell has to know whether the theme is dark.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import altair as alt
import numpy as np
import pandas as pd

from surgery_core.text import visible

Chart = TypeVar("Chart", bound=Any)

INK = {False: "#0e1518", True: "#e4eaec"}
"""Text colour on the page's background, by whether the theme is dark."""
PAPER = {False: "#ffffff", True: "#12181b"}
"""The page's background, by whether the theme is dark."""
QUIET = {False: "#59686e", True: "#a3b1b6"}
"""Labels of axes and legends, rules and small print, by whether the theme is dark."""
WORDS = {False: ("#000000", "#ffffff"), True: ("#ffffff", "#000000")}
"""Colours of a word in a cell near the start and near the end of a colour ramp, by whether the theme is dark."""
TURN = {False: 0.69, True: 0.53}
"""Share of the app's ramp of one hue from which the second of `WORDS` reads better."""
CELL = 46
"""Width of a lens cell in pixels: room for a token of six letters, and for two maps of seven on a small laptop."""


def legible(chart: Chart, *, dark: bool = False) -> Chart:
    """Return a chart whose axes and legends are written in a colour that can be read; the theme's is too light."""
    quiet = {"labelColor": QUIET[dark], "titleColor": QUIET[dark]}
    done: Chart = chart.configure_axis(**quiet).configure_legend(**quiet)
    return done


def top_tokens(
    frame: pd.DataFrame, *, most: float = 1.0, dark: bool = False, side: str = "After"
) -> alt.LayerChart:  # fmt: skip
    """Draw the most probable next tokens of one cell as bars.

    Args:
        frame: `rank` (1 is the most probable), `token`, `probability` (0 to 1).
        most: probability at the right end; the same for charts that stand side by side.
        dark: whether it is drawn on a dark page.
        side: "After" or "Before", whose colour the bars have.
    """
    data = frame.assign(side=side, label=frame["probability"].map("{:.1%}".format))
    base = alt.Chart(data).encode(
        y=alt.Y(
            "rank:O",
            title=None,
            axis=labels_axis(list(data["rank"]), [visible(token) for token in data["token"]], "Y"),
        ),
        # The bar that reaches the end needs room for its label.
        x=alt.X("probability:Q", title=None, scale=alt.Scale(domain=[0, most * 1.35]), axis=None),
        tooltip=[
            alt.Tooltip("token:N", title="Token"),
            alt.Tooltip("probability:Q", title="Probability", format=".3%"),
        ],
    )
    colour = alt.Color("side:N", scale=alt.Scale(domain=["After", "Before"]), legend=None)
    bars = base.mark_bar(cornerRadiusEnd=2, height=13).encode(color=colour)
    labels = base.mark_text(align="left", dx=5, fontSize=11, color=INK[dark]).encode(text="label:N")
    chart: alt.LayerChart = alt.layer(bars, labels).properties(height=21 * len(data)).configure_view(strokeWidth=0)
    return chart


def layer_losses(before: pd.DataFrame, after: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the mean loss in nats of the right next token, as the lens reads it after each layer.

    The input row is left out: before any layer the head mostly repeats the token that was read.

    Args:
        before: lens frame of the base model: `row` (0 is the input), `layer`, `target_probability` (NaN where there is no target).
        after: the same of the operated model.

    Returns:
        `side` ("Before" or "After"), `row`, `layer`, `loss`, in running order.
    """
    sides = {"Before": before} if after is None else {"Before": before, "After": after}
    return pd.concat([_mean_loss(frame).assign(side=side) for side, frame in sides.items()], ignore_index=True)


def short(token: str) -> str:
    """Return a token for a narrow cell: without the space before a word, other white space made visible."""
    return visible(token[1:] if token.startswith(" ") and token.strip() else token)


def _mean_loss(frame: pd.DataFrame) -> pd.DataFrame:
    # The smallest positive double stands for a probability that has run out of digits.
    floor = float(np.finfo(np.float64).tiny)
    loss = -np.log(frame["target_probability"].astype(float).clip(lower=floor))
    layers = frame.assign(loss=loss)[frame["row"] > 0]
    means = layers.dropna(subset=["loss"]).groupby("row", sort=True)
    return means.agg(layer=("layer", "first"), loss=("loss", "mean")).reset_index()


def labels_axis(values: list[int], labels: list[str], channel: str, cell: int = CELL) -> alt.Axis:
    """Return an axis that shows a label for each value; two values may have the same label."""
    lookup = json.dumps({str(value): label for value, label in zip(values, labels, strict=True)})
    # ensure_ascii keeps the expression plain; a quote or backslash in a token stays inside its string.
    side = (
        {"orient": "top", "labelAngle": 0, "labelLimit": cell - 2, "labelFlush": False}
        if channel == "X"
        else {"labelLimit": 110, "labelFlush": False}
    )
    return alt.Axis(labelExpr=f"({lookup})[datum.value]", labelOverlap=False, ticks=False, domain=False, **side)


SCALES = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Changes of loss, in nats, that the full colour of a tinted text may stand for."""


def full_colour(frame: pd.DataFrame) -> float:
    """Return the change of loss in nats that gets the full colour: the smallest of `SCALES` within which 19 of 20 lie.

    Args:
        frame: one line a token: `loss_before`, `loss_after`.
    """
    changes = (frame["loss_after"] - frame["loss_before"]).abs().dropna()
    most = float(changes.quantile(0.95)) if len(changes) else 0.0
    return next((scale for scale in SCALES if scale >= most), SCALES[-1])
