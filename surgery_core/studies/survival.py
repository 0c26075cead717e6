"""What survives pruning: choosing between words, or sums and brackets? (Nepal et al., "On the Limits of Layer Pruning for
Generative Reasoning in LLMs", arXiv 2602.01997.)

The paper finds that classification survives the removal of layers, and that arithmetic and balanced brackets do not. It
has models write; here both kinds are asked as choices between answers, so that they have the same scale, and what is left
is counted above chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from surgery_core.errors import SettingsError
from surgery_core.measure.skills import Skill, score_skill
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.units import Array
from surgery_core.studies.finding import Figure, Finding, Picture, mean_figure
from surgery_core.studies.layer_orders import shortened
from surgery_core.studies.programs import chosen_skills
from surgery_core.studies.ratios import nothing, ratio_figure
from surgery_core.studies.study import Study, StudySetup
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.view import operate
from surgery_core.sweeps.removal import remove_greedily
from surgery_core.sweeps.setup import SweepMeasures

WORDS, SUMS = "Choices between words", "Sums and brackets"


@dataclass(frozen=True, eq=False)
class _Kind:
    """The items of several skills.

    Attributes:
        title: what they are called.
        right: `[removals + 1, items]`, whether each is right with so many layers removed.
        chance: `[items]`, how often each is right by chance: one of its answers.
    """

    title: str
    right: Array
    chance: Array

    @property
    def left(self) -> Array:
        """Return what each item is above chance after removals, on average over them, `[items]`."""
        return np.asarray(self.right[1:].mean(0) - self.chance)

    @property
    def had(self) -> Array:
        """Return what each item is above chance in the unchanged model, `[items]`."""
        return np.asarray(self.right[0] - self.chance)

    @property
    def at_chance(self) -> bool:
        """Whether the unchanged model cannot be told from guessing."""
        return not mean_figure("", self.had).low > 0

    def retained(self, removals: Array | None = None) -> Figure:
        """Return the share that is left of what it is above chance, over all removals or one of them."""
        name = f"Left of {self.title.lower()}"
        if self.at_chance:
            return nothing(name, len(self.chance), unit="item", percent=True)
        left = self.left if removals is None else removals - self.chance
        return ratio_figure(name, left, self.had, unit="item", percent=True)


def _run(setup: StudySetup) -> Finding:
    """Remove layers one after the other, always the one whose loss stays lowest, and ask both kinds of skills each time.

    The figure is the share of the accuracy above chance that is left of choices between words, less that of sums and
    brackets, on average over the removals: above 0 where the first survive better. Items of the two kinds are different,
    so the interval puts together those of both shares (Zou and Donner, Statistics in Medicine 27, 2008, 1693-1702).
    """
    options: Any = setup.options
    n, count = len(find_layers(setup.model)[1]), options["remove"]
    if not 1 <= count < n:
        raise SettingsError(f"{count} layers cannot be removed of {n}; give 1 to {n - 1}.")
    skills = {WORDS: chosen_skills(options["words"]), SUMS: chosen_skills(options["sums"])}
    asked = sum(len(some) for some in skills.values())
    told = _told(setup, sum(range(n - count + 1, n + 1)) + asked * (count + 1))
    plans = _plans(setup, n - count, told)
    kinds = {title: _kind(setup, title, some, plans, told) for title, some in skills.items()}
    return Finding(
        figure=_difference(kinds[WORDS].retained(), kinds[SUMS].retained()),
        others=(
            *(kind.retained() for kind in kinds.values()),
            *(mean_figure(f"{kind.title}, right in the unchanged model", kind.right[0], unit="item", percent=True)
              for kind in kinds.values()),
        ),
        frame=_frame(kinds),
        picture=Picture(
            "lines", "removed", "right", series="kind", low="low", high="high", x_title="Layers removed",
            y_title="Share of items that are right",
        ),
        note=" ".join(_guessing(kind) for kind in kinds.values() if kind.at_chance),
    )  # fmt: skip


def _told(setup: StudySetup, most: int) -> Callable[[int], None]:
    done = 0

    def told(steps: int) -> None:
        nonlocal done
        done = min(most, done + steps)
        if setup.on_progress is not None:
            setup.on_progress(done, most)

    return told


def _plans(setup: StudySetup, least: int, told: Callable[[int], None]) -> list[LayerPlan]:
    """Return the unchanged plan, then the best ones with one layer less each time."""
    options: Any = setup.options
    texts = shortened(setup.tokenizer, setup.texts[: max(1, options["texts"])], max(2, options["tokens"]))
    before = 0

    def tried(done: int, most: int) -> None:
        nonlocal before
        told(done - before)
        before = done

    steps = remove_greedily(
        setup.model, setup.tokenizer, texts, least=least, measures=SweepMeasures(agreement=False), stop=setup.stop,
        on_progress=tried,
    )  # fmt: skip
    return [step.plan for step in steps]


def _kind(
    setup: StudySetup, title: str, skills: Sequence[Skill], plans: Sequence[LayerPlan], told: Callable[[int], None]
) -> _Kind:
    rows, model = [], setup.model
    for plan in plans:
        view: Any = operate(model, plan)
        row: list[float] = []
        for skill in skills:
            result = score_skill(view, setup.tokenizer, skill, stop=setup.stop)
            # of a model that is no number nothing is right or wrong
            row += [math.nan if math.isnan(one.margin) else float(one.correct) for one in result.items]
            told(1)
        rows.append(row)
    chance = np.array([1 / len(item.answers) for skill in skills for item in skill.items])
    return _Kind(title, np.array(rows), chance)


def _difference(words: Figure, sums: Figure) -> Figure:
    """Return the difference of two shares over different items."""
    name, n = "Left of choices between words, less that of sums and brackets", min(words.n_units, sums.n_units)
    value = words.value - sums.value
    if math.isnan(value):
        return nothing(name, n, unit="item", percent=True)
    low = value - math.hypot(words.value - words.low, sums.high - sums.value)
    high = value + math.hypot(words.high - words.value, sums.value - sums.low)
    return Figure(name, value, low, high, n, "item", percent=True)


def _guessing(kind: _Kind) -> str:
    right, chance = kind.right[0].mean(), kind.chance.mean()
    if math.isnan(right):
        return "The model does not compute numbers."
    return (
        f"{kind.title}: the unchanged model has {right:.0%} of {len(kind.chance)} items right, and guessing {chance:.0%}; "
        "it cannot do them, so nothing of them can be lost."
    )


def _frame(kinds: dict[str, _Kind]) -> pd.DataFrame:
    """Return one line a kind and number of removed layers: removed, kind, right (0 to 1), low, high, retained."""
    lines = []
    for kind in kinds.values():
        for removed, right in enumerate(kind.right):
            found = mean_figure("", right, unit="item", percent=True)
            lines.append((removed, kind.title, found.value, found.low, found.high, kind.retained(right).value))
    return pd.DataFrame(lines, columns=["removed", "kind", "right", "low", "high", "retained"])


SURVIVAL = Study(
    "survival",
    "What survives pruning",
    "Removes layers one after the other and asks for words, sums and brackets each time; the figure is how much more is left "
    "of the first than of the others, above chance.",
    _run,
    {
        "words": ["agreement", "closing_quotes", "colours", "he_or_she"], "sums": ["arithmetic", "brackets"],
        "remove": 4, "texts": 12, "tokens": 128,
    },
)  # fmt: skip
