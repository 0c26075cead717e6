"""Frames that the charts of a sweep draw: what was planned, what came of it, and how far its figures reach."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from surgery_core.sweep_plans import Axis, SweepKind, SweepPoint
from surgery_core.sweep_rows import SweepRow

SHARES = ("top1", "top5", "skill_accuracy", "distinct_2")
"""Metrics from 0 to 1, the more the better."""
FROM_ZERO = ("loss_change", "kl", "block_influence", "angular_distance", "contribution_norm")
"""Metrics whose bars begin at 0."""
OUTLIER = 8.0
"""A figure this many times as far from where bars begin as the median one may be cut off at the end of the axis."""
DECADES = 30.0
"""Largest ratio of figures that a linear axis of bars shows."""
FEW_DECADES = 8.0
"""The same of lines, which are told apart at their low ends."""

_PLAIN_X = ("move", "scale", "painters")
_LAYERS_ON_Y = ("swap-pairs", "replace")


@dataclass(frozen=True)
class ValueScale:
    """How far the figures of a chart reach.

    Attributes:
        low, high: ends of the axis; what lies beyond is cut off there, with its figure beside it.
        origin: where bars begin: the starting plan's figure, or 0.
        log: whether the axis is logarithmic.
        knee: distance from `origin` around which colours go over from linear to logarithmic.
    """

    low: float
    high: float
    origin: float
    log: bool = False
    knee: float = 1.0


def sweep_frame(
    kind: SweepKind, labels: Sequence[str], planned: Sequence[SweepPoint | SweepRow], rows: Iterable[SweepRow],
    metric: str,
) -> pd.DataFrame:  # fmt: skip
    """Return one line a planned point: number, x, y, x_at, y_at, plan, value, state, reason.

    Args:
        kind: of the sweep.
        labels: what positions of the starting plan are called.
        planned: all points, or the rows themselves where the points are not known.
        rows: what is known so far.
        metric: the figure in `value`.

    `state` is `"done"`, `"waiting"` or `"refused"`; `x` and `y` are labels, `x_at` and `y_at` their order.
    """
    done = {row.number: row for row in rows}
    of_x, of_y = _names(kind, labels)
    lines = []
    for point in planned:
        if point.number < 0:
            continue
        row = done.get(point.number)
        state = "waiting" if row is None else "refused" if row.refused else "done"
        value = float(getattr(row, metric)) if state == "done" else math.nan
        y = "" if point.y is None else of_y(point.y)
        reason = row.refused if row is not None else ""
        lines.append((point.number, of_x(point.x), y, point.x, point.y, str(point.plan), value, state, reason))
    columns = ["number", "x", "y", "x_at", "y_at", "plan", "value", "state", "reason"]
    return pd.DataFrame(lines, columns=columns)


def value_scale(values: Iterable[float], metric: str, first: float | None = None, *, cut: bool = True) -> ValueScale:
    """Return a scale that shows these figures; a few catastrophic ones do not flatten the rest.

    Args:
        values: the figures; NaN and infinity are passed over.
        metric: what they are.
        first: the starting plan's figure, where bars begin for metrics that have no zero of their own.
        cut: whether a few figures far above the rest may be cut off.
    """
    if metric in SHARES:
        return ValueScale(0.0, 1.0, 0.0)
    found = np.asarray([value for value in values if math.isfinite(value)], float)
    known = first is not None and math.isfinite(first)
    origin = 0.0 if metric in FROM_ZERO else float(first) if known and first is not None else _least(found)
    if not len(found):
        return ValueScale(origin, _beyond(origin), origin)
    away = found - origin
    low, high = min(origin, float(found.min())), max(origin, float(found.max()))
    above = away[away > 0]
    knee = float(np.quantile(above, 0.25)) if len(above) else 1.0
    end = origin + OUTLIER * float(np.median(np.abs(away)))
    within = found[found <= end]
    if cut and 0 < len(found) - len(within) <= len(found) / 4:
        top = max(origin, float(within.max()))
        if not _spans(metric, low, top, DECADES):
            return ValueScale(low, top if top > low else _beyond(low), origin, knee=knee)
    log = _spans(metric, low, high, DECADES if cut else FEW_DECADES)
    return ValueScale(low, high if high > low else _beyond(low), origin, log=log, knee=knee)


def shades(values: pd.Series, scale: ValueScale, metric: str) -> pd.Series:
    """Return where figures lie on a colour ramp, 0 to 1: linear near the origin and logarithmic far from it.

    A linear ramp would show one catastrophic layer and nothing else. Shares lie on it as they are.
    """
    if metric in SHARES:
        return values.clip(0, 1)
    away = (values - scale.origin).clip(lower=0)
    most = float(away[np.isfinite(away)].max()) if np.isfinite(away).any() else 0.0
    if most <= 0:
        return away * 0
    shade: pd.Series = (np.log1p(away / scale.knee) / math.log1p(most / scale.knee)).clip(upper=1.0)
    return shade


def shade_ticks(values: pd.Series, scale: ValueScale, metric: str) -> dict[float, float]:
    """Return the figures at the ends and in the middle of the colour ramp of `shades`."""
    if metric in SHARES:
        return {0.0: 0.0, 0.5: 0.5, 1.0: 1.0}
    away = (values - scale.origin).clip(lower=0)
    most = float(away[np.isfinite(away)].max()) if np.isfinite(away).any() else 0.0
    end = math.log1p(most / scale.knee)
    return {at: scale.origin + scale.knee * math.expm1(at * end) for at in (0.0, 0.5, 1.0)}


def log_ticks(low: float, high: float) -> list[float]:
    """Return round figures for a logarithmic axis: powers of ten, and more between those where they are few."""
    powers = [10.0**at for at in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    if len(powers) > 5:
        return [tick for tick in powers if low <= tick <= high]
    found: list[float] = []
    for steps in ((1, 3), (1, 2, 3, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        found = sorted(step * power for power in powers for step in steps if low <= step * power <= high)
        if len(found) >= 3:
            break
    return found


def figure(value: float, metric: str = "") -> str:
    """Return a figure as charts write it: a share as a percentage, anything else in about three digits."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if metric in SHARES:
        return f"{value:.1%}"
    if metric in FROM_ZERO or metric == "bits_per_byte":
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    if abs(value) >= 1e6:
        return f"{value:.1e}"
    return f"{value:,.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def _beyond(low: float) -> float:
    """Return an upper end for an axis on which there is nothing to tell apart."""
    return low + max(1.0, abs(low) * 1e-3)


def _spans(metric: str, low: float, high: float, ratio: float) -> bool:
    """Whether a linear axis would squeeze the low figures."""
    return metric == "perplexity" and low > 0 and high / low > ratio


def _least(found: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(found.min()) if len(found) else 0.0


class _Positions:
    """Names positions of a plan; anything else goes by what it is."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels

    def __call__(self, at: Axis) -> str:
        known = isinstance(at, int) and 0 <= at < len(self.labels)
        return self.labels[int(at)] if known else _plain(at)


def _plain(at: Axis) -> str:
    return f"{at:g}" if isinstance(at, float) else str(at)


def _names(kind: SweepKind, labels: Sequence[str]) -> tuple[_Positions, _Positions]:
    is_layer = kind.key not in _PLAIN_X and not kind.key.endswith("-middle")
    return _Positions(labels if is_layer else ()), _Positions(labels if kind.key in _LAYERS_ON_Y else ())
