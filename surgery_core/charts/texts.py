"""The chart of texts: how well each is predicted before and after surgery."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from surgery_core.charts.layers import SIDES
from surgery_core.charts.style import PAPER, QUIET

ROW = 26
"""Height of a text, in pixels."""
_SPREAD = 20.0
"""How many times the lowest perplexity the highest one is, from which on the axis is logarithmic."""


def text_scores(frame: pd.DataFrame, *, dark: bool = False) -> alt.LayerChart:
    """Draw the perplexity of each text before and after as two dots that a line joins.

    Args:
        frame: one line a text: `title`, `perplexity_before`, `perplexity_after`.
        dark: whether it is drawn on a dark page.
    """
    data = pd.DataFrame(
        {
            "text": _different(list(frame["title"])),
            "before": frame["perplexity_before"],
            "after": frame["perplexity_after"],
        }
    )
    ends = data[["before", "after"]].where(lambda values: values < float("inf"))
    wide = bool(ends.max().max() > _SPREAD * ends.min().min())
    scale = alt.Scale(type="log", nice=False, padding=12) if wide else alt.Scale(zero=False, nice=True, padding=12)
    axis = alt.Axis(tickCount=6, format=",~r", domain=False, ticks=False)
    y = alt.Y("text:N", title=None, sort=None, axis=alt.Axis(labelLimit=190, domain=False, ticks=False))
    tooltip = [
        alt.Tooltip("text:N", title="Text"),
        alt.Tooltip("before:Q", title="Perplexity before", format=",.4~r"),
        alt.Tooltip("after:Q", title="Perplexity after", format=",.4~r"),
    ]
    title = "Perplexity, logarithmic" if wide else "Perplexity"
    line = alt.Chart(data).mark_rule(color=QUIET[dark], strokeWidth=1.5, opacity=0.6, aria=False)
    line = line.encode(y=y, x=alt.X("before:Q", title=title, scale=scale, axis=axis), x2="after:Q")
    long = data.melt("text", var_name="side", value_name="value").merge(data, on="text")
    long["side"] = long["side"].str.capitalize()
    colour = alt.Color(
        "side:N", title=None, scale=alt.Scale(domain=SIDES), legend=alt.Legend(orient="top", values=["Before", "After"])
    )
    dots = alt.Chart(long).mark_point(filled=True, size=90, opacity=1, stroke=PAPER[dark], strokeWidth=1)
    dots = dots.encode(y=y, x="value:Q", color=colour, shape=_shape(), tooltip=tooltip)
    chart: Any = alt.layer(line, dots).properties(height=ROW * max(1, len(data)))
    return chart  # type: ignore[no-any-return]


def _shape() -> alt.Shape:
    """Return what tells the sides apart without colours."""
    legend = alt.Legend(orient="top", values=["Before", "After"])
    return alt.Shape("side:N", title=None, scale=alt.Scale(domain=SIDES, range=["circle", "square"]), legend=legend)


def _different(titles: list[str]) -> list[str]:
    """Return titles of which no two are the same."""
    return [
        title if titles.index(title) == at else f"{title} ({titles[: at + 1].count(title)})"
        for at, title in enumerate(titles)
    ]
