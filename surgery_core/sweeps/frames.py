"""Frames that the charts of a sweep draw: what was planned, what came of it, and how far its figures reach."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from surgery_core.statistics.family import discoveries
from surgery_core.sweeps.kinds import Axis, SweepKind, SweepPoint
from surgery_core.sweeps.rows import SweepRow

SHARES = ("top1", "top5", "skill_accuracy", "distinct_2")
"""Metrics from 0 to 1, the more the better."""
FROM_ZERO = ("loss_change", "kl", "block_influence", "angular_distance", "contribution_norm")
"""Metrics whose bars begin at 0."""
OF_LOSS = ("perplexity", "bits_per_byte", "loss_change")
"""Metrics that say the same of a plan as its loss."""
TESTED = (*OF_LOSS, "skill_accuracy")
"""Metrics of which it is known whether a plan can be told from the starting plan."""
LOGARITHMIC = ("perplexity",)
"""Metrics whose axis is logarithmic unless a linear one is asked for: they are exponentials, and damage multiplies."""
OUTLIER = 8.0
"""A figure this many times as far from where bars begin as the median one squeezes the rest on a linear axis."""

Array = np.ndarray[tuple[int], np.dtype[np.float64]]
_PLAIN_X = ("move", "scale", "painters")
_LAYERS_ON_Y = ("swap-pairs", "replace")


Spread = Literal["linear", "log", "symlog"]


@dataclass(frozen=True)
class ValueScale:
    """How far the figures of a chart reach.

    Attributes:
        low, high: the lowest and the highest figure; nothing finite lies beyond.
        origin: where bars begin: the starting plan's figure, or 0.
        spread: how the axis spreads figures. `"symlog"` is linear around 0 and logarithmic far from it, on both sides.
        knee: distance from `origin` around which colours, and a `"symlog"` axis, go over from linear to logarithmic.
    """

    low: float
    high: float
    origin: float
    spread: Spread = "linear"
    knee: float = 1.0


def sweep_frame(
    kind: SweepKind, labels: Sequence[str], planned: Sequence[SweepPoint | SweepRow], rows: Iterable[SweepRow],
    metric: str,
) -> pd.DataFrame:  # fmt: skip
    """Return one line a planned point: number, x, y, x_at, y_at, plan, value, state, reason, low, high, alike, left.

    Args:
        kind: of the sweep.
        labels: what positions of the starting plan are called.
        planned: all points, or the rows themselves where the points are not known.
        rows: what is known so far.
        metric: the figure in `value`.

    `state` is `"done"`, `"waiting"`, `"refused"`, or `"broken"` where the figure is no number; `x` and `y` are labels,
    `x_at` and `y_at` their order. `low` and `high` are the figure's 95 % interval, NaN where there is none; `alike` says
    that the plan's loss, or for `skill_accuracy` its answers, cannot be told from the starting plan's, at a false discovery
    rate of 5 % over these rows; `left` that it was left early (`SweepRow.left`), with figures of some texts only.
    """
    done = {row.number: row for row in rows}
    of_x, of_y = _names(kind, labels)
    alike = _alike(done.values(), metric)
    lines = []
    for point in planned:
        if point.number < 0:
            continue
        row = done.get(point.number)
        value = math.nan if row is None or row.refused else float(getattr(row, metric))
        state = "waiting" if row is None else "refused" if row.refused else "broken" if math.isnan(value) else "done"
        y = "" if point.y is None else of_y(point.y)
        reason = "" if row is None else row.refused or str(getattr(row, "not_finite", "")) or row.left
        ends = row.interval(metric) if row is not None and state == "done" else (math.nan, math.nan)
        same = state == "done" and metric in TESTED and point.number in alike
        where = (point.number, of_x(point.x), y, point.x, point.y, str(point.plan))
        left = row is not None and row.left != ""
        lines.append((*where, value, state, reason, *ends, same, left))
    columns = ["number", "x", "y", "x_at", "y_at", "plan", "value", "state", "reason", "low", "high", "alike", "left"]
    return pd.DataFrame(lines, columns=columns)


def map_names(places: Iterable[object]) -> list[str]:
    """Return which maps side by side a sweep has, by the word that the `y` of their cells begins with."""
    return list(dict.fromkeys(str(y).split(" ")[0] for y in places))


def map_frame(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the cells of one of the maps of a `sweep_frame`, with `y` as it is called there."""
    part = frame[frame["y"].str.startswith(f"{name} ")]
    rest = part["y"].str.removeprefix(f"{name} ")
    return part.assign(y=rest, y_at=pd.to_numeric(rest, errors="coerce"))


def between(low: float, high: float, metric: str) -> str:
    """Return an interval in words; a dash where there is none."""
    return "–" if math.isnan(low) or math.isnan(high) else f"{figure(low, metric)} to {figure(high, metric)}"


def _alike(rows: Iterable[SweepRow], metric: str) -> set[int]:
    """Return the numbers of the rows whose loss, or whose answers, cannot be told from the starting plan's."""
    p_of = {row.number: row.skill_p if metric == "skill_accuracy" else row.p for row in rows if row.number >= 0}
    tested = {number: p for number, p in p_of.items() if math.isfinite(p)}
    found = discoveries(np.array(list(tested.values())))
    return {number for number, differs in zip(tested, found, strict=True) if not differs}


def skill_map_frame(
    kind: SweepKind, labels: Sequence[str], planned: Sequence[SweepPoint | SweepRow], rows: Sequence[SweepRow],
    skills: Sequence[str],
) -> pd.DataFrame:  # fmt: skip
    """Return one line a planned point and skill: number, x, skill, plan, state, accuracy (0 to 1, NaN where not known).

    Args:
        kind, labels, planned, rows: as for `sweep_frame`.
        skills: titles of the skills that are asked.
    """
    places = sweep_frame(kind, labels, planned, rows, "skill_accuracy")
    known = {row.number: row.skills for row in rows}
    return pd.DataFrame(
        {"number": number, "x": x, "skill": skill, "plan": plan, "state": state,
         "accuracy": known.get(number, {}).get(skill, math.nan)}
        for number, x, plan, state in zip(*(places[name] for name in ("number", "x", "plan", "state")), strict=True)
        for skill in skills
    )  # fmt: skip


def value_scale(
    values: Iterable[float], metric: str, first: float | None = None, *, log: bool | None = None
) -> ValueScale:  # fmt: skip
    """Return a scale that shows all of these figures.

    Args:
        values: the figures; NaN and infinity are passed over.
        metric: what they are.
        first: the starting plan's figure, where bars begin for metrics that have no zero of their own.
        log: whether the axis is to be logarithmic; by default where a linear one would squeeze most figures.
    """
    if metric in SHARES:
        return ValueScale(0.0, 1.0, 0.0)
    found = _finite(values)
    origin = _origin(found, metric, first)
    if not len(found):
        return ValueScale(origin, _beyond(origin), origin)
    away = found - origin
    low, high = min(origin, float(found.min())), max(origin, float(found.max()))
    above = away[away > 0]
    knee = float(np.quantile(above, 0.25)) if len(above) else 1.0
    wanted = wants_log(values=found, metric=metric, first=first) if log is None else log
    spread: Spread = "linear" if not wanted else "log" if low > 0 and metric not in FROM_ZERO else "symlog"
    return ValueScale(low, high if high > low else _beyond(low), origin, spread, knee)


def wants_log(values: Iterable[float], metric: str, first: float | None = None) -> bool:
    """Return whether figures read better on a logarithmic axis: one far from the rest would squeeze them otherwise."""
    if metric in SHARES:
        return False
    if metric in LOGARITHMIC:
        return True
    found = _finite(values)
    away = np.abs(found - _origin(found, metric, first))
    return bool(len(found) > 1 and float(away.max()) > OUTLIER * float(np.median(away)) > 0)


def shades(values: pd.Series, scale: ValueScale, metric: str, *, even: bool = False) -> pd.Series:
    """Return where figures lie on a colour ramp, 0 to 1: linear near the origin and logarithmic far from it.

    A linear ramp would show one catastrophic layer and nothing else. Shares lie on it as they are.

    Args:
        values: the figures.
        scale: of the same, or of these and others that are drawn beside them.
        metric: what they are.
        even: whether the ramp is linear all along, because a person wants it so.
    """
    if metric in SHARES:
        return values.clip(0, 1)
    away = (values - scale.origin).clip(lower=0)
    most = scale.high - scale.origin
    if most <= 0:
        return away * 0
    if even:
        return (away / most).clip(upper=1.0)
    shade: pd.Series = (np.log1p(away / scale.knee) / math.log1p(most / scale.knee)).clip(upper=1.0)
    return shade


def shade_ticks(scale: ValueScale, metric: str, *, even: bool = False) -> dict[float, float]:
    """Return the figures at the ends and in the middle of the colour ramp of `shades`."""
    if metric in SHARES:
        return {0.0: 0.0, 0.5: 0.5, 1.0: 1.0}
    most = max(0.0, scale.high - scale.origin)
    if even:
        return {at: scale.origin + at * most for at in (0.0, 0.5, 1.0)}
    end = math.log1p(most / scale.knee)
    return {at: scale.origin + scale.knee * math.expm1(at * end) for at in (0.0, 0.5, 1.0)}


def axis_ticks(low: float, high: float, scale: ValueScale) -> list[float]:
    """Return round figures for an axis that is not linear."""
    if scale.spread == "log":
        return log_ticks(low, high)
    ends = (abs(low), high)
    found = [log_ticks(max(scale.knee, end / 1e3), end) if end > scale.knee else [] for end in ends]
    return [*(-tick for tick in reversed(found[0]) if low < 0), 0.0, *found[1]]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round figures for a logarithmic axis: powers of ten, and more between those where they are few."""
    if high < 3 * low:
        return _even_ticks(low, high)
    powers = [10.0**at for at in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    if len(powers) > 5:
        return [tick for tick in powers if low <= tick <= high]
    found: list[float] = []
    for steps in ((1, 3), (1, 2, 3, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        found = sorted(step * power for power in powers for step in steps if low <= step * power <= high)
        if len(found) >= 3:
            break
    return found


def _even_ticks(low: float, high: float) -> list[float]:
    """Return three to six round figures at even distances."""
    power = 10.0 ** math.floor(math.log10(max(high - low, 1e-12)))
    step = next((one * power for one in (0.2, 0.5, 1.0, 2.0) if (high - low) / (one * power) <= 6), 5 * power)
    return [round(at * step, 12) for at in range(math.ceil(low / step), math.floor(high / step) + 1)]


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


def _finite(values: Iterable[float]) -> Array:
    return np.asarray([value for value in values if math.isfinite(value)], float)


def _origin(found: Array, metric: str, first: float | None) -> float:
    """Return where bars begin."""
    if metric in FROM_ZERO:
        return 0.0
    if first is not None and math.isfinite(first):
        return float(first)
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
