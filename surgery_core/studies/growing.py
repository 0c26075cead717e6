"""What happens as more and more layers go: how many until the perplexity has grown, and what a quiz says there.

Gromov et al., "The Unreasonable Ineffectiveness of the Deeper Layers" (arXiv 2403.17887), remove growing blocks until a
benchmark collapses; Men et al., "ShortGPT" (arXiv 2403.03853, tables 4 and 9), remove layers by Block Influence and find that
perplexity has grown manifold where a benchmark has hardly changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from surgery_core.errors import SettingsError
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.paired import estimates
from surgery_core.statistics.units import Array
from surgery_core.studies.dropping import ORDERS, Curve, removal_curve
from surgery_core.studies.finding import Figure, Finding, Picture, mean_figure
from surgery_core.studies.measuring import TEXTS, Measured, Steps, measured, n_layers_of, number, one_of, spaced
from surgery_core.studies.quizzes import SKILLS, Quiz, answered, quiz_of
from surgery_core.studies.ratios import nothing, ratio_figure, resampled_figure
from surgery_core.studies.study import Study, StudySetup

MOST_REMOVALS = 16
"""Numbers of removed layers that are tried by default, evenly spaced in a deeper model."""


@dataclass(frozen=True, eq=False)
class _Curve:
    """A removal curve as measured.

    Attributes:
        gone: `[k]`, how many layers are gone in each plan.
        plans: the plans.
        changes: `[k, n]`, the change of loss under each, summed over each unit, in nats.
        result: the rest.
    """

    gone: Array
    plans: tuple[LayerPlan, ...]
    changes: Array
    result: Measured


def layers_until(setup: StudySetup) -> Finding:
    """Measure which share of the layers can go until the perplexity has grown by a factor.

    Between two numbers of layers the loss is interpolated; the interval is a bootstrap over the texts.

    Raises:
        SettingsError: when the model has fewer than three layers, or an option is out of range.
        TextError, Stopped: as for `measured`.
    """
    factor = _factor(setup)
    curve = _measured(setup, Steps(setup, 1 + _removals(setup)))
    n, tokens = n_layers_of(setup, 3), curve.result.tokens

    def share(units: Array) -> float:
        means = curve.changes[:, units].sum(1) / tokens[units].sum()
        return crossing(curve.gone, means, math.log(factor)) / n

    name = f"Layers that can go until perplexity is {factor:g} times as high"
    unit = curve.result.units.name
    figure = resampled_figure(name, share, len(tokens), setup.seed, unit=unit, percent=True)
    return Finding(figure, (), _perplexity_frame(curve), _PERPLEXITY, curve.result.note)


def crossing(gone: Array, changes: Array, limit: float) -> float:
    """Return how many layers are gone where the change of loss first reaches a limit, interpolated; all where never.

    Args:
        gone: `[k]`, numbers of layers, growing, from 1 on.
        changes: `[k]`, mean change of loss there; NaN makes the whole NaN.
        limit: above 0, in nats.
    """
    if np.isnan(changes).any():
        return math.nan
    reached = np.flatnonzero(changes >= limit)
    if not len(reached):
        return float(gone[-1])
    to = int(reached[0])
    begin, start = (float(changes[to - 1]), float(gone[to - 1])) if to else (0.0, 0.0)
    return start + (limit - begin) / (float(changes[to]) - begin) * (float(gone[to]) - start)


def quiz_and_prose(setup: StudySetup) -> Finding:
    """Measure what is left of right answers where the perplexity has grown by a factor.

    The figure is the accuracy above chance there over the accuracy above chance before, over the items of the skills: 1 where
    no answer changed, 0 at guessing. Which layers are gone is decided by the texts, not by the items.

    Raises:
        SettingsError: when the model has fewer than three layers, or an option is out of range.
        TextError, Stopped: as for `measured`.
    """
    factor, quiz = _factor(setup), quiz_of(setup)
    steps = Steps(setup, 2 * (1 + _removals(setup)))
    curve = _measured(setup, steps)
    grown = np.flatnonzero(curve.changes.sum(1) / curve.result.tokens.sum() >= math.log(factor))
    last = int(grown[0]) if len(grown) else len(curve.plans) - 1
    base = LayerPlan.identity(n_layers_of(setup, 3))
    right = []
    for plan in (base, *curve.plans[: last + 1]):
        right.append(answered(setup, plan, quiz))
        steps.add()
    # the quiz is only asked up to there
    steps.add(steps.total)
    frame = pd.concat([_perplexity_frame(curve).head(last + 2), _quiz_frame(curve, np.array(right), quiz)])
    figure = kept_above_chance("Answers above chance that are kept", right[0], right[-1], quiz.chance)
    note = _note(
        curve, last, bool(len(grown)), factor, guesses=math.isnan(figure.value) and not np.isnan(right[0]).any()
    )
    return Finding(figure, tuple(_others(curve, last, right, factor)), frame, _BOTH, note)


def kept_above_chance(name: str, before: Array, after: Array, chance: Array) -> Figure:
    """Return the share of accuracy above chance that is left, over items; NaN where it is not known that there was any.

    Args:
        name: of the figure.
        before, after: `[n]`, 1 for a right answer, else 0.
        chance: `[n]`, the share that guessing gets right.
    """
    above = before - chance
    if not mean_figure("", above).low > 0:
        return nothing(name, len(chance), unit="item", percent=True)
    return ratio_figure(name, after - chance, above, unit="item", percent=True)


def _others(curve: _Curve, last: int, right: list[Array], factor: float) -> list[Figure]:
    found = estimates(curve.changes[last], curve.result.tokens)
    value, low, high = (math.exp(min(700.0, float(part))) for part in (found.value, found.low, found.high))
    name = f"Perplexity without {curve.gone[last]} layers, times that before"
    times = Figure(name, value, low, high, found.n, curve.result.units.name)
    sides = ((right[0], "Right answers before"), (right[-1], f"Right answers without {curve.gone[last]} layers"))
    shares = [Figure(name, float(side.mean()), n_units=len(side), unit="item", percent=True) for side, name in sides]
    return [times, *shares]


def _note(curve: _Curve, last: int, grown: bool, factor: float, *, guesses: bool) -> str:
    gone = ", ".join(f"L{layer}" for layer in curve.plans[last].deleted)
    reached = "" if grown else f" The perplexity never became {factor:g} times as high."
    chance = " The unchanged model answers no better than guessing, so nothing can be kept." if guesses else ""
    return f"Layers gone at that point: {gone}.{reached}{chance} {curve.result.note}".strip()


def _factor(setup: StudySetup) -> float:
    factor = float(setup.options["factor"])  # type: ignore[arg-type]
    if not 1 < factor < 1_000:
        raise SettingsError(f"The option 'factor' cannot be {factor:g}; give more than 1 and less than 1,000.")
    return factor


def _removals(setup: StudySetup) -> int:
    """Return how many numbers of removed layers are tried."""
    return min(n_layers_of(setup, 3) - 1, number(setup, "removals_at_most", 2, 10_000))


def _measured(setup: StudySetup, steps: Steps) -> _Curve:
    """Measure the plans of a removal curve; those that the model refuses are left out."""
    n = n_layers_of(setup, 3)
    curve: Curve = removal_curve(setup, one_of(setup, "order", ORDERS), n - 1)
    wanted = [curve.plans[at] for at in spaced(range(len(curve.plans)), _removals(setup))]
    result = measured(setup, wanted, steps=steps)
    plans = tuple(plan for plan in wanted if result.ran(plan))
    if not plans:
        raise SettingsError(f"This model can run without none of its layers. {next(iter(result.refused.values()))}")
    gone = np.array([n - len(plan) for plan in plans])
    return _Curve(gone, plans, np.array([result.change(plan) for plan in plans]), result)


def _perplexity_frame(curve: _Curve) -> pd.DataFrame:
    """Return what is left of the model's skill at the texts: perplexity before over perplexity after."""
    found = estimates(curve.changes, curve.result.tokens)
    parts = {"kept": found.value, "low": found.high, "high": found.low}
    columns = {name: [1.0, *np.exp(-np.minimum(values, 700.0))] for name, values in parts.items()}
    return pd.DataFrame({"gone": [0, *curve.gone], "what": "Perplexity before over after"} | columns)


def _quiz_frame(curve: _Curve, right: Array, quiz: Quiz) -> pd.DataFrame:
    kept = [kept_above_chance("", right[0], row, quiz.chance) for row in right]
    return pd.DataFrame(
        {
            "gone": [0, *curve.gone[: len(right) - 1]],
            "what": "Right answers above chance, of before",
            "kept": [one.value for one in kept],
            "low": [one.low for one in kept],
            "high": [one.high for one in kept],
        }
    )


_PERPLEXITY = Picture(
    "lines", "gone", "kept", x_title="Layers gone", y_title="Perplexity before over after", low="low", high="high"
)
_BOTH = Picture(
    "lines", "gone", "kept", series="what", x_title="Layers gone", y_title="Kept", low="low", high="high"
)  # fmt: skip

STUDIES: tuple[Study, ...] = (
    Study(
        "skip-middle-block", "How many layers can go",
        "Layers go, one more each time, until the perplexity has grown by a factor: the share of layers that are gone there.",
        layers_until, {"order": "middle", "factor": 2.0, "removals_at_most": MOST_REMOVALS, "texts": TEXTS},
    ),
    Study(
        "block-influence", "The quiz survives, the prose collapses",
        "The layers of the lowest Block Influence go first, until the perplexity has grown by a factor: the share of right "
        "answers above chance that is left there.",
        quiz_and_prose,
        {"order": "lowest Block Influence", "factor": 2.0, "removals_at_most": MOST_REMOVALS, "texts": TEXTS, "skills": SKILLS},
    ),
)  # fmt: skip
