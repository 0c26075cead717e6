"""Where the layers of a plan run: one place each, a parallel slot one for each of its members."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Layer


@dataclass
class Group:
    """The layers of one parallel slot. What they have contributed so far is kept by thread."""

    size: int

    def __post_init__(self) -> None:
        self.local = threading.local()

    def __deepcopy__(self, memo: dict[int, Any]) -> Group:
        return Group(self.size)


@dataclass(frozen=True)
class Placement:
    """One layer at one place of the operated model. A parallel slot takes one place a member."""

    layer: Layer
    slot: int
    member: int
    group: Group | None


def place(plan: LayerPlan) -> list[Placement]:
    """Return what runs in order; a parallel slot takes one place a member."""
    placements = []
    for number, slot in enumerate(plan):
        group = Group(len(slot.layers)) if len(slot.layers) > 1 else None
        for member, layer in enumerate(slot.layers):
            placements.append(Placement(layer, number, member, group))
    return placements
