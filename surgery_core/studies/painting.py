"""What is done to the middle of a model, after Sun et al., "Transformer Layers as Painters" (arXiv 2407.09298).

The middle of a size is what is left when as many layers are kept at both ends. It is skipped, run backwards, shuffled, run
in parallel, looped in parallel, or its centre layer runs in place of all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from surgery_core.errors import SettingsError
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.paired import estimates
from surgery_core.statistics.units import Array
from surgery_core.studies.finding import Finding, Picture
from surgery_core.studies.measuring import TEXTS, Measured, measured, n_layers_of, number, one_of, spaced
from surgery_core.studies.ratios import resampled_figure
from surgery_core.studies.study import Study, StudySetup
from surgery_core.sweeps.middle import VARIANTS, middles

SIZES = 4
"""Sizes of the middle by default, evenly spaced."""

Plans = Mapping[str, Mapping[int, tuple[LayerPlan, ...]]]
"""By variant and size; more than one plan where orders are drawn at random."""


def painters_order(setup: StudySetup) -> Finding:
    """Measure how well the order of the six changes agrees with the paper's.

    The figure is Kendall's tau, -1 (reversed) to 1 (the same order), of the variants' mean change of loss over the sizes; its
    interval is a bootstrap over the texts. Of six things in random order, tau is 0.6 or more in 6.8 % of all cases, and
    0.73 or more in 2.8 %.

    Raises:
        SettingsError: when the model has fewer than six layers, or an option is out of range.
        TextError, Stopped: as for `measured`.
    """
    plans = _plans(setup, tuple(VARIANTS), _sizes(setup))
    result = measured(setup, [plan for sizes in plans.values() for some in sizes.values() for plan in some])
    changes = np.array([_mean_over_sizes(result, plans[name]) for name in VARIANTS])
    name = "Kendall's tau of the order here with the paper's"
    figure = resampled_figure(
        name, lambda units: kendall_with_order(changes[:, units].sum(1)), len(result.tokens), setup.seed,
        unit=result.units.name,
    )  # fmt: skip
    others = [
        result.figure(f"Change of loss: {name}, nats a token", row) for name, row in zip(VARIANTS, changes, strict=True)
    ]
    others.sort(key=lambda one: one.value)
    return Finding(figure, tuple(others), _frame(result, plans), _PICTURE, result.note)


def one_against_another(setup: StudySetup) -> Finding:
    """Measure the loss after one change of the middle less that after another.

    Raises:
        SettingsError: when the model has fewer than six layers, or an option is out of range.
        TextError, Stopped: as for `measured`.
    """
    names = [one_of(setup, name, VARIANTS) for name in ("first", "second")]
    plans = _plans(setup, tuple(dict.fromkeys(names)), _sizes(setup))
    result = measured(setup, [plan for sizes in plans.values() for some in sizes.values() for plan in some])
    first, second = (_mean_over_sizes(result, plans[name]) for name in names)
    figure = result.figure(f"Loss after {names[0]} less that after {names[1]}, nats a token", first - second)
    others = tuple(
        result.figure(f"Change of loss: {name}, nats a token", sums)
        for name, sums in zip(names, (first, second), strict=True)
    )
    return Finding(figure, others, _frame(result, plans), _PICTURE, result.note)


def kendall_with_order(losses: Array) -> float:
    """Return Kendall's tau between an order and some losses `[k]`, given in that order.

    Pairs with equal losses count as neither; a loss that is no number makes the whole no number.
    """
    pairs = combinations(np.asarray(losses, dtype=np.float64), 2)
    return float(np.mean([np.sign(later - earlier) for earlier, later in pairs]))


def _sizes(setup: StudySetup) -> list[int]:
    """Return the sizes of the middle that are tried."""
    n = n_layers_of(setup, 6)
    allowed = range(2, n - 1)
    given = setup.options["sizes"]
    if given == []:
        return spaced(allowed, SIZES)
    if not isinstance(given, list) or not all(isinstance(size, int) and size in allowed for size in given):
        raise SettingsError(
            f"The option 'sizes' cannot be {given!r} here; give sizes of 2 to {n - 2}, or an empty list for "
            f"{SIZES} of them."
        )
    return sorted(set(given))


def _plans(setup: StudySetup, names: tuple[str, ...], sizes: list[int]) -> Plans:
    base = LayerPlan.identity(n_layers_of(setup, 6))
    ends = {end - begin: (begin, end) for begin, end in middles(base)}
    shuffles = number(setup, "shuffles", 1, 100)
    seeds = {name: range(setup.seed, setup.seed + (shuffles if name == "shuffle" else 1)) for name in names}
    return {
        name: {size: tuple(VARIANTS[name](base, *ends[size], seed) for seed in seeds[name]) for size in sizes}
        for name in names
    }


def _mean_over_sizes(result: Measured, sizes: Mapping[int, tuple[LayerPlan, ...]]) -> Array:
    """Return the mean change of loss over the sizes, summed over each unit."""
    found: Array = np.mean([result.mean(plans) for plans in sizes.values()], axis=0)
    return found


def _frame(result: Measured, plans: Plans) -> pd.DataFrame:
    lines = []
    for name, sizes in plans.items():
        for size, some in sizes.items():
            found = estimates(result.mean(some), result.tokens)
            value, low, high = (float(part) for part in (found.value, found.low, found.high))
            lines.append({"size": size, "variant": name, "change": value, "low": low, "high": high})
    return pd.DataFrame(lines)


_PICTURE = Picture(
    "lines", "size", "change", series="variant", x_title="Layers in the middle", y_title="Change of loss, nats a token",
    low="low", high="high",
)  # fmt: skip

STUDIES: tuple[Study, ...] = (
    Study(
        "painters", "Six changes of the middle",
        "The middle is skipped, reversed, shuffled, run in parallel, looped in parallel, or replaced by its centre layer: "
        "Kendall's tau between the order of the damage and the paper's order.",
        painters_order, {"sizes": [], "shuffles": 3, "texts": TEXTS},
    ),
    Study(
        "middle-against-middle", "One change of the middle against another",
        "Two of those six changes on the same texts: loss after the one less loss after the other, mean over the sizes.",
        one_against_another,
        {"first": "looped parallel", "second": "parallel", "sizes": [], "shuffles": 3, "texts": TEXTS},
    ),
)  # fmt: skip
