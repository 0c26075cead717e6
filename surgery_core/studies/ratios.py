"""Figures of studies that are no plain means: ratios of sums, and what only resampling gives an interval to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from surgery_core.statistics.paired import LEVEL, estimates
from surgery_core.statistics.units import Array
from surgery_core.studies.finding import Figure

RESAMPLES = 1_000
"""Times that units are drawn anew for an interval."""


def ratio_figure(name: str, over: Array, under: Array, *, unit: str = "text", percent: bool = False) -> Figure:
    """Return the ratio of two sums over the same units, with Student's interval over the linearised ratio.

    It is the mean of `over` a unit of `under` (`statistics.paired`; Cochran, Sampling Techniques, 1977, section 6.3).

    Args:
        name: of the figure.
        over: `[n]`, what each unit adds to the sum above the line.
        under: `[n]`, and to the one below it.
        unit: what one is.
        percent: whether it is a share.

    Returns:
        The figure; NaN where a sum is no finite number, or the one below is 0.
    """
    over, under = np.asarray(over, float), np.asarray(under, float)
    if not np.isfinite(over).all() or not np.isfinite(under).all() or not under.sum():
        return nothing(name, len(under), unit=unit, percent=percent)
    found = estimates(over, under)
    return Figure(name, float(found.value), float(found.low), float(found.high), len(under), unit, percent)


def nothing(name: str, n_units: int = 0, *, unit: str = "text", percent: bool = False) -> Figure:
    """Return a figure that has no number."""
    return Figure(name, math.nan, n_units=n_units, unit=unit, percent=percent)


def resampled_figure(
    name: str,
    value_of: Callable[[Array], float],
    n_units: int,
    seed: int,
    *,
    unit: str = "text",
    percent: bool = False,
    reflected: bool = False,
    strata: Sequence[int] = (),
    times: int = RESAMPLES,
) -> Figure:
    """Return a figure with the bootstrap's interval over units, for figures that jump where units change a little.

    The ends are the 2.5 % and 97.5 % quantiles over resamples (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 13). With few units it is somewhat too narrow; a first crossing or a rank has no linearised
    interval, and the jackknife fails for such figures (the same, section 10.6).

    Args:
        name: of the figure.
        value_of: the figure for units `[n]` by number, of which some may be there several times.
        n_units: how many there are.
        seed: of the resampling.
        unit: what one is.
        percent: whether it is a share.
        reflected: whether the quantiles are taken as distances from the figure, and turned round (the basic interval):
            for figures that resampling itself moves in one direction.
        strata: how many of the units, one after the other, are drawn among themselves; by default all of them.
        times: how often units are drawn anew.

    Returns:
        The figure; without an interval where it is no number, or for more than 5 % of the resamples.
    """
    value = value_of(np.arange(n_units))
    if not math.isfinite(value) or n_units < 2:
        return Figure(name, value, n_units=n_units, unit=unit, percent=percent)
    random = np.random.default_rng(seed)
    sizes = np.array(strata or [n_units])
    begins = np.cumsum(sizes) - sizes
    drawn = np.array(
        [
            value_of(
                np.concatenate([b + np.sort(random.integers(0, n, n)) for b, n in zip(begins, sizes, strict=True)])
            )
            for _ in range(times)
        ]
    )
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or len(drawn) < LEVEL * times:
        return Figure(name, value, n_units=n_units, unit=unit, percent=percent)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if reflected:
        low, high = 2 * value - high, 2 * value - low
    # of few units all resamples can lie on one side of the figure; its interval holds it all the same
    return Figure(name, value, min(float(low), value), max(float(high), value), n_units, unit, percent)
