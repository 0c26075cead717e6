"""Does a cut model collapse where its decision appears? (Shi et al., "Understanding Performance Collapse in Layer-Pruned
Large Language Models via Decision Representation Transitions", arXiv 2605.07271.)

The paper follows the margin of the right option through the layers of models that answer multiple choice questions, finds
a depth at which it appears, and that layers behind it can be pruned and those before it cannot. Only its abstract and
introduction were read; the definitions are ours:

- The margin after k layers is what a lens reads there: the right answer's score less the best wrong one's. An item's
  decision is the least k from which on the margin stays above 0.
- A cut to k leaves the first k layers and the last one. An item collapses at the least k from which on, for every gentler
  cut, its answer stays right. An answer that only the last layer decides can collapse at n - 1 at most, so its decision
  counts as n - 1 in the difference. The last layer stays because the first k layers alone would be read by the logit lens
  itself, and the two depths would be the same by construction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from surgery_core.lenses.answers import AnswerReader
from surgery_core.measure.importance import rank_correlation
from surgery_core.measure.skills import Skill, SkillItem, score_skill
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.layer_calls import record_calls
from surgery_core.statistics.units import Array
from surgery_core.stopping import looking
from surgery_core.studies.finding import Figure, Finding, Picture, mean_figure
from surgery_core.studies.programs import chosen_skills
from surgery_core.studies.ratios import resampled_figure
from surgery_core.studies.study import Study, StudySetup
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.view import operate

TOGETHER = 32
"""Items whose prompts run at once."""


@dataclass(frozen=True, eq=False)
class _Depths:
    """Both depths of the items that the unchanged model has right, in layers.

    Attributes:
        margins: `[items, n_layers + 1]`, in nats, of all items, after so many layers.
        kept: `[items, n_layers]`, whether an answer is right with a cut to so many layers.
        right: `[items]`, whether the unchanged model is.
    """

    margins: Array
    kept: Array
    right: Array

    @property
    def n_layers(self) -> int:
        """Return how many layers the model has."""
        return int(self.kept.shape[1])

    @property
    def decision(self) -> Array:
        """Return the decisions of the right items."""
        return lasting(self.margins[self.right] > 0)

    @property
    def collapse(self) -> Array:
        """Return the collapses of the right items."""
        return lasting(self.kept[self.right])


def lasting(holds: Array) -> Array:
    """Return from which column on each row of truths holds to its end, `[rows]`; the last column has to hold."""
    fails = ~np.asarray(holds, bool)
    places = np.arange(fails.shape[1])
    return np.asarray(np.where(fails, places, -1).max(axis=1) + 1)


def _run(setup: StudySetup) -> Finding:
    """Find both depths of every item.

    The figure is the mean of collapse less decision over the items that the unchanged model has right, as a share of the
    layers: near 0 where answers collapse when the cut reaches the layer at which they appear; above 0 where they need more
    layers than that, below 0 where fewer. A difference says where both lie; the rank correlation, which says only that they
    rise together, stands beside it. Intervals are over items.
    """
    skills, n = chosen_skills(setup.options["skills"]), len(find_layers(setup.model)[1])
    items: Any = setup.options["items"]
    asked = [Skill(skill.name, skill.title, skill.description, "", skill.items[: max(1, items)]) for skill in skills]
    depths = _measured(setup, asked, n)
    decision, collapse = depths.decision, depths.collapse
    return Finding(
        # what the last layer decides cannot be cut away
        figure=_mean("Collapse less decision, of the layers", (collapse - np.minimum(decision, n - 1)) / n),
        others=(
            _mean("Decision, of the layers", decision / n),
            _mean("Collapse, of the layers", collapse / n),
            resampled_figure(
                "Rank correlation of the two",
                lambda units: rank_correlation(decision[units], collapse[units]),
                len(decision), setup.seed, unit="item",
            ),
        ),
        frame=_frame(depths),
        picture=Picture(
            "lines", "layers", "share", series="curve", low="low", high="high",
            x_title="First layers that are read, or that are left with the last one", y_title="Share of items",
        ),
        note="" if setup.lens is not None else "There is no tuned lens for this model; the logit lens was read.",
    )  # fmt: skip


def _mean(name: str, values: Array) -> Figure:
    if not len(values):
        return Figure(name, math.nan, unit="item", percent=True)
    return mean_figure(name, values, unit="item", percent=True)


def _measured(setup: StudySetup, skills: Sequence[Skill], n: int) -> _Depths:
    margins = np.concatenate([_margins(setup, skill.items) for skill in skills])
    columns, most = [], n * len(skills)
    model: Any = setup.model
    for layers in range(n):
        plan = LayerPlan.identity(n).delete(range(layers, n - 1))
        view = operate(model, plan)
        column: list[bool] = []
        for number, skill in enumerate(skills, 1):
            column += [one.correct for one in score_skill(view, setup.tokenizer, skill, stop=setup.stop).items]
            if setup.on_progress is not None:
                setup.on_progress(layers * len(skills) + number, most)
        columns.append(column)
    kept = np.array(columns).T
    # the gentlest cut takes nothing away
    return _Depths(margins, kept, kept[:, -1] & (margins[:, -1] > 0))


def _margins(setup: StudySetup, items: Sequence[SkillItem]) -> Array:
    """Return the margins `[items, n_layers + 1]` that a lens reads after so many layers."""
    groups = [items[at : at + TOGETHER] for at in range(0, len(items), TOGETHER)]
    return np.concatenate([margins_by_layer(setup, group) for group in groups])


def margins_by_layer(setup: StudySetup, items: Sequence[SkillItem]) -> Array:
    """Return by how many nats the right answer is ahead at every depth, `[items, n_layers + 1]`, by the setup's lens."""
    reader = AnswerReader(setup.model, setup.tokenizer, items, setup.lens)
    n = len(find_layers(setup.model)[1])
    look, columns = looking(setup.stop, "Stopped before all items were read."), []

    def seen(depth: int, state: torch.Tensor) -> None:
        scores = reader.scores(state[None], depth if depth < n else None, look)
        columns.append(reader.margins(scores, [0] * len(items))[0].numpy())

    record_calls(private_copy(setup.model), reader.batch, seen, look)
    return np.stack(columns, axis=1)


def _frame(depths: _Depths) -> pd.DataFrame:
    """Return one line a depth and curve: layers, curve, share, low, high."""
    curves = {
        "Decided, as a lens reads it": depths.margins > 0,
        "Right with the layers between cut out": depths.kept,
    }
    lines = []
    for title, holds in curves.items():
        for layers in range(holds.shape[1]):
            found = mean_figure("", holds[:, layers].astype(float), unit="item")
            lines.append((layers, title, found.value, found.low, found.high))
    return pd.DataFrame(lines, columns=["layers", "curve", "share", "low", "high"])


COLLAPSE = Study(
    "collapse",
    "Collapse at the decision",
    "Reads at which layer the answers to short questions appear, and cuts the model shorter and shorter; the figure is how "
    "far the cut at which an answer is lost lies from the layer at which it appears.",
    _run,
    {"skills": ["agreement", "colours", "counting", "he_or_she", "opposites", "pattern"], "items": 20},
)
