"""Which layer carries which skill: whether one layer's deletion costs one skill more than it costs the others.

Song et al., "Demystifying the Roles of LLM Layers in Retrieval, Knowledge, and Reasoning" (arXiv 2510.02091), find that which
layers matter depends on the task. The definition of the figure is ours.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import special

from surgery_core.errors import RefusedPlanError, SettingsError
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.paired import LEVEL
from surgery_core.statistics.units import Array
from surgery_core.studies.finding import Figure, Finding, Picture
from surgery_core.studies.measuring import MOST_LAYERS, Steps, n_layers_of, number, spaced
from surgery_core.studies.quizzes import SKILLS, Quiz, accuracies, answered, halves, quiz_of
from surgery_core.studies.study import Study, StudySetup


def skill_by_layer(setup: StudySetup) -> Finding:
    """Measure how much more one layer's deletion costs its own skill than it costs skills in general.

    The cost of a layer for a skill is the share of items that become wrong without it, less those that become right. What
    belongs to the layer alone (it costs every skill) and to the skill alone (it suffers from every layer) is taken away. For
    each middle layer, the skill with the largest rest is chosen on one half of the items and measured on the other; the
    figure is the mean over the layers. Without any special layers it is 0 on average. Its interval is over items, within
    skills.

    Raises:
        SettingsError: when the model has fewer than four layers, fewer than two skills are asked, or an option is out of range.
        Stopped: when the setup's `stop` was set.
    """
    quiz = quiz_of(setup)
    if len(quiz.skills) < 2:
        raise SettingsError("One skill cannot be told apart from others; give at least two in the option 'skills'.")
    layers, costs = _costs(setup, quiz)
    sides = halves(quiz, setup.seed)
    value, low, high = own_skill(costs, quiz, sides)
    name = "What a layer's own skill loses more than skills do in general"
    figure = Figure(name, value, low, high, len(sides[1]), "item", percent=True)
    table = accuracies(costs, quiz)
    return Finding(figure, tuple(_others(table, layers, quiz)), _frame(table, layers, quiz), _PICTURE)


def own_skill(costs: Array, quiz: Quiz, sides: tuple[Array, Array]) -> tuple[float, float, float]:
    """Return the figure and its interval.

    Given the skills that were chosen, the figure is a sum of means over the items of each skill, so its variance is the sum
    of theirs (stratified sampling; Cochran, Sampling Techniques, 1977, section 5.3). It is not done the other way round as
    well: the two results hang together, and an interval that takes them as independent left out 0 in a tenth of all cases
    without any special layers.

    Args:
        costs: `[layers, n]`, 1 for an item that becomes wrong, -1 for one that becomes right, else 0.
        quiz: whose items they are.
        sides: the items, by number, that skills are chosen on, and those that they are measured on.
    """
    chosen_on, measured_on = sides
    rest = without_main_effects(_by_skill(costs, quiz, chosen_on))
    weights = _weights(rest.argmax(1), rest.shape)
    value, variance, degrees = 0.0, 0.0, 0
    for skill in range(len(quiz.skills)):
        shares = weights[:, skill] @ costs[:, measured_on[quiz.of[measured_on] == skill]]
        value += float(shares.mean())
        variance += float(shares.var(ddof=1)) / len(shares)
        degrees += len(shares) - 1
    half = float(special.stdtrit(degrees, (1 + LEVEL) / 2)) * math.sqrt(variance)
    return value, value - half, value + half


def without_main_effects(table: Array) -> Array:
    """Return a table `[rows, columns]` less its rows' and its columns' means, plus the mean of all."""
    found: Array = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    return found


def _by_skill(costs: Array, quiz: Quiz, items: Array) -> Array:
    """Return the mean cost by layer and skill, `[layers, skills]`, over some items."""
    of = quiz.of[items]
    return np.stack([costs[:, items[of == skill]].mean(1) for skill in range(len(quiz.skills))], axis=1)


def _weights(chosen: Array, shape: tuple[int, ...]) -> Array:
    """Return how much each layer's cost for each skill counts: the mean over layers of the chosen skill's rest."""
    picked = np.zeros(shape)
    picked[np.arange(shape[0]), chosen] = 1 / shape[0]
    # to take away main effects from the table is the same as to take them away from the weights
    return without_main_effects(picked)


def _costs(setup: StudySetup, quiz: Quiz) -> tuple[list[int], Array]:
    """Return the layers that can be left out, and what each costs, `[layers, n]`."""
    n = n_layers_of(setup, 4)
    wanted = spaced(range(1, n - 1), number(setup, "layers_at_most", 2, 10_000))
    base, steps = LayerPlan.identity(n), Steps(setup, 1 + len(wanted))
    before = answered(setup, base, quiz)
    steps.add()
    layers, rows, refused = [], [], ""
    for at in wanted:
        try:
            rows.append(before - answered(setup, base.delete(at), quiz))
            layers.append(at)
        except RefusedPlanError as error:
            refused = str(error)
        steps.add()
    if len(rows) < 2:
        raise SettingsError(f"Fewer than two layers can be left out of this model. {refused}")
    return layers, np.array(rows)


def _others(table: Array, layers: list[int], quiz: Quiz) -> list[Figure]:
    found = [
        Figure(
            "Cost of leaving a middle layer out, mean over skills",
            float(table.mean()),
            n_units=len(quiz),
            unit="item",
            percent=True,
        )
    ]
    if np.isnan(table).any():
        return found
    at, skill = np.unravel_index(table.argmax(), table.shape)
    name = (
        f"Largest cost: {quiz.skills[skill].title} without L{layers[at]} (the largest of {table.size}, so partly luck)"
    )
    return [
        *found,
        Figure(name, float(table[at, skill]), n_units=int((quiz.of == skill).sum()), unit="item", percent=True),
    ]


def _frame(table: Array, layers: list[int], quiz: Quiz) -> pd.DataFrame:
    return pd.DataFrame(
        {"layer": f"L{layer}", "skill": skill.title, "cost": table[row, column]}
        for row, layer in enumerate(layers)
        for column, skill in enumerate(quiz.skills)
    )


_PICTURE = Picture(
    "heat",
    "layer",
    "skill",
    value="cost",
    x_title="Layer left out",
    y_title="",
    value_title="Answers lost, share of items",
)

STUDIES: tuple[Study, ...] = (
    Study(
        "skill-by-layer", "Which layer carries which skill",
        "Each middle layer is left out and all skills are asked: how much more a layer's own skill loses than skills do in "
        "general, chosen on one half of the items and measured on the other.",
        skill_by_layer, {"layers_at_most": MOST_LAYERS, "skills": SKILLS},
    ),
)  # fmt: skip
