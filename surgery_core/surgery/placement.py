"""Where the layers of a plan run: one place each, a slot of several layers one for each of its members."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Layer


@dataclass
class Group:
    """The layers of one slot that has several. What entered it, and what they have contributed so far, is kept by thread.

    Attributes:
        size: how many they are.
        damping: the factor on what a damped block adds, whose layers run one after the other; None for parallel ones.
    """

    size: int
    damping: float | None = None

    def __post_init__(self) -> None:
        self.local = threading.local()

    def __deepcopy__(self, memo: dict[int, Any]) -> Group:
        return Group(self.size, self.damping)


@dataclass(frozen=True)
class Placement:
    """One layer at one place of the operated model. A slot of several layers takes one place a member."""

    layer: Layer
    slot: int
    member: int
    group: Group | None


def place(plan: LayerPlan) -> list[Placement]:
    """Return what runs in order; a slot of several layers takes one place a member."""
    placements = []
    for number, slot in enumerate(plan):
        group = Group(len(slot.layers), slot.damping) if len(slot.layers) > 1 else None
        for member, layer in enumerate(slot.layers):
            placements.append(Placement(layer, number, member, group))
    return placements
