"""How long work will take, counted from how fast the model runs (`speeds`) and from what has to run.

An estimate is given as a span whose ends are a factor of two apart. While the work runs, what is done corrects what
is left, and the span narrows.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from surgery_core.measure.encoding import Encoded, encode_texts
from surgery_core.measure.skills import Skill
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.race import expected_share
from surgery_core.sweeps.file import texts_digest
from surgery_core.sweeps.kinds import SweepPoint, sweep_points
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.rows import SweepRow
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.speeds import PLAIN, Speeds, measure_speeds, scored_tokens
from surgery_core.text import Text

SPREAD = math.sqrt(2)
"""Factor by which a time that was only estimated may be off either way."""
SETTLED = 1.1
"""The same near the end of the work."""
PRIOR = 0.05
"""Share of the whole work that an estimate counts for beside what was measured."""
LENS = 1.5
"""Time of a lens's figures at one row and token, as a multiple of `Speeds.head`: divergences both ways, and a top ten."""
BACKWARD = 1.8
"""Time in which one value of the stream goes backward through a layer, as a multiple of the layer's own.

Gradients are taken with respect to states alone, so each product is made once more, and those of the attention twice.
"""
FIGURES = 0.2
"""Softmax and sums of a training step at one translator and token, as a share of what `Speeds.head` has besides its product."""


@dataclass(frozen=True)
class Span:
    """A time in seconds as far as it is known: from `low` to `high`."""

    low: float
    high: float

    @classmethod
    def about(cls, seconds: float, factor: float = SPREAD) -> Span:
        """Return the span around an estimate that may be off by a factor either way."""
        return cls(seconds / factor, seconds * factor)


@dataclass(frozen=True)
class Costs:
    """What parts of a sweep cost on this machine over its texts, in seconds.

    Attributes:
        layer: one layer over all texts.
        head: the head and the figures of one plan.
        base: those of the base.
        begin: the checks at the beginning of a sweep.
        item: one prompt of a skill, asked of the whole model.
        token: one token, written by the whole model.
        whole: whether plans are run whole, because the model cannot start in the middle.
        n_tokens: scored tokens of all texts.
        texts: how many texts, and their digest, as in a results file.
        speeds: what these were counted from.
        n_texts: how many texts.
    """

    layer: float
    head: float
    base: float
    begin: float
    item: float
    token: float
    whole: bool
    n_tokens: int
    texts: str
    speeds: Speeds
    n_texts: int = 1

    def point_seconds(self, plan: LayerPlan, runs: int, measures: SweepMeasures) -> float:
        """Return how long a plan takes of which so many layers run anew."""
        items = sum(len(skill.items) for skill in measures.skills)
        tokens = measures.new_tokens if measures.prompt is not None else 0
        extras = (items * self.item + tokens * self.token) * self.speeds.depth(_layers(plan))
        return runs * self.layer + self.head * (1.0 if measures.agreement else PLAIN) + extras

    def seconds(self, start: LayerPlan, points: Sequence[SweepPoint], measures: SweepMeasures) -> list[float]:
        """Return how long each point takes."""
        plans = [point.plan for point in points]
        runs = point_runs(start, plans, whole=self.whole)
        return [self.point_seconds(plan, one, measures) for plan, one in zip(plans, runs, strict=True)]

    def start_seconds(self, start: LayerPlan, measures: SweepMeasures) -> float:
        """Return how long a sweep takes before its first point: checks, the base, and the starting plan."""
        identity = LayerPlan.identity(start.n_layers)
        runs = start.n_layers + _layers(start) if self.whole else sum(_new_runs([identity, start]))
        own = self.point_seconds(start, runs, measures)
        return self.begin + own + (self.base if measures.agreement else 0.0)

    def total(self, start: LayerPlan, points: Sequence[SweepPoint], measures: SweepMeasures) -> float:
        """Return how long a whole sweep takes; one for the best plans only takes about a part of it."""
        share = expected_share(self.n_texts) if measures.best is not None and len(points) > measures.best else 1.0
        return self.start_seconds(start, measures) + share * math.fsum(self.seconds(start, points, measures))


def point_runs(start: LayerPlan, plans: Sequence[LayerPlan], *, whole: bool = False) -> list[int]:
    """Return how many layers run for each plan when every beginning that came before runs once.

    Args:
        start: the plan that the sweep starts from; it and the base ran before.
        plans: in the order in which they run.
        whole: whether nothing is shared.
    """
    if whole:
        return [_layers(plan) for plan in plans]
    return _new_runs([LayerPlan.identity(start.n_layers), start, *plans])[2:]


def removal_plans(start: LayerPlan, beam: int, least: int) -> int:
    """Return how many plans a greedy removal tries, at most."""
    return sum(size * min(beam, len(start) - size + 1) for size in range(least + 1, len(start) + 1))


def removal_seconds(costs: Costs, start: LayerPlan, beam: int, least: int, measures: SweepMeasures) -> float:
    """Return how long a greedy removal takes, as if a middle layer went each time.

    Each size is a sweep of its own, over the plans without one more layer, and its best plan is measured anew.
    """
    identity, loss_only = LayerPlan.identity(start.n_layers), SweepMeasures(agreement=False)
    found, plan = 0.0, start
    while len(plan) > least:
        points, width = sweep_points("delete", plan, SweepOptions()), min(beam, len(start) - len(plan) + 1)
        found += costs.start_seconds(identity, loss_only)
        found += width * math.fsum(costs.seconds(plan, points, loss_only))
        plan = points[len(points) // 2].plan
        found += costs.start_seconds(identity, measures) + costs.point_seconds(plan, _layers(plan), measures)
    return found


def remaining(done: float, took: float, left: float) -> Span | None:
    """Return how long the rest takes, corrected by what is done.

    Args:
        done: what the finished part was estimated at, in any unit.
        took: how long it took, in seconds.
        left: what the rest was estimated at, in the same unit; with seconds the estimate itself counts a little, too.

    Returns:
        None where nothing is done yet.
    """
    if done <= 0 or took <= 0:
        return None
    share = left / (done + left)
    return Span.about(took / done * left, SETTLED + (SPREAD - SETTLED) * share)


def corrected(done: float, took: float, left: float) -> Span:
    """Return the same where the estimates are in seconds: they count for a small part of the work themselves."""
    prior = PRIOR * (done + left)
    rate = (took + prior) / (done + prior) if done + prior > 0 else 1.0
    share = left / (done + left) if done + left > 0 else 0.0
    return Span.about(left * rate, SETTLED + (SPREAD - SETTLED) * share)


def sweep_left(
    start: LayerPlan, points: Sequence[SweepPoint], measures: SweepMeasures, rows: Sequence[SweepRow],
    before: Collection[int] = (), costs: Costs | None = None,
) -> Span | None:  # fmt: skip
    """Return how long a sweep goes on, from how fast it went so far and from what was expected of it.

    Args:
        start, points, measures: of the sweep.
        rows: what is there.
        before: numbers of the rows that were there when it was last started; they say nothing of its speed.
        costs: what was expected; without it every point counts alike.

    Returns:
        None where nothing is known yet.
    """
    weights = [1.0] * len(points) if costs is None else costs.seconds(start, points, measures)
    known = {row.number for row in rows}
    left = sum(weight for number, weight in enumerate(weights) if number not in known)
    new = [row for row in rows if row.number >= 0 and row.number not in before]
    done, took = sum(weights[row.number] for row in new), sum(row.seconds for row in new)
    if costs is None:
        return remaining(done, took, left)
    return corrected(done, took, left + (0.0 if known else costs.start_seconds(start, measures)))


def costs_of(speeds: Speeds, encoded: Encoded) -> Costs:
    """Return what a sweep over these texts costs a model that is so fast."""
    scored = scored_tokens(encoded)
    return Costs(
        layer=speeds.run(encoded.batches), head=speeds.head * scored, base=speeds.base * scored, begin=speeds.begin,
        item=speeds.prompt, token=speeds.token, whole=speeds.whole, n_tokens=scored, texts=texts_digest(encoded),
        speeds=speeds, n_texts=len(encoded.texts),
    )  # fmt: skip


def costs_of_long(speeds: Speeds, encoded: Encoded, share: float) -> Costs:
    """Return what a sweep costs over texts of which only a beginning was encoded, that share of their characters."""
    found = costs_of(speeds, encoded)
    return replace(
        found, layer=found.layer / share, head=found.head / share, base=found.base / share,
        n_tokens=round(found.n_tokens / share),
    )  # fmt: skip


def measure_costs(
    model: nn.Module, tokenizer: Any, texts: Iterable[Text] | Text | str, skills: Sequence[Skill] = (), *,
    stop: threading.Event | None = None,
) -> Costs:  # fmt: skip
    """Time a model, and count what a sweep over these texts costs.

    Args:
        model: the base.
        tokenizer: its tokenizer.
        texts: what a sweep will score.
        skills: what may be asked, if anything.
        stop: when set, the work ends with `Stopped`.

    Raises:
        TextError: when there is no text, or one of fewer than two tokens.
        Stopped: when `stop` was set.
    """
    encoded = encode_texts(model, tokenizer, texts)
    return costs_of(measure_speeds(model, tokenizer, skills, stop=stop), encoded)


def reading_seconds(costs: Costs, sides: int = 1) -> float:
    """Return how long texts take to be scored under the base, or under two plans of its depth."""
    return sides * (costs.speeds.n_layers * costs.layer + costs.head)


def lens_seconds(speeds: Speeds, n_tokens: int, window: int, rows: int) -> float:
    """Return how long a lens takes to read so many tokens, in windows, at so many rows."""
    grown = n_tokens * (1 + speeds.window * min(n_tokens, window))
    return speeds.n_layers * speeds.layer * grown + rows * n_tokens * LENS * speeds.head


def lens_texts_seconds(costs: Costs) -> float:
    """Return how long a lens takes to read all texts at every layer of the whole model."""
    return costs.speeds.n_layers * costs.layer + (costs.speeds.n_layers + 1) * LENS * costs.head


def training_seconds(speeds: Speeds, steps: int, tokens_per_step: int, window: int, checks: int) -> float:
    """Return how long a lens takes to train.

    At each translator and token a step makes two products with the unembedding and a softmax, and none of the figures that a
    comparison has (`lenses.gradients`). What is held out, a window at most, is read with one product, `checks` times and at
    the beginning and the end.
    """
    tokens = steps * tokens_per_step
    run = speeds.n_layers * speeds.layer * tokens * (1 + speeds.window * window)
    figures = FIGURES * max(0.0, speeds.head - speeds.product)
    held_out = (min(steps, checks) + 2) * window
    return run + speeds.n_layers * (tokens * (2 * speeds.product + figures) + held_out * (speeds.product + figures))


def jacobian_seconds(speeds: Speeds, d_model: int, texts: int, tokens: int) -> float:
    """Return how long a Jacobian lens takes to fit on texts of so many tokens: each value of the stream goes backward once."""
    each = speeds.n_layers * speeds.layer * tokens * (1 + speeds.window * tokens)
    return texts * each * (1 + d_model * BACKWARD)


def _new_runs(plans: Sequence[LayerPlan]) -> list[int]:
    """Return how many layers each plan adds to the tree of beginnings."""
    tree: dict[Any, Any] = {}
    return [_walk(tree, plan) for plan in plans]


def _walk(tree: dict[Any, Any], plan: LayerPlan) -> int:
    """Put a plan into a tree of beginnings and return how many layers it adds."""
    added = 0
    for slot in plan:
        if slot not in tree:
            tree[slot] = {}
            added += len(slot.layers)
        tree = tree[slot]
    return added


def _layers(plan: LayerPlan) -> int:
    return sum(len(slot.layers) for slot in plan)
