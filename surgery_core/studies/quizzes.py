"""Items of skills under plans, as arrays: what studies of right and wrong answers are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surgery_core.errors import SettingsError
from surgery_core.measure.skills import Skill, load_skills, score_skills
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.units import Array
from surgery_core.studies.study import Option, StudySetup
from surgery_core.surgery.view import operate

# the names stand here so that a skill which is added later does not change what a study measures
SKILLS: list[Option] = ["agreement", "closing_quotes", "colours", "counting", "he_or_she", "opposites", "pattern"]
"""Skills that studies ask by default."""


@dataclass(frozen=True, eq=False)
class Quiz:
    """Items of some skills, one after the other.

    Attributes:
        skills: in order.
        of: `[n]`, which skill each item belongs to.
        chance: `[n]`, the share that guessing gets right: one over the number of answers.
    """

    skills: tuple[Skill, ...]
    of: Array
    chance: Array

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.of)


def quiz_of(setup: StudySetup) -> Quiz:
    """Return the items of the skills that the option `skills` names.

    Raises:
        SettingsError: for a skill that there is not; all are named.
    """
    names, known = setup.options["skills"], {skill.name: skill for skill in load_skills()}
    if not isinstance(names, list) or not names or any(name not in known for name in names):
        raise SettingsError(f"The option 'skills' cannot be {names!r}; give some of: {', '.join(known)}.")
    skills = tuple(known[str(name)] for name in dict.fromkeys(names))
    of = np.repeat(np.arange(len(skills)), [len(skill.items) for skill in skills])
    chance = np.array([1 / len(item.answers) for skill in skills for item in skill.items])
    return Quiz(skills, of, chance)


def answered(setup: StudySetup, plan: LayerPlan, quiz: Quiz) -> Array:
    """Return which items the model answers rightly under a plan, `[n]` of 0 and 1; NaN where it computes no numbers.

    Raises:
        RefusedPlanError: when the model cannot run the plan.
        Stopped: when the setup's `stop` was set.
    """
    view = operate(setup.model, plan)
    results = score_skills(view, setup.tokenizer, quiz.skills, stop=setup.stop)
    margins = np.array([item.margin for result in results for item in result.items])
    return np.where(np.isnan(margins), np.nan, (margins > 0).astype(float))


def accuracies(answers: Array, quiz: Quiz) -> Array:
    """Return the accuracy by skill, `[..., skills]`, of answers `[..., n]`."""
    found: Array = np.stack([answers[..., quiz.of == at].mean(-1) for at in range(len(quiz.skills))], axis=-1)
    return found


def halves(quiz: Quiz, seed: int) -> tuple[Array, Array]:
    """Return two halves of the items, by number, each with half of every skill's items, drawn at random."""
    random = np.random.default_rng(seed)
    orders = [random.permutation(np.flatnonzero(quiz.of == at)) for at in range(len(quiz.skills))]
    first, second = (np.sort(np.concatenate([order[side::2] for order in orders])) for side in (0, 1))
    return first, second
