"""How many units would decide a question, at a power of 80 %."""

from __future__ import annotations

import math

from scipy import special

from surgery_core.statistics.paired import LEVEL

POWER = 0.8
MOST = 1_000_000
"""Units beyond which it is no use to count."""


def power_of(effect: float, spread: float, n: int) -> float:
    """Return how likely a paired t-test at 5 % sees a difference, 0 to 1.

    Args:
        effect: the true difference.
        spread: standard deviation of the units' differences.
        n: units.
    """
    if n < 2:
        return 0.0
    if spread <= 0:
        return 1.0 if effect else 1 - LEVEL
    shift = abs(effect) / spread * math.sqrt(n)
    edge = float(special.stdtrit(n - 1, (1 + LEVEL) / 2))
    tails = 1.0 - float(special.nctdtr(n - 1, shift, edge)) + float(special.nctdtr(n - 1, shift, -edge))
    # far in its tail scipy's distribution is no number, where the power is 1
    return 1.0 if math.isnan(tails) else tails


def units_needed(effect: float, spread: float, power: float = POWER) -> int | None:
    """Return how many units see a true difference with a power, or None where more than a million would be needed."""
    if not effect or not math.isfinite(effect) or not math.isfinite(spread):
        return None
    low, high = 1, 2
    while power_of(effect, spread, high) < power:
        low, high = high, high * 2
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(effect, spread, middle) >= power else (middle, high)
    return high
