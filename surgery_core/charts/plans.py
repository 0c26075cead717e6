"""Charts of several plans at once: a line a plan over the layers, and a dot a plan for every skill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import altair as alt
import numpy as np
import pandas as pd

from surgery_core.charts.style import PAPER, QUIET
from surgery_core.charts.theme import COLOURS

if TYPE_CHECKING:
    from surgery_core.measure.results import Comparison

DASHES: tuple[list[int], ...] = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 4], [4, 4], [1, 4])
"""What tells lines apart without their colours; the first is that of the unchanged model."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-left")
_COLOURS = {
    False: ("#66757b", "#1f6f8b", "#b4532a", "#8a6f1c", "#6b5b95", "#2f7d4f", "#b0367a"),
    True: ("#93a2a8", "#5aa9c2", "#d98a5f", "#c9b06a", "#a797cf", "#7cc49a", "#e58bbb"),
}
"""One for the unchanged model and six for plans, by whether the page is dark."""
ROW = 15
"""Height of one plan's dot in a skill's row, in pixels."""


def plan_lines(frame: pd.DataFrame, names: Sequence[str], *, dark: bool = False) -> alt.Chart:
    """Draw the loss that a lens reads off after each layer, a line a plan, by running position.

    Args:
        frame: one line a plan and row: `plan` (its name), `row`, `layer` (label), `loss` in nats a token.
        names: of the plans in the order of the legend, the unchanged model first; at most seven.
        dark: whether it is drawn for a dark page.
    """
    known = frame.assign(loss=frame["loss"].where(np.isfinite(frame["loss"])))
    chart = (
        alt.Chart(known)
        .transform_filter("isValid(datum.loss)")
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=24))
        .encode(
            x=alt.X("row:O", title="Running position", axis=alt.Axis(labelAngle=0, labelOverlap=True, grid=False)),
            y=alt.Y("loss:Q", title="Nats a token", scale=alt.Scale(zero=True)),
            order="row:Q",
            color=_colour(names, dark, lines=True),
            strokeDash=alt.StrokeDash(
                "plan:N",
                scale=alt.Scale(domain=list(names), range=DASHES[: len(names)]),
                title=None,
                legend=_legend(lines=True),
            ),
            tooltip=[
                alt.Tooltip("plan:N", title="Plan"),
                alt.Tooltip("layer:N", title="After layer"),
                alt.Tooltip("loss:Q", title="Nats a token", format=".3f"),
            ],
        )
        .properties(height=300)
    )
    return cast("alt.Chart", chart)


def plan_skills(frame: pd.DataFrame, names: Sequence[str], *, dark: bool = False) -> alt.LayerChart:
    """Draw how much of each skill every plan gets right, with 95 % intervals.

    Args:
        frame: one line a plan and skill: `plan`, `skill`, `accuracy`, `low`, `high`, all shares.
        names: as for `plan_lines`.
        dark: whether it is drawn for a dark page.
    """
    skills = list(dict.fromkeys(frame["skill"]))
    y = alt.Y("skill:N", title=None, sort=skills, axis=alt.Axis(labelLimit=150, domain=False, ticks=False))
    offset = alt.YOffset("plan:N", sort=list(names))
    axis = alt.Axis(format=".0%", tickCount=5, domain=False, ticks=False)
    x = alt.X("accuracy:Q", title="Answered right", scale=alt.Scale(domain=[0, 1]), axis=axis)
    colour = _colour(names, dark)
    shape = alt.Shape(
        "plan:N", title=None, legend=_legend(), scale=alt.Scale(domain=list(names), range=list(SHAPES[: len(names)]))
    )
    tooltip = [
        alt.Tooltip("plan:N", title="Plan"),
        alt.Tooltip("skill:N", title="Skill"),
        alt.Tooltip("accuracy:Q", title="Answered right", format=".1%"),
        alt.Tooltip("low:Q", title="95 % interval from", format=".1%"),
        alt.Tooltip("high:Q", title="to", format=".1%"),
    ]
    base = alt.Chart(frame)
    lines = base.mark_rule(strokeWidth=1.5, opacity=0.55, aria=False).encode(
        y=y, yOffset=offset, x=alt.X("low:Q", title=None), x2="high:Q", color=colour
    )
    dots = base.mark_point(filled=True, size=64, opacity=1, stroke=PAPER[dark], strokeWidth=1).encode(
        y=y, yOffset=offset, x=x, color=colour, shape=shape, tooltip=tooltip
    )
    height = max(len(skills), 1) * (ROW * len(names) + 8)
    chart: Any = alt.layer(lines, dots).properties(height=height)
    return chart  # type: ignore[no-any-return]


def ratios(found: Mapping[str, Comparison]) -> pd.DataFrame:
    """Return what `plan_scores` draws: one line a plan, by name."""
    rows = []
    for name, one in found.items():
        ends = one.interval("ratio")
        rows.append(
            {"plan": name, "ratio": one.ratio, "low": ends.low, "high": ends.high, "verdict": one.verdict().word}
        )
    return pd.DataFrame(rows)


def plan_scores(frame: pd.DataFrame, names: Sequence[str], *, dark: bool = False) -> alt.LayerChart:
    """Draw the perplexity of each plan over that of the unchanged model, with its interval, on a logarithmic axis.

    Args:
        frame: one line a plan: `plan`, `ratio`, `low`, `high`, `verdict`.
        names: as for `plan_lines`, without the unchanged model.
        dark: whether it is drawn for a dark page.
    """
    data = frame.assign(**{name: frame[name].where(np.isfinite(frame[name])) for name in ("ratio", "low", "high")})
    y = alt.Y(
        "plan:N", title=None, sort=list(names),
        axis=alt.Axis(labelLimit=170, labelOverlap=False, domain=False, ticks=False),
    )  # fmt: skip
    ends = np.array([1.0, *data[["ratio", "low", "high"]].to_numpy(dtype=float).ravel()])
    ends = ends[np.isfinite(ends) & (ends > 0)]
    scale = alt.Scale(type="log", nice=False, domain=[float(ends.min()) / 1.03, float(ends.max()) * 1.03])
    form = ".1~e" if ends.max() > 1e5 else "~g"
    axis = alt.Axis(tickCount=6, format=form, domain=False, ticks=False, labelOverlap=True)
    x_title = "Perplexity, times the unchanged model's"
    x = alt.X("ratio:Q", title=x_title, scale=scale, axis=axis)
    tooltip = [
        alt.Tooltip("plan:N", title="Plan"),
        alt.Tooltip("ratio:Q", title="Times", format=".4~g"),
        alt.Tooltip("low:Q", title="95 % interval from", format=".4~g"),
        alt.Tooltip("high:Q", title="to", format=".4~g"),
        alt.Tooltip("verdict:N", title="Verdict"),
    ]
    base = alt.Chart(data).transform_filter("isValid(datum.ratio)")
    one = alt.Chart(pd.DataFrame({"ratio": [1.0]})).mark_rule(color=QUIET[dark], strokeDash=[3, 3], aria=False)
    whiskers = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.5, color=QUIET[dark], aria=False)
    colour = COLOURS[dark]["Categorical"][0]
    dots = base.mark_point(filled=True, size=80, opacity=1, color=colour, stroke=PAPER[dark], strokeWidth=1)
    layers = (
        one.encode(x=x),
        whiskers.encode(y=y, x=alt.X("low:Q", title=x_title), x2="high:Q"),
        dots.encode(y=y, x=x, tooltip=tooltip),
    )
    chart: Any = alt.layer(*layers).properties(height=30 * max(1, len(data)) + 60)
    return chart  # type: ignore[no-any-return]


def _legend(*, lines: bool = False) -> alt.Legend:
    symbol: dict[str, Any] = {"symbolType": "stroke", "symbolSize": 400} if lines else {}
    return alt.Legend(orient="top", columns=2, labelLimit=160, symbolOpacity=1, **symbol)


def _colour(names: Sequence[str], dark: bool, *, lines: bool = False) -> alt.Color:
    scale = alt.Scale(domain=list(names), range=list(_COLOURS[dark][: len(names)]))
    return alt.Color("plan:N", title=None, scale=scale, legend=_legend(lines=lines))
