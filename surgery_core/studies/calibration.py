"""Does the text or the search decide which layers go? (Kim et al., "Rethinking Layer Redundancy: Calibration Matters More
Than Search in LLM Depth Pruning", arXiv 2604.24938.)

The paper compares pruned subsets under several calibration configurations and searches. Here sets of texts are the
configurations; one-shot and greedy removal by loss, Block Influence and angular distance are the searches. How alike two
removed sets are is their Jaccard index, 0 to 1: the layers in both over the layers in either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from surgery_core.errors import SettingsError
from surgery_core.statistics.units import Array
from surgery_core.stopping import looking
from surgery_core.studies.finding import Figure, Finding, Picture
from surgery_core.studies.layer_orders import SEARCHES, Searches, shortened
from surgery_core.studies.ratios import resampled_figure
from surgery_core.studies.study import Study, StudySetup
from surgery_core.surgery.anatomy import find_layers
from surgery_core.text import Text, text_sets

BY_LOSS = ("one-shot", "greedy")
RANKED = ("one-shot", "influence", "angular")
"""Searches that put all layers in an order."""

Removed = dict[tuple[str, str], frozenset[int]]
"""Layers that are removed, by set of texts and search."""


def _run(setup: StudySetup) -> Finding:
    """Remove layers by every search on every set of texts.

    The figure is the mean Jaccard index between searches on the same texts, less that between sets of texts with the same
    search: above 0 the text decides more than the search, below 0 the search more than the text.

    Its interval is the bootstrap's over texts, drawn anew within each set, all searches run again on what was drawn.
    Drawing makes sets of texts less alike than they are, so the interval is the reflected one.
    """
    chosen, count = _sets(setup), _count(setup)
    look = looking(setup.stop, "Stopped before all searches had ended.")
    tables: dict[str, Searches] = {}
    options: Any = setup.options
    _check_searches(options["searches"])
    done, most = 0, len(chosen) + options["resamples"] + 1

    def told() -> None:
        nonlocal done
        look()
        done += 1
        if setup.on_progress is not None:
            setup.on_progress(min(done, most), most)

    for name, texts in chosen.items():
        tables[name] = Searches(setup.model, setup.tokenizer, texts, setup.stop)
        told()
    compared = _Compared(tables, count, tuple(options["searches"]))

    def value_of(units: Array) -> float:
        told()
        return compared.difference(units)

    figures = partial(compared.figure, seed=setup.seed, times=options["resamples"])
    return Finding(
        figure=figures("Same removed layers: searches on one text, less texts with one search", value_of),
        others=(
            figures("The same, of searches by loss alone", lambda units: compared.difference(units, BY_LOSS)),
            *compared.plain(),
        ),
        frame=compared.frame(),
        picture=Picture(
            "heat", "one", "other", value="jaccard", x_title="Texts, search", y_title="Texts, search",
            value_title="Removed layers in common (Jaccard)",
        ),
        note=f"{count} of {compared.n} layers are removed, on {len(chosen)} sets of texts.",
    )  # fmt: skip


class _Compared:
    """Sets of removed layers, compared over searches and over texts."""

    def __init__(self, tables: dict[str, Searches], count: int, searches: tuple[str, ...] = SEARCHES) -> None:
        self.tables, self.count, self.searches = tables, count, searches
        self.sizes = [len(table) for table in tables.values()]
        self.n = next(iter(tables.values())).n

    def figure(self, name: str, value_of: Callable[[Array], float], seed: int, times: int) -> Figure:
        """Return a figure with its interval over texts."""
        found = resampled_figure(
            name, value_of, sum(self.sizes), seed, reflected=True, strata=self.sizes, times=max(1, times)
        )
        # turned round, an end can lie where no difference of two shares can
        return replace(found, low=_clipped(found.low), high=_clipped(found.high))

    def difference(self, units: Array, searches: Sequence[str] = ()) -> float:
        """Return the agreement of searches less that of texts, over some texts by number; NaN where there is none."""
        removed = self.removed(units, searches)
        if removed is None:
            return math.nan
        return _between_searches(removed) - _between_texts(removed)

    def removed(self, units: Array, searches: Sequence[str] = ()) -> Removed | None:
        """Return what every search removes on every set, or None where one has no numbers."""
        found: Removed = {}
        for (name, table), own in zip(self.tables.items(), self._apart(units), strict=True):
            for search in searches or self.searches:
                gone = table.removed(search, self.count, own)
                if gone is None:
                    return None
                found[name, search] = gone
        return found

    def plain(self) -> tuple[Figure, ...]:
        """Return both agreements by themselves, and the rank correlations of whole orders."""
        removed, n = self.removed(self._all), sum(self.sizes)
        pairs = {
            "Jaccard of removed layers, searches on one text": _between_searches(removed) if removed else math.nan,
            "Jaccard of removed layers, texts with one search": _between_texts(removed) if removed else math.nan,
            "Kendall's tau of all layers, searches on one text": self._tau(_same_text),
            "Kendall's tau of all layers, texts with one search": self._tau(_same_search),
        }
        return tuple(Figure(name, value, n_units=n) for name, value in pairs.items())

    def frame(self) -> pd.DataFrame:
        """Return one line a pair: one, other ("texts, search"), jaccard, and the layers that each removes."""
        removed = self.removed(self._all) or {}
        names = {key: f"{key[0]}, {key[1]}" for key in removed}
        return pd.DataFrame(
            [
                (names[a], names[b], _jaccard(removed[a], removed[b]), _listed(removed[a]), _listed(removed[b]))
                for a, b in product(removed, removed)
            ],
            columns=["one", "other", "jaccard", "one_removed", "other_removed"],
        )

    @property
    def _all(self) -> Array:
        return np.arange(sum(self.sizes))

    def _apart(self, units: Array) -> list[Array]:
        """Return the numbers of each set's texts."""
        ends = np.cumsum(self.sizes)
        return [
            units[(units >= end - size) & (units < end)] - (end - size)
            for end, size in zip(ends, self.sizes, strict=True)
        ]

    def _tau(self, same: Callable[[tuple[str, str], tuple[str, str]], bool]) -> float:
        """Return the mean of Kendall's tau over pairs of orders."""
        from scipy import stats

        parts = self._apart(self._all)
        costs = {
            (name, search): table.costs(search, own)
            for (name, table), own in zip(self.tables.items(), parts, strict=True)
            for search in RANKED
        }
        if any(np.isnan(cost).any() for cost in costs.values()):
            return math.nan
        found = [float(stats.kendalltau(costs[a], costs[b]).statistic) for a, b in combinations(costs, 2) if same(a, b)]
        return math.fsum(found) / len(found) if found else math.nan


def _clipped(end: float) -> float:
    return end if math.isnan(end) else min(1.0, max(-1.0, end))


def _check_searches(names: Sequence[str]) -> None:
    for name in names:
        if name not in SEARCHES:
            raise SettingsError(f"There is no search {name!r}; there are: {', '.join(SEARCHES)}.")
    if len(set(names)) < 2:
        raise SettingsError(f"Searches cannot be compared with {len(set(names))} of them; give two or more.")


def _same_text(one: tuple[str, str], other: tuple[str, str]) -> bool:
    return one[0] == other[0]


def _same_search(one: tuple[str, str], other: tuple[str, str]) -> bool:
    return one[1] == other[1]


def _between_searches(removed: Removed) -> float:
    return _mean_jaccard(removed, _same_text)


def _between_texts(removed: Removed) -> float:
    return _mean_jaccard(removed, _same_search)


def _mean_jaccard(removed: Removed, same: Callable[[tuple[str, str], tuple[str, str]], bool]) -> float:
    found = [_jaccard(removed[a], removed[b]) for a, b in combinations(removed, 2) if same(a, b)]
    return math.fsum(found) / len(found)


def _jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    return len(one & other) / len(one | other)


def _listed(layers: frozenset[int]) -> str:
    return ", ".join(f"L{layer}" for layer in sorted(layers))


def _count(setup: StudySetup) -> int:
    count, n = setup.options["remove"], len(find_layers(setup.model)[1])
    if not isinstance(count, int) or not 1 <= count < n:
        raise SettingsError(f"{count} layers cannot be removed of {n} to compare searches; give 1 to {n - 1}.")
    return count


def _sets(setup: StudySetup) -> dict[str, tuple[Text, ...]]:
    """Return the sets of texts by name, each cut down to what is to be read.

    Raises:
        SettingsError: for an unknown set, or fewer than two.
    """
    options: Any = setup.options
    names = list(dict.fromkeys(options["sets"]))
    if len(names) < 2:
        raise SettingsError(f"Texts cannot be compared with {len(names)} set; give two or more of {_known()}.")
    return {
        name: shortened(setup.tokenizer, _spread(_set(setup, name), options["texts"]), max(2, options["tokens"]))
        for name in names
    }


def _known() -> str:
    return ", ".join(["given", *text_sets(), *(f"{name}/1" for name in text_sets())])


def _set(setup: StudySetup, name: str) -> tuple[Text, ...]:
    whole, _, half = name.partition("/")
    if half not in ("", "1", "2") or (whole != "given" and whole not in text_sets()):
        raise SettingsError(f"There is no set of texts {name!r}; there are: {_known()} and /2.")
    texts = tuple(setup.texts) if whole == "given" else text_sets()[whole].texts
    return texts if not half else texts[int(half) - 1 :: 2]


def _spread(texts: Sequence[Text], most: int) -> tuple[Text, ...]:
    """Return so many of the texts, from all over them."""
    most = max(1, most)
    if len(texts) <= most:
        return tuple(texts)
    return tuple(texts[number * len(texts) // most] for number in range(most))


CALIBRATION = Study(
    "calibration",
    "Text or search?",
    "Removes layers by four searches on several sets of texts; the figure is how much of what they remove searches have in "
    "common on one text, less what texts have in common with one search.",
    _run,
    {
        "sets": ["short", "stories/1", "stories/2"],
        "searches": list(SEARCHES),
        "remove": 3,
        "texts": 12,
        "tokens": 96,
        "resamples": 200,
    },
)
