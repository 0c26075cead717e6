"""What can be done to the middle of a model, after "Transformer Layers as Painters" (arXiv 2407.09298, section 3)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from surgery_core.plans.plan import LayerPlan

LOOPS = 3
"""How often the parallel middle runs in a looped-parallel plan, as in the paper."""


def _shuffled(plan: LayerPlan, begin: int, end: int, seed: int) -> LayerPlan:
    order = list(range(begin, end))
    random.Random(seed).shuffle(order)
    return plan.permute([*range(begin), *order, *range(end, len(plan))])


def _centre(plan: LayerPlan, begin: int, end: int, seed: int) -> LayerPlan:
    """Run the centre layer in place of every layer of the middle."""
    return plan.permute([*range(begin), *[(begin + end) // 2] * (end - begin), *range(end, len(plan))])


def _looped(plan: LayerPlan, begin: int, end: int, seed: int) -> LayerPlan:
    return plan.parallel(begin, end).repeat(begin, begin + 1, LOOPS)


Change = Callable[[LayerPlan, int, int, int], LayerPlan]

VARIANTS: dict[str, Change] = {
    "looped parallel": _looped,
    "shuffle": _shuffled,
    "reverse": lambda plan, begin, end, seed: plan.reverse(begin, end),
    "parallel": lambda plan, begin, end, seed: plan.parallel(begin, end),
    "skip": lambda plan, begin, end, seed: plan.delete(range(begin, end)),
    "repeat centre": _centre,
}
"""What is done to a growing middle, from the least to the most harmful on Llama-2-7B (arXiv 2407.09298, figure 10)."""


def middles(start: LayerPlan) -> Iterator[tuple[int, int]]:
    """Yield the middle of every size that leaves the first and the last slot alone."""
    for size in range(1, len(start) - 1):
        begin = (len(start) - size) // 2
        yield begin, begin + size
