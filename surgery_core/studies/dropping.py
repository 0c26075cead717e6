"""Which layers can go at the end of a model, and how many in all.

Gromov et al., "The Unreasonable Ineffectiveness of the Deeper Layers" (arXiv 2403.17887): drop a block of deep layers, but
never the last one; the best block is where the residual stream turns least (angular distance). Men et al., "ShortGPT"
(arXiv 2403.03853): drop the layers of the lowest Block Influence first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from surgery_core.measure.importance import Importance, importance
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.paired import estimates
from surgery_core.studies.finding import Finding, Picture
from surgery_core.studies.measuring import TEXTS, chosen_texts, measured, n_layers_of, number, one_of
from surgery_core.studies.study import Study, StudySetup

WAYS = ("the deepest but the last", "the last ones", "the block that turns least")
"""Which n layers are dropped."""


def read_importance(setup: StudySetup) -> Importance:
    """Return what each layer does to the residual stream on the study's texts."""
    return importance(setup.model, setup.tokenizer, chosen_texts(setup), stop=setup.stop)


def least_turning(found: Importance, length: int, last: int) -> int:
    """Return where the block of some length begins that turns the residual stream least, by angular distance.

    Where the stream is no number, that is 0: nothing can be said of such a model anyway.

    Args:
        found: of the model.
        length: layers of the block.
        last: position behind the block at most.
    """
    distances = found.angular[: last - length + 1, length - 1]
    return 0 if np.isnan(distances).all() else int(np.nanargmin(distances))


def deepest_but_last(setup: StudySetup) -> Finding:
    """Measure dropping the deepest layers but the last against dropping others.

    Raises:
        SettingsError: when the model has fewer than four layers, or an option is out of range.
        TextError, Stopped: as for `measured`.
    """
    n = n_layers_of(setup, 4)
    drop = number(setup, "drop", 0, n - 2) or max(1, n // 4)
    ways = [one_of(setup, name, WAYS) for name in ("dropped", "against")]
    plans = _ways(setup, n, drop)
    result = measured(setup, plans.values())
    ours, theirs = (result.change(plans[way]) for way in ways)
    name = f"Loss without {_without(ways[0], drop)} less that without {_without(ways[1], drop)}, nats a token"
    found = estimates(np.array([result.change(plan) for plan in plans.values()]), result.tokens)
    frame = pd.DataFrame(
        {
            "dropped": [f"{way} ({_layers(plan)})" for way, plan in plans.items()],
            "change": found.value,
            "low": found.low,
            "high": found.high,
        }
    )
    others = tuple(
        result.figure(
            f"Change of loss without {_without(way, drop)}: {_layers(plan)}, nats a token", result.change(plan)
        )
        for way, plan in plans.items()
    )
    picture = Picture("bars", "dropped", "change", y_title="Change of loss, nats a token", low="low", high="high")
    return Finding(result.figure(name, ours - theirs), others, frame, picture, result.note)


def _ways(setup: StudySetup, n: int, drop: int) -> dict[str, LayerPlan]:
    base = LayerPlan.identity(n)
    begin = least_turning(read_importance(setup), drop, n)
    blocks = (range(n - 1 - drop, n - 1), range(n - drop, n), range(begin, begin + drop))
    return {way: base.delete(block) for way, block in zip(WAYS, blocks, strict=True)}


def _without(way: str, drop: int) -> str:
    return {
        WAYS[0]: f"the {drop} deepest but the last",
        WAYS[1]: f"the last {drop}",
        WAYS[2]: f"the {drop} that turn the stream least",
    }[way]


def _layers(plan: LayerPlan) -> str:
    gone = plan.deleted
    return f"L{gone[0]}" if len(gone) == 1 else f"L{gone[0]} to L{gone[-1]}"


ORDERS = ("middle", "deepest but the last", "least turning block", "lowest Block Influence")
"""In which order layers go: around the middle, from behind, the block of least angular distance of each length, one by
one by Block Influence as measured on the whole model."""


@dataclass(frozen=True)
class Curve:
    """Plans with more and more layers gone.

    Attributes:
        base: the unchanged plan.
        plans: with 1, 2, ... layers gone.
    """

    base: LayerPlan
    plans: tuple[LayerPlan, ...]


def removal_curve(setup: StudySetup, order: str, most: int) -> Curve:
    """Return plans with 1 to `most` layers gone, in one of `ORDERS`; the last layer always stays."""
    n = n_layers_of(setup, 3)
    base, counts = LayerPlan.identity(n), range(1, min(most, n - 1) + 1)
    if order == "middle":
        blocks = [range(begin, begin + k) for k in counts for begin in [max(0, (n - k) // 2)]]
    elif order == "deepest but the last":
        blocks = [range(n - 1 - k, n - 1) for k in counts]
    elif order == "least turning block":
        found = read_importance(setup)
        blocks = [range(begin, begin + k) for k in counts for begin in [least_turning(found, k, n - 1)]]
    else:
        ranked = _by_influence(read_importance(setup))
        return Curve(base, tuple(base.delete(sorted(ranked[:k])) for k in counts if k <= len(ranked)))
    return Curve(base, tuple(base.delete(block) for block in blocks))


def _by_influence(found: Importance) -> list[int]:
    """Return the layers but the last, the one of the lowest Block Influence first."""
    return [int(at) for at in np.argsort(found.block_influence[:-1], kind="stable")]


STUDIES: tuple[Study, ...] = (
    Study(
        "deepest-but-last", "The deepest layers but the last",
        "A quarter of the layers goes: the deepest but the last, the last ones, or the block that turns the residual stream "
        "least. Loss after the one less loss after the other.",
        deepest_but_last, {"dropped": WAYS[0], "against": WAYS[1], "drop": 0, "texts": TEXTS},
    ),
)  # fmt: skip
