"""Many tests at once, as the rows of a sweep are."""

from __future__ import annotations

import numpy as np

from surgery_core.statistics.units import Array

RATE = 0.05
"""Share of false discoveries among those reported, on average, at most."""


def get_ready() -> None:
    """Load what tests load at first use, so that the first of them does not take a second."""
    from scipy import stats

    _ = stats


def discoveries(p: Array, rate: float = RATE) -> Array:
    """Return which of a family of p-values `[n]` are discoveries at a false discovery rate.

    Benjamini and Hochberg (Journal of the Royal Statistical Society B 57, 1995, 289-300). Rows whose p is NaN, those
    that were refused or compute no numbers, do not belong to the family.
    """
    from scipy import stats

    p = np.asarray(p, dtype=np.float64)
    known = np.isfinite(p)
    found = np.zeros(p.shape, dtype=bool)
    if known.any():
        found[known] = stats.false_discovery_control(p[known], method="bh") <= rate
    return found
