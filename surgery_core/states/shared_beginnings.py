"""Run many plans over the same texts, each shared beginning once.

Deleting layer 7 changes nothing before layer 7. The base runs once over every batch of texts; the arguments with
which it calls each layer (masks, positions, rotary embeddings) are recorded, and so is the residual stream wherever
a plan leaves another's path. A plan then runs only its own slots behind that place, called one by one; the layers of
a slot are made once for all plans. What a layer is called with belongs to the layer, not to the position: masks and
rotary embeddings depend on its type.

Plans that end alike can run that end together, as one larger batch; this pays for short texts, where a layer's cost
is not in the arithmetic. States that do not fit the memory budget are computed again from the nearest ones kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Slot
from surgery_core.states.beginnings_tree import Node, PrefixTree, size_of
from surgery_core.states.layer_calls import Rest, call_layer, calls_of_copies, record_calls
from surgery_core.states.windows import Batch
from surgery_core.stopping import looking
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.ingredients import Ingredients
from surgery_core.surgery.placement import Placement, place
from surgery_core.surgery.view import operate_slot

Seen = Callable[[LayerPlan, int, int, torch.Tensor], None]
"""What is told of a state: the plan, the number of the batch, how many of its slots are behind the state, and itself."""

DEFAULT_MEMORY = 2**30
"""Bytes of hidden states that are kept by default (1 GB)."""


@dataclass(eq=False)
class _Going:
    """Plans that run together from here on, for what is left of them is alike.

    Attributes:
        members: at least one plan, each with its place in the answer.
        left: how many slots are left.
        hidden: `[plans * batch, seq, d_model]`.
    """

    members: list[tuple[int, LayerPlan]]
    left: int
    hidden: torch.Tensor

    @property
    def rest(self) -> tuple[Slot, ...]:
        """Return the slots that are left."""
        plan = self.members[0][1]
        return plan.slots[len(plan) - self.left :]


class SharedRuns:
    """The residual stream behind the last layer, for many plans over the same batches.

    Args:
        model: the base; it is not changed.
        batches: what is run.
        plans: every plan that will be asked for, once each; the base itself is run in any case.
        ingredients: donors and means that the plans name.
        memory: bytes of hidden states that may be kept.
        stop: looked at between layers.
        seen: told of every state that is computed, `[batch, seq, d_model]`: the base's from what enters its first layer
            on, another plan's behind each slot from where it starts.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        plans: Iterable[LayerPlan],
        *,
        ingredients: Ingredients | None = None,
        memory: int = DEFAULT_MEMORY,
        stop: threading.Event | None = None,
        seen: Seen | None = None,
    ) -> None:
        self.seen = seen
        self.model, self.batches, self.ingredients = model, batches, ingredients or Ingredients()
        self.memory, self._look = memory, looking(stop, "The sweep was stopped.")
        self.base = LayerPlan.identity(len(find_layers(model)[1]))
        self.tree = PrefixTree([self.base, *plans])
        self.runs = 0
        self._calls: dict[tuple[int, int], list[Rest]] = {}
        self._layers: dict[Slot, list[tuple[Placement, Any]]] = {}
        self._stride, self._kept = 1, 0
        view = private_copy(model)
        self._first = {number: self._record(view, number) for number in range(len(batches))}
        self.finish(self.base)

    def base_hidden(self, number: int) -> torch.Tensor:
        """Return what leaves the base's last layer for a batch, `[batch, seq, d_model]`; each batch once."""
        return self._first.pop(number)

    def prepare(self, plan: LayerPlan) -> None:
        """Make the layers that a plan needs. Errors as for `operate`, where one cannot be made."""
        for slot in plan:
            self._slot_layers(slot)

    def hidden(self, plans: Sequence[LayerPlan], number: int) -> list[torch.Tensor]:
        """Return what leaves the last slot of each plan for a batch, `[batch, seq, d_model]`.

        Slots that several of the plans have at their end run once over all of them.

        Args:
            plans: some of the plans.
            number: of the batch.

        Raises:
            Stopped: when `stop` was set.
        """
        going = [self._begin(at, plan, number) for at, plan in enumerate(plans)]
        while most := max(one.left for one in going):
            ahead = [one for one in going if one.left < most]
            going = [self._step(one, number) for one in _merged([one for one in going if one.left == most])] + ahead
        ended = {at: hidden for one in going for at, _, hidden in _apart(one)}
        return [ended[at] for at in range(len(plans))]

    def finish(self, plan: LayerPlan) -> None:
        """Say that a plan will not be asked for again."""
        self._kept -= self.tree.finish(plan)

    def _begin(self, at: int, plan: LayerPlan, number: int) -> _Going:
        nodes = self.tree.path(plan)
        begin = max(depth for depth, node in enumerate(nodes) if number in node.states)
        # a copy, here and where states are kept: a layer may write into its input
        return _Going([(at, plan)], len(plan) - begin, nodes[begin].states[number].clone())

    def _step(self, going: _Going, number: int) -> _Going:
        """Run the next slot."""
        self._look()
        calls, hidden = self._calls_for(number, len(going.members)), going.hidden
        for placement, layer in self._slot_layers(going.rest[0]):
            hidden = call_layer(layer, calls[placement.layer.index], hidden)
        self.runs += 1
        after = _Going(going.members, going.left - 1, hidden)
        for _, plan, state in _apart(after):
            self._keep(self.tree.path(plan), len(plan) - after.left, number, state)
            if self.seen is not None:
                self.seen(plan, number, len(plan) - after.left, state)
        return after

    def _slot_layers(self, slot: Slot) -> list[tuple[Placement, Any]]:
        if slot not in self._layers:
            view = operate_slot(self.model, slot, self.ingredients)
            placements = place(LayerPlan((slot,), len(self.base)))
            self._layers[slot] = list(zip(placements, find_layers(view)[1], strict=True))
        return self._layers[slot]

    def _record(self, view: Any, number: int) -> torch.Tensor:
        """Run the base on a batch, keep how it calls its layers and the states that plans start from."""
        nodes, last = self.tree.path(self.base), [torch.empty(0)]

        def seen(depth: int, hidden: torch.Tensor) -> None:
            self._keep(nodes, depth, number, hidden)
            if self.seen is not None:
                self.seen(self.base, number, depth, hidden)
            last[0] = hidden

        self._calls[number, 1] = record_calls(view, self.batches[number], seen, self._look)
        self.runs += len(self._calls[number, 1])
        return last[0]

    def _calls_for(self, number: int, copies: int) -> list[Rest]:
        """Return how layers are called when a batch is there several times."""
        if (number, copies) not in self._calls:
            self._calls[number, copies] = calls_of_copies(self.model, self.batches[number], copies)
        return self._calls[number, copies]

    def _keep(self, nodes: list[Node], depth: int, number: int, hidden: torch.Tensor) -> None:
        """Keep a state if another plan leaves from there, in every place or, where memory ends, in every n-th.

        What enters the first layer is always kept, for everything can be computed again from it.
        """
        node = nodes[depth]
        child = nodes[depth + 1] if depth + 1 < len(nodes) else None
        if depth and (depth % self._stride or number in node.states or not node.is_left_by_another(child)):
            return
        node.states[number] = hidden.clone()
        self._kept += size_of(hidden)
        if self._kept > self.memory and self._stride <= len(nodes):
            self._thin()

    def _thin(self) -> None:
        self._stride *= 2
        for node in self.tree.nodes():
            if node.depth % self._stride:
                node.states.clear()
        self._kept = sum(size_of(state) for node in self.tree.nodes() for state in node.states.values())


def _merged(going: list[_Going]) -> list[_Going]:
    """Put together what has the same slots left."""
    groups: dict[tuple[Slot, ...], list[_Going]] = {}
    for one in going:
        groups.setdefault(one.rest, []).append(one)
    return [_together(group) if len(group) > 1 else group[0] for group in groups.values()]


def _together(group: list[_Going]) -> _Going:
    members = [member for one in group for member in one.members]
    return _Going(members, group[0].left, torch.cat([one.hidden for one in group]))


def _apart(going: _Going) -> Iterator[tuple[int, LayerPlan, torch.Tensor]]:
    """Yield each member's place, plan and states `[batch, seq, d_model]`."""
    states = going.hidden.chunk(len(going.members))
    for (at, plan), state in zip(going.members, states, strict=True):
        yield at, plan, state
