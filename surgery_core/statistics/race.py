"""Which of many plans are surely not among the best, when only some of the texts have been measured.

Texts are taken in a random order, and looked at a few times on the way: a sample without replacement from the texts that
would be measured in the end. Each plan's change against the starting plan gets an interval at each look, and all of these
together hold with a probability of 95 % (Bonferroni over plans and looks). The interval is Student's for a ratio, with the
correction for a finite population (Cochran, Sampling Techniques, 3rd ed., 1977, sections 2.6 and 6.3): what is still open
is only what the texts that are left will say. A plan whose interval lies above those of `best` others is not one of the
`best`, whatever those texts say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from surgery_core.statistics.paired import LEVEL, estimates
from surgery_core.statistics.units import LEAST_TEXTS, Array


def looks_at(n_texts: int) -> tuple[int, ...]:
    """Return after how many texts plans are looked at: 8, then twice as many each time, and all of them at the end."""
    looks = []
    at = LEAST_TEXTS
    while at < n_texts:
        looks.append(at)
        at *= 2
    return (*looks, n_texts)


GO_ON = (1.0, 0.5, 0.35, 0.25)
"""Share of the plans that a round still has to measure, about, for estimates of time: as seen on pairs that are swapped."""


def expected_share(n_texts: int) -> float:
    """Return about which part of the whole work a race takes, 0 to 1."""
    looks = looks_at(n_texts)
    parts = np.diff([0, *looks]) / n_texts
    return float(sum(part * GO_ON[min(at, len(GO_ON) - 1)] for at, part in enumerate(parts)))


def surely_behind(changes: Array, sizes: Array, *, of: int, best: int, tests: int) -> Array:
    """Return which plans are not among the best, `[plans]` of bool.

    Args:
        changes: `[plans, n]`, the summed change of loss of each text that was measured, in nats; NaN where a plan computes
            no numbers, which is never among the best.
        sizes: `[n]`, tokens of each text.
        of: texts in all; the n are a random sample of them.
        best: how many are looked for, at least 1.
        tests: intervals that must hold together: plans times looks.
    """
    found = estimates(changes, sizes, level=1 - (1 - LEVEL) / tests)
    half = (found.high - found.low) / 2 * np.sqrt(max(0.0, 1 - found.n / of))
    numbers = np.isfinite(found.value) & np.isfinite(half)
    low, high = np.where(numbers, found.value - half, np.inf), np.where(numbers, found.value + half, np.inf)
    if len(high) <= best:
        return np.zeros(len(high), dtype=bool)
    behind: Array = low > np.sort(high)[best - 1]
    return behind


def in_rounds(n_texts: int, looks: Sequence[int], seed: int = 0) -> list[Array]:
    """Return which texts, by number, are measured before each look, in an order drawn at random."""
    order = np.random.default_rng(seed).permutation(n_texts)
    return np.split(order, np.asarray(looks[:-1], dtype=np.int64))
