"""What the rows of a sweep say in a few figures, to be held against what papers saw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import pandas as pd

from surgery_core.statistics.items import paired_items
from surgery_core.statistics.verdict import Verdict, judge_items, judge_losses
from surgery_core.sweeps.rows import RIGHT, SweepRow


def ordered(rows: Iterable[SweepRow]) -> list[SweepRow]:
    """Return the points of a sweep that were run, from the least to the most harmful by loss.

    Those that were left before the end are behind all others: they surely are worse than the best.
    """
    found = [row for row in rows if row.number >= 0 and not row.refused and not math.isnan(row.nats)]
    return sorted(found, key=lambda row: (row.left != "", row.loss_change if row.left else row.nats))


def least_harmful(rows: Iterable[SweepRow]) -> SweepRow | None:
    """Return the point of a sweep that does the least harm by loss, or None where none came to figures."""
    return next(iter(ordered(rows)), None)


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
    whole = [row for row in ordered(rows) if not row.left]
    kept = [row for row in whole if row.perplexity <= factor * start.perplexity and isinstance(row.y, int)]
    return max(kept, key=lambda row: (int(row.y or 0), -row.nats), default=None)


def kept_in_the_middle(rows: Iterable[SweepRow]) -> tuple[float, float]:
    """Return the least and the largest share of top-1 predictions kept, the first and the last point left out."""
    found = sorted((row for row in rows if row.number >= 0 and not math.isnan(row.top1)), key=lambda row: row.number)
    middle = [row.top1 for row in found[1:-1]]
    return (min(middle), max(middle)) if middle else (math.nan, math.nan)


@dataclass(frozen=True)
class Best:
    """The best of many plans, chosen on some texts and measured on others, which the choice has not seen.

    The best of many looks better than it is on the texts that it was chosen on. Texts count alike here.

    Attributes:
        row: of the plan.
        n_plans: of how many it is the best.
        n_chosen: texts that it was chosen on: every second one, from the first.
        seen: its perplexity over that of the starting plan, on those.
        unseen: the verdict on the other texts.
    """

    row: SweepRow
    n_plans: int
    n_chosen: int
    seen: float
    unseen: Verdict

    def sentence(self, name: str) -> str:
        """Return what was found, by the name of the plan."""
        unseen = self.unseen
        ends = (
            ""
            if math.isnan(unseen.low)
            else f" (between ×{1 + unseen.low:.3g} and ×{1 + unseen.high:.3g}: {unseen.word})"
        )
        return (
            f"{_headed(unseen.word, self.n_plans, name)} Chosen on every second text, where its perplexity is ×{self.seen:.3g} "
            f"that of the plan it starts from; on the {unseen.n_units} others, ×{1 + unseen.value:.3g}{ends}."
        )


def best_on_unseen(rows: Sequence[SweepRow]) -> Best | None:
    """Return the best plan of a sweep by loss, or None where there is one plan, or there are fewer than two texts."""
    start = next((row for row in rows if row.number < 0), None)
    every = ordered(rows)
    tried = [row for row in every if not row.left]
    if start is None or len(tried) < 2 or len(start.texts) < 2:
        return None
    titles = list(start.texts)
    changes = {row.number: np.array([row.texts[title] - start.texts[title] for title in titles]) for row in tried}
    best = min(tried, key=lambda row: float(changes[row.number][::2].mean()))
    seen, unseen = changes[best.number][::2], changes[best.number][1::2]
    ratio = float(np.exp(min(700.0, float(seen.mean()))))
    return Best(best, len(every), len(seen), ratio, judge_losses(unseen, np.ones(len(unseen))))


@dataclass(frozen=True)
class BestByAnswers:
    """The plan of a sweep with the most right answers, chosen on some items and measured on others.

    Attributes:
        row: of the plan.
        n_plans: of how many it is the best.
        n_chosen: items that it was chosen on: every second one of each skill, from the first.
        seen: its mean accuracy over the skills less that of the starting plan, on those, -1 to 1.
        unseen: the verdict on the other items, item by item.
    """

    row: SweepRow
    n_plans: int
    n_chosen: int
    seen: float
    unseen: Verdict

    def sentence(self, name: str) -> str:
        """Return what was found, by the name of the plan."""
        head = _headed(self.unseen.word, self.n_plans, name, " by skills")
        said = self.unseen.sentence
        return (
            f"{head} Chosen on every second prompt, where its accuracy is {100 * self.seen:+.1f} points against the plan it starts "
            f"from. On the {self.unseen.n_units} others: {said[:1].lower()}{said[1:]}"
        )


def best_on_unseen_items(rows: Sequence[SweepRow]) -> BestByAnswers | None:
    """Return the best plan of a sweep by the skills, chosen and measured on different items.

    It is chosen on every second item of each skill by the mean over skills, of equals the one of the least loss, and its
    answers to the other items are compared with the starting plan's (McNemar). None where there is one plan, or fewer than
    two items of a skill; also for rows of files that have no answers.
    """
    start = next((row for row in rows if row.number < 0), None)
    tried = [row for row in ordered(rows) if row.answers and all(row.answers.values())]
    if start is None or len(tried) < 2 or not start.answers or min(map(len, start.answers.values())) < 2:
        return None
    before = _share(start, 0)
    best = max(tried, key=lambda row: (_share(row, 0), -row.nats))
    right = [[one == RIGHT for given in side.answers.values() for one in given[1::2]] for side in (start, best)]
    n_chosen = sum(len(given[::2]) for given in start.answers.values())
    return BestByAnswers(best, len(tried), n_chosen, _share(best, 0) - before, judge_items(paired_items(*right)))


def _share(row: SweepRow, first: int) -> float:
    """Return the mean accuracy over the skills, on every second item of each."""
    return fmean(given[first::2].count(RIGHT) / len(given[first::2]) for given in row.answers.values())


def _headed(word: str, n_plans: int, name: str, by: str = "") -> str:
    """Return the beginning of what is said of the best of some plans: only what is better on the unseen is named one."""
    if word == "better":
        return f"Best of {n_plans:,}{by}: {name}."
    return f"No winner among {n_plans:,} plans{by}; {name} did best."


def measured_damage(layers: pd.DataFrame, rows: Iterable[SweepRow]) -> pd.DataFrame:
    """Return the layers whose deletion was measured, with `damage`: the change of loss in nats a token.

    Args:
        layers: one line a layer, with its `position`, as of `Importance.frame`.
        rows: of a sweep that deletes each.
    """
    changes = {row.x: row.loss_change for row in rows if row.number >= 0}
    damage = [float(changes.get(position, math.nan)) for position in layers["position"]]
    return layers.assign(damage=damage).dropna(subset=["damage"])


def rank_frame(layers: pd.DataFrame, estimate: str) -> pd.DataFrame:
    """Return one line a layer: layer, estimated (its rank by an estimate), measured (its rank by damage).

    Args:
        layers: of `measured_damage`.
        estimate: the column with the estimate.
    """
    by = {"estimated": ranks(layers[estimate]), "measured": ranks(layers["damage"])}
    return pd.DataFrame({"layer": layers["layer"], **by})


def ranks(values: pd.Series) -> pd.Series:
    """Return ranks, 1 for the largest; ties share their mean rank."""
    return values.rank(ascending=False)


def costliest(layers: pd.DataFrame) -> tuple[str, float] | None:
    """Return the layer whose deletion does the most damage, and that in nats a token; None where none was measured."""
    if layers.empty:
        return None
    worst = layers.sort_values("damage").iloc[-1]
    return str(worst["layer"]), float(worst["damage"])
