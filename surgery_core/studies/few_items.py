"""The best of many plans on fifty items: how good it looks, and what is left of that on the other items.

In March 2026 a README reported that repeating three layers lifts a benchmark from 0.22 to 0.76 on fifty items; the full run
of the same change came to 0.744 and 0.732 (github.com/alainnothere/llm-circuit-finder). Choosing the best of many plans on
few items finds luck as well as skill.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from surgery_core.errors import RefusedPlanError, SettingsError
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.jackknife import jackknife_interval, left_out
from surgery_core.statistics.units import Array
from surgery_core.studies.finding import Figure, Finding, Picture
from surgery_core.studies.measuring import Steps, n_layers_of, number, spaced
from surgery_core.studies.quizzes import SKILLS, answered, quiz_of
from surgery_core.studies.study import Study, StudySetup
from surgery_core.sweeps.options import MAX_TIMES

DRAWS = 1_000
"""Draws of fifty items."""


def fifty_items(setup: StudySetup) -> Finding:
    """Measure what is left of the gain of the best repeated block, chosen on few items, on the items not chosen.

    Every block of up to `longest` middle layers is repeated. Of all items a few are drawn many times; each time the block with
    the most right answers on them is taken (the first of equals), and its gain over the unchanged model is counted on them
    and on all others. The figure is the mean gain on the others, in share of items; its interval is a jackknife over items.

    Raises:
        SettingsError: when the model has fewer than four layers, or an option is out of range.
        Stopped: when the setup's `stop` was set.
    """
    quiz = quiz_of(setup)
    items = number(setup, "items", 6, len(quiz) - 6)
    base = LayerPlan.identity(n_layers_of(setup, 4))
    right, tried = _answers(setup, base, _repeated(setup, base))
    gains = right[1:] - right[0]
    keys = np.random.default_rng(setup.seed).random((DRAWS, len(quiz)))
    seen, unseen = best_of_few(gains, items, keys)
    without = np.array([_left(gains, items, keys, gone) for gone in left_out(len(quiz))])
    low, high = jackknife_interval(float(unseen.mean()), without)
    name = f"Gain of the best of {len(tried)} on the items that it was not chosen on"
    figure = Figure(name, float(unseen.mean()), low, high, len(quiz), "item", percent=True)
    counted = (
        (f"Its gain on the {items} items that it was chosen on", seen.mean(), items, "item"),
        ("Choices that look better than the unchanged model", (seen > 0).mean(), DRAWS, "choice"),
        ("Choices that are better on the other items", (unseen > 0).mean(), DRAWS, "choice"),
        ("Right answers of the unchanged model", right[0].mean(), len(quiz), "item"),
    )
    others = tuple(Figure(said, float(value), n_units=n, unit=unit, percent=True) for said, value, n, unit in counted)
    frame = _frame(seen, unseen)
    picture = Picture(
        "dots",
        "seen",
        "unseen",
        x_title=f"Gain on the {items} items chosen on, points",
        y_title="Gain on the others, points",
    )
    return Finding(figure, others, frame, picture, "Gains are of right answers, in points of a hundred.")  # fmt: skip


def best_of_few(gains: Array, items: int, keys: Array) -> tuple[Array, Array]:
    """Return the gain of the best plan on the items that it was chosen on, and on all others, by draw.

    Args:
        gains: `[plans, n]`, right answers after less before, -1, 0 or 1 an item.
        items: how many are drawn, fewer than n.
        keys: `[draws, n]`, random numbers; the items with the smallest are drawn.

    Returns:
        Two arrays `[draws]`, in share of items.
    """
    n = gains.shape[1]
    order = np.argsort(keys, axis=1)
    drawn = np.zeros(keys.shape)
    np.put_along_axis(drawn, order[:, :items], 1.0, axis=1)
    on_few = gains @ drawn.T
    best = on_few.argmax(0)
    seen = np.take_along_axis(on_few, best[None], axis=0)[0]
    unseen: Array = gains.sum(1)[best] - seen
    return seen / items, unseen / (n - items)


def _left(gains: Array, items: int, keys: Array, gone: Array) -> float:
    """Return the mean gain on the others without some items; the draws are the same otherwise."""
    _, unseen = best_of_few(np.delete(gains, gone, axis=1), items, np.delete(keys, gone, axis=1))
    return float(unseen.mean())


def _repeated(setup: StudySetup, base: LayerPlan) -> list[LayerPlan]:
    """Return the plans: every block of middle layers up to a length, repeated once more, evenly spaced if they are many."""
    n, longest = len(base), number(setup, "longest", 1, len(base) - 2)
    times = number(setup, "times", 2, MAX_TIMES)
    blocks = [(start, start + size) for size in range(1, longest + 1) for start in range(1, n - size)]
    kept = spaced(range(len(blocks)), number(setup, "plans_at_most", 2, 10_000))
    return [base.repeat(*blocks[at], times) for at in kept]


def _answers(setup: StudySetup, base: LayerPlan, plans: list[LayerPlan]) -> tuple[Array, list[LayerPlan]]:
    """Return which items are right under the base and the plans that run, `[1 + plans, n]`, and those plans."""
    quiz, steps = quiz_of(setup), Steps(setup, 1 + len(plans))
    rows, tried, refused = [answered(setup, base, quiz)], [], ""
    steps.add()
    for plan in plans:
        try:
            rows.append(answered(setup, plan, quiz))
            tried.append(plan)
        except RefusedPlanError as error:
            refused = str(error)
        steps.add()
    if not tried:
        raise SettingsError(f"This model allows none of these repeats. {refused}")
    return np.array(rows), tried


def _frame(seen: Array, unseen: Array) -> pd.DataFrame:
    """Return the gains of the draws in points, equal ones once, and how often they came."""
    rounded = pd.DataFrame({"seen": np.round(100 * seen, 1), "unseen": np.round(100 * unseen, 1)})
    counted = rounded.value_counts().reset_index(name="times")
    return counted.sort_values(["seen", "unseen"], ignore_index=True)


STUDIES: tuple[Study, ...] = (
    Study(
        "fifty-items", "The best of many on fifty items",
        "Blocks of layers are repeated and the best is chosen on a few items: its mean gain in right answers on the items that "
        "it was not chosen on.",
        fifty_items, {"items": 50, "longest": 3, "times": 2, "plans_at_most": 24, "skills": SKILLS},
    ),
)  # fmt: skip
