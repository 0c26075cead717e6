"""Intervals of figures that are no means, from what they come to without some of the units."""

from __future__ import annotations

import numpy as np
from scipy import special

from surgery_core.statistics.paired import LEVEL
from surgery_core.statistics.units import Array

GROUPS = 20
"""Groups of a jackknife at most: enough that Student's quantile with 19 degrees is close to the normal one."""


def left_out(n: int, groups: int = GROUPS) -> list[Array]:
    """Return which of n units, by number, each sample of a jackknife leaves out: every g-th, from each start."""
    many = min(groups, n)
    return [np.arange(start, n, many) for start in range(many)]


def jackknife_interval(value: float, without: Array) -> tuple[float, float]:
    """Return the 95 % interval of a figure from what it comes to without each of g groups.

    The variance is (g - 1) / g times the sum of squares about the mean (Shao and Tu, The Jackknife and Bootstrap, 1995,
    section 2.3); the interval is Student's with g - 1 degrees of freedom.

    Args:
        value: of all units.
        without: `[g]`, without each group.
    """
    g = len(without)
    if g < 2:
        return float("nan"), float("nan")
    spread = float(np.sqrt((g - 1) / g * np.square(without - without.mean()).sum()))
    half = float(special.stdtrit(g - 1, (1 + LEVEL) / 2)) * spread
    return value - half, value + half
