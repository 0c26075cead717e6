"""How far a rank correlation may be off."""

from __future__ import annotations

import math

from scipy import special

from surgery_core.statistics.paired import LEVEL


def rank_interval(rho: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of Spearman's rank correlation over n pairs; NaN with fewer than four.

    Fisher's z with the variance of Bonett and Wright (Psychometrika 65, 2000, 23-28): (1 + rho^2 / 2) / (n - 3).
    """
    if n < 4 or math.isnan(rho):
        return math.nan, math.nan
    if abs(rho) >= 1:
        return rho, rho
    half = float(special.ndtri((1 + LEVEL) / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    middle = math.atanh(rho)
    return math.tanh(middle - half), math.tanh(middle + half)
