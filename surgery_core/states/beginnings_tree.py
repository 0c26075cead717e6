"""Which plans begin alike, and the states that are kept where they part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Slot


@dataclass(eq=False)
class Node:
    """A beginning that plans have in common: its slots lead here from the root.

    Attributes:
        depth: number of slots.
        pending: plans yet to run that begin so.
        children: by the next slot.
        states: the residual stream `[batch, seq, d_model]` behind those slots, by number of the batch.
    """

    depth: int
    pending: int = 0
    children: dict[Slot, Node] = field(default_factory=dict)
    states: dict[int, torch.Tensor] = field(default_factory=dict)

    def is_left_by_another(self, child: Node | None) -> bool:
        """Whether a plan besides the running one goes on from here in another way than to `child`."""
        return self.pending - 1 > (child.pending - 1 if child is not None else 0)

    def forget(self) -> int:
        """Drop the states that no plan will start from, for all go on through a child that has its own.

        Returns:
            The bytes that they held.
        """
        ahead = next((child for child in self.children.values() if child.pending == self.pending), None)
        if self.pending == 0:
            gone = list(self.states)
        else:
            gone = [number for number in self.states if ahead is not None and number in ahead.states]
        return sum(size_of(self.states.pop(number)) for number in gone)


class PrefixTree:
    """The plans of a sweep by their common beginnings; pure bookkeeping, but for the states that hang in it."""

    def __init__(self, plans: Iterable[LayerPlan]) -> None:
        self.root = Node(0)
        for plan in plans:
            node = self.root
            node.pending += 1
            for slot in plan:
                node = node.children.setdefault(slot, Node(node.depth + 1))
                node.pending += 1

    def path(self, plan: LayerPlan) -> list[Node]:
        """Return the nodes of a plan, from the root."""
        nodes = [self.root]
        for slot in plan:
            nodes.append(nodes[-1].children[slot])
        return nodes

    def finish(self, plan: LayerPlan) -> int:
        """Take a plan out, and every state that no plan will start from; return the bytes that those held."""
        path = self.path(plan)
        for node in path:
            node.pending -= 1
        # everything can be computed again from the root, so that goes last
        later = path[1:] if self.root.pending else path
        return sum(node.forget() for node in later)

    def nodes(self) -> Iterator[Node]:
        """Yield every node."""
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            waiting.extend(node.children.values())
            yield node


def layer_runs(plans: Sequence[LayerPlan]) -> int:
    """Return how many layers run over each batch when every common beginning runs once."""
    return sum(node.depth > 0 for node in PrefixTree(plans).nodes())


def size_of(state: torch.Tensor) -> int:
    """Return a state's bytes."""
    return state.numel() * state.element_size()
