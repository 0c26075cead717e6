"""What the rows of a sweep say in a few figures, to be held against what papers saw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

from surgery_core.sweeps.rows import SweepRow


def ordered(rows: Iterable[SweepRow]) -> list[SweepRow]:
    """Return the points of a sweep that were run, from the least to the most harmful by loss."""
    found = [row for row in rows if row.number >= 0 and not row.refused and not math.isnan(row.nats)]
    return sorted(found, key=lambda row: row.nats)


def variants(rows: Iterable[SweepRow]) -> list[tuple[str, float]]:
    """Return the variants of a sweep of lines and their mean change of loss in nats, the least harmful first.

    Means are over the sizes for which every variant was run.
    """
    found: dict[str, dict[object, float]] = {}
    for row in ordered(rows):
        found.setdefault(str(row.y), {})[row.x] = row.loss_change
    shared = set.intersection(*(set(sizes) for sizes in found.values())) if found else set()
    means = [(name, fmean(sizes[size] for size in shared)) for name, sizes in found.items() if shared]
    return sorted(means, key=lambda one: one[1])


def longest_block(rows: Sequence[SweepRow], factor: float = 2.0) -> SweepRow | None:
    """Return the row of the longest skipped block whose perplexity stays within a factor of the start's, or None."""
    start = next((row for row in rows if row.number < 0), None)
    if start is None:
        return None
    kept = [row for row in ordered(rows) if row.perplexity <= factor * start.perplexity and isinstance(row.y, int)]
    return max(kept, key=lambda row: (int(row.y or 0), -row.nats), default=None)


def kept_in_the_middle(rows: Iterable[SweepRow]) -> tuple[float, float]:
    """Return the least and the largest share of top-1 predictions kept, the first and the last point left out."""
    found = sorted((row for row in rows if row.number >= 0 and not math.isnan(row.top1)), key=lambda row: row.number)
    middle = [row.top1 for row in found[1:-1]]
    return (min(middle), max(middle)) if middle else (math.nan, math.nan)
