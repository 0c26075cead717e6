"""Right and wrong answers before and after: the difference of two shares, paired where the items are the same.

What needs `scipy.stats` loads it at first use: that takes half a second, which most work does without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from surgery_core.errors import InputError
from surgery_core.statistics.paired import LEVEL


@dataclass(frozen=True)
class Items:
    """How often items were right, before and after, and what can be said of the difference.

    Attributes:
        n: items.
        before, after: how many were right.
        gained, lost: how many became right, and wrong.
        value: the share that is right after less before, -1 to 1.
        low, high: its 95 % interval: Newcombe's hybrid score interval for paired shares (Statistics in Medicine 17,
            1998, 2635-2650, method 10), which is right at 0 % and at 100 %.
        p: two-sided, of McNemar's exact test (Psychometrika 12, 1947): the binomial test of gained against lost.
    """

    n: int
    before: int
    after: int
    gained: int
    lost: int
    value: float
    low: float
    high: float
    p: float


def paired_items(before: Sequence[bool], after: Sequence[bool]) -> Items:
    """Return what can be said of right and wrong answers to the same items.

    Raises:
        InputError: when there is no item, or not as many on both sides.
    """
    if not before or len(before) != len(after):
        raise InputError(
            f"There are {len(before)} answers before and {len(after)} after; give one of each for every item."
        )
    pairs = list(zip(before, after, strict=True))
    gained, lost = sum(not a and b for a, b in pairs), sum(a and not b for a, b in pairs)
    return items_of(len(pairs), sum(before), gained, lost)


def items_of(n: int, before: int, gained: int, lost: int) -> Items:
    """Return the same from counts: items, those right before, those that became right, and wrong."""
    after = before + gained - lost
    from scipy import stats

    p = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    low, high = _newcombe(n, before, after, both=before - lost)
    return Items(n, before, after, gained, lost, (after - before) / n, low, high, p)


def shares(before: int, n_before: int, after: int, n_after: int) -> Items:
    """Return what can be said where only counts of right answers are known, as of published results.

    Which answers changed is not known then, so the two counts are taken as independent: Fisher's exact test, and
    Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, 873-890, method 10). `gained` and `lost` are -1.
    """
    from scipy import stats

    p1, p2 = after / n_after, before / n_before
    (low_1, high_1), (low_2, high_2) = wilson(after, n_after), wilson(before, n_before)
    low = p1 - p2 - math.hypot(p1 - low_1, high_2 - p2)
    high = p1 - p2 + math.hypot(high_1 - p1, p2 - low_2)
    table = [[after, n_after - after], [before, n_before - before]]
    p = float(stats.fisher_exact(table).pvalue)
    return Items(min(n_before, n_after), before, after, -1, -1, p1 - p2, low, high, p)


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, Journal of the American Statistical Association 22, 1927)."""
    from scipy import stats

    interval = stats.binomtest(right, n).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def mean_share(counts: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of independent shares, each of which counts alike.

    Put together from Wilson's of each (Zou and Donner, Statistics in Medicine 27, 2008, 1693-1702), so that it is right
    where shares are 0 or 100 %. Of a single share it is Wilson's own.

    Args:
        counts: how many are right, and of how many; none of nothing.
    """
    shares = [(right / n, wilson(right, n)) for right, n in counts]
    mean = math.fsum(share for share, _ in shares) / len(shares)
    below = math.hypot(*(share - low for share, (low, _) in shares)) / len(shares)
    above = math.hypot(*(high - share for share, (_, high) in shares)) / len(shares)
    return max(0.0, mean - below), min(1.0, mean + above)


def _newcombe(n: int, before: int, after: int, both: int) -> tuple[float, float]:
    (low_1, high_1), (low_2, high_2) = wilson(after, n), wilson(before, n)
    p1, p2 = after / n, before / n
    phi = _phi(n, before, after, both)
    below = (p1 - low_1) ** 2 - 2 * phi * (p1 - low_1) * (high_2 - p2) + (high_2 - p2) ** 2
    above = (high_1 - p1) ** 2 - 2 * phi * (high_1 - p1) * (p2 - low_2) + (p2 - low_2) ** 2
    return p1 - p2 - math.sqrt(max(0.0, below)), p1 - p2 + math.sqrt(max(0.0, above))


def _phi(n: int, before: int, after: int, both: int) -> float:
    """Return the correlation of the two answers, corrected for continuity where it is positive, as Newcombe has it."""
    neither = n - before - after + both
    lost, gained = before - both, after - both
    margins = before * after * (n - before) * (n - after)
    if not margins:
        return 0.0
    cross = float(both * neither - lost * gained)
    if cross > 0:
        cross = max(cross - n / 2, 0)
    return cross / math.sqrt(margins)
