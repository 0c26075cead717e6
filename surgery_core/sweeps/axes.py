"""Axes of a sweep's figures: linear, or logarithmic where one figure is far from the rest. Nothing is cut off."""

from __future__ import annotations

from typing import Any

import altair as alt

from surgery_core.sweeps.frames import SHARES, ValueScale, axis_ticks


def axis_scale(scale: ValueScale) -> alt.Scale:
    """Return the scale of an axis of figures."""
    return alt.Scale(domain=axis_ends(scale), nice=False, **kind_of(scale))


def kind_of(scale: ValueScale) -> dict[str, Any]:
    """Return what a chart's scale says about how it spreads figures."""
    kinds: dict[str, dict[str, Any]] = {"log": {"type": "log"}, "symlog": {"type": "symlog", "constant": scale.knee}}
    return kinds.get(scale.spread, {"zero": False})


def axis_ends(scale: ValueScale) -> list[float]:
    """Return how far an axis reaches, with room beyond the highest figure."""
    if scale.spread == "log":
        return [scale.low / 1.1, scale.high * 1.15]
    room = 0.2 * (scale.high - scale.low) if scale.high != 1 or scale.low != 0 else 0.0
    return [scale.low - room if scale.low < scale.origin else scale.low, scale.high + room]


def value_axis(scale: ValueScale, metric: str, *, live: bool = False) -> alt.Axis:
    """Return an axis of figures, with few and round ones; those of a live chart are the browser's choice."""
    plain: dict[str, Any] = {"domain": False, "ticks": False}
    if scale.spread != "linear" and not live:
        low, high = axis_ends(scale)
        return alt.Axis(values=axis_ticks(low, high, scale), format=",.4~r", **plain)
    return alt.Axis(
        format=".0%" if metric in SHARES else ",.4~r", tickCount=5, labelOverlap=True, labelSeparation=6, **plain
    )  # fmt: skip
