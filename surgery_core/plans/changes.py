"""What a plan does to each layer: kept where it was, moved, repeated, or taken from elsewhere; and how often in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Layer

Kind = Literal["kept", "moved", "repeated", "donor"]


@dataclass(frozen=True)
class Use:
    """One layer in one slot.

    Attributes:
        position: of the slot, from 0.
        layer: what runs there.
        kind: `"repeated"` from the layer's second use on; `"moved"` where it stands outside a longest run of first uses
            that are in order; `"donor"` where it is another model's; `"kept"` otherwise.
        beside: how many layers the slot has.
        damping: the factor on what they add one after the other; None where they run in parallel, or there is one.
    """

    position: int
    layer: Layer
    kind: Kind
    beside: int
    damping: float | None = None

    @property
    def is_changed(self) -> bool:
        """Whether something other than the layer's place is new: its part, factor, origin or company."""
        return self.beside > 1 or not self.layer.is_plain


def layer_uses(plan: LayerPlan) -> list[Use]:
    """Return every use of a layer, in running order, members of a slot with several in theirs."""
    flat = [(position, layer, slot) for position, slot in enumerate(plan) for layer in slot.layers]
    seen: set[int] = set()
    first = []
    for at, (_, layer, _) in enumerate(flat):
        if layer.donor is None and layer.index not in seen:
            seen.add(layer.index)
            first.append(at)
    ordered = {first[place] for place in _longest_run([flat[at][1].index for at in first])}
    moved = set(first) - ordered

    def kind(at: int, layer: Layer) -> Kind:
        if layer.donor is not None:
            return "donor"
        return "moved" if at in moved else "kept" if at in ordered else "repeated"

    return [
        Use(position, layer, kind(at, layer), len(slot.layers), slot.damping)
        for at, (position, layer, slot) in enumerate(flat)
    ]


def changes(plan: LayerPlan) -> dict[str, int]:
    """Return how many layers a plan changes in which way, without the ways that do not occur.

    Deleted are layers of the base that run nowhere; all others are counted by use, in each way that applies.
    """
    found = Counter({"deleted": len(plan.deleted)})
    for use in layer_uses(plan):
        found.update(_ways(use))
    return {way: found[way] for way in WAYS if found[way]}


WAYS = (
    "deleted",
    "moved",
    "repeated",
    "half",
    "scaled",
    "parallel",
    "damped",
    "mean",
    "donor",
    "adapter off",
    "stitched",
)
"""In which ways a plan changes layers, in the order in which they are named."""


def _ways(use: Use) -> list[str]:
    layer = use.layer
    applies = {
        use.kind: use.kind != "kept",
        "half": layer.part != "both",
        "scaled": layer.scale != 1,
        "parallel": use.beside > 1 and use.damping is None,
        "damped": use.damping is not None,
        "mean": layer.mean,
        "adapter off": not layer.adapter,
        "stitched": layer.stitched,
    }
    return [way for way, yes in applies.items() if yes]


def _longest_run(keys: Sequence[int]) -> list[int]:
    """Return the places of a longest increasing run of different numbers; of several the one that the strip marks."""
    best, before, end = [1] * len(keys), [-1] * len(keys), -1
    for place, key in enumerate(keys):
        for earlier in range(place):
            if keys[earlier] < key and best[earlier] + 1 > best[place]:
                best[place], before[place] = best[earlier] + 1, earlier
        if end < 0 or best[place] > best[end]:
            end = place
    run = []
    while end >= 0:
        run.append(end)
        end = before[end]
    return run[::-1]
