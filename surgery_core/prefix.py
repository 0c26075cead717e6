"""Run many plans over the same texts, each shared beginning once.

Deleting layer 7 changes nothing before layer 7. The base runs once over every batch of texts; the arguments with
which it calls each layer (masks, positions, rotary embeddings) are recorded, and so is the residual stream wherever
a plan leaves another's path. A plan then runs only its own slots behind that place: the layers of its view, called
one by one. What a layer is called with belongs to the layer, not to the position: masks and rotary embeddings depend
on its type.

States that do not fit the memory budget are computed again from the nearest ones that are kept.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from surgery_core.anatomy import find_layers
from surgery_core.errors import Stopped
from surgery_core.plan import LayerPlan, Slot
from surgery_core.slots import hidden_input, hidden_of, place
from surgery_core.tail import Tail
from surgery_core.view import operate
from surgery_core.windows import Batch

DEFAULT_MEMORY = 2**30
"""Bytes of hidden states that are kept by default (1 GB)."""

PROBES = 2
"""Plans of a sweep that are run both ways on a few tokens, to see whether the model can start in the middle."""

TOLERANCE = 1e-4
"""Largest difference of the two ways' logits, as a share of their spread (float32); ten times that in half formats."""

_FAILURES = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError)

Call = tuple[tuple[Any, ...] | None, dict[str, Any]]
"""What a layer is called with besides the residual stream; None for the first part where that goes by name."""


@dataclass(eq=False)
class _Node:
    """A beginning that plans have in common: its slots lead here from the root.

    Attributes:
        depth: number of slots.
        pending: plans yet to run that begin so.
        children: by the next slot.
        states: the residual stream `[batch, seq, d_model]` behind those slots, by number of the batch.
    """

    depth: int
    pending: int = 0
    children: dict[Slot, _Node] = field(default_factory=dict)
    states: dict[int, torch.Tensor] = field(default_factory=dict)

    def is_left_by_another(self, child: _Node | None) -> bool:
        """Whether a plan besides the running one goes on from here in another way than to `child`."""
        return self.pending - 1 > (child.pending - 1 if child is not None else 0)

    def forget(self) -> None:
        """Drop the states that no plan will start from: all go on through a child that has its own."""
        ahead = next((child for child in self.children.values() if child.pending == self.pending), None)
        if self.pending == 0:
            self.states.clear()
        elif ahead is not None:
            self.states = {number: state for number, state in self.states.items() if number not in ahead.states}


class PrefixTree:
    """The plans of a sweep by their common beginnings; pure bookkeeping, but for the states that hang in it."""

    def __init__(self, plans: Iterable[LayerPlan]) -> None:
        self.root = _Node(0)
        for plan in plans:
            node = self.root
            node.pending += 1
            for slot in plan:
                node = node.children.setdefault(slot, _Node(node.depth + 1))
                node.pending += 1

    def path(self, plan: LayerPlan) -> list[_Node]:
        """Return the nodes of a plan, from the root."""
        nodes = [self.root]
        for slot in plan:
            nodes.append(nodes[-1].children[slot])
        return nodes

    def finish(self, plan: LayerPlan) -> None:
        """Take a plan out, and every state that no plan will start from."""
        for node in self.path(plan):
            node.pending -= 1
        for node in self.path(plan)[1:]:
            node.forget()
        if self.root.pending == 0:
            self.root.states.clear()

    def nodes(self) -> Iterator[_Node]:
        """Yield every node."""
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            waiting.extend(node.children.values())
            yield node


def layer_runs(plans: Sequence[LayerPlan]) -> int:
    """Return how many layers run over each batch when every common beginning runs once."""
    return sum(node.depth > 0 for node in PrefixTree(plans).nodes())


class SharedRuns:
    """The residual stream behind the last layer, for many plans over the same batches.

    Args:
        model: the base; it is not changed.
        batches: what is run.
        plans: every plan that will be asked for, once each; the base itself is run in any case.
        memory: bytes of hidden states that may be kept.
        stop: looked at between layers.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        plans: Iterable[LayerPlan],
        *,
        memory: int = DEFAULT_MEMORY,
        stop: threading.Event | None = None,
    ) -> None:
        self.batches, self.memory, self.stop = batches, memory, stop
        path, layers = find_layers(model)
        self.base = LayerPlan.identity(len(layers))
        self.tree = PrefixTree([self.base, *plans])
        self._view = operate(model, self.base)
        self._layers = self._view.get_submodule(path)
        self._calls: list[list[Call]] = []
        self._stride, self._kept = 1, 0
        self.runs = 0
        self._first: dict[int, torch.Tensor] = {}
        for number in range(len(batches)):
            self._first[number] = self._record(number)
        self.finish(self.base)

    def base_hidden(self, number: int) -> torch.Tensor:
        """Return what leaves the base's last layer for a batch, `[batch, seq, d_model]`; each batch once."""
        return self._first.pop(number)

    def hidden(self, plan: LayerPlan, view: nn.Module, number: int) -> torch.Tensor:
        """Return what leaves the last slot of a plan for a batch, `[batch, seq, d_model]`.

        Args:
            plan: one of the plans.
            view: the model that the plan describes.
            number: of the batch.

        Raises:
            Stopped: when `stop` was set.
        """
        nodes = self.tree.path(plan)
        begin = max(depth for depth, node in enumerate(nodes) if number in node.states)
        # a copy, here and where states are kept: a layer may write into its input
        hidden = nodes[begin].states[number].clone()
        placements = [one for one in place(plan) if one.slot >= begin]
        layers: Any = list(find_layers(view)[1])[len(place(plan)) - len(placements) :]
        for at, (placement, layer) in enumerate(zip(placements, layers, strict=True)):
            self._look()
            hidden = self._run(layer, self._calls[number][placement.layer.index], hidden)
            after = placement.slot + 1
            if at + 1 == len(placements) or placements[at + 1].slot == after:
                self._keep(nodes, after, number, hidden)
        return hidden

    def finish(self, plan: LayerPlan) -> None:
        """Say that a plan will not be asked for again."""
        self.tree.finish(plan)
        self._kept = sum(_size(state) for node in self.tree.nodes() for state in node.states.values())

    def _record(self, number: int) -> torch.Tensor:
        """Run the base on a batch, keep how it calls its layers, and the states that plans start from."""
        self._look()
        batch, nodes = self.batches[number], self.tree.path(self.base)
        calls: list[Call] = []
        last: list[torch.Tensor] = []

        def entering(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._keep(nodes, len(calls), number, hidden_input(args, kwargs))
            calls.append(_without_hidden(args, kwargs))
            self.runs += 1

        with torch.inference_mode(), ExitStack() as stack:
            for layer in self._layers:
                stack.callback(layer.register_forward_pre_hook(entering, with_kwargs=True).remove)
            final = self._layers[len(self._layers) - 1]
            stack.callback(final.register_forward_hook(lambda m, a, output: last.append(hidden_of(output))).remove)
            body = self._view.base_model
            body(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        self._calls.append(calls)
        self._keep(nodes, len(calls), number, last[0])
        return last[0]

    def _run(self, layer: nn.Module, call: Call, hidden: torch.Tensor) -> torch.Tensor:
        args, kwargs = call
        self.runs += 1
        with torch.inference_mode():
            output = layer(**{**kwargs, "hidden_states": hidden}) if args is None else layer(hidden, *args, **kwargs)
        return hidden_of(output)

    def _keep(self, nodes: list[_Node], depth: int, number: int, hidden: torch.Tensor) -> None:
        """Keep a state if another plan leaves from there, in every place or, where memory ends, in every n-th.

        What enters the first layer is always kept, for everything can be computed again from it.
        """
        node = nodes[depth]
        child = nodes[depth + 1] if depth + 1 < len(nodes) else None
        if depth and (depth % self._stride or not node.is_left_by_another(child)):
            return
        node.states[number] = hidden.clone()
        self._kept += _size(hidden)
        if self._kept > self.memory and self._stride <= len(nodes):
            self._thin()

    def _thin(self) -> None:
        self._stride *= 2
        for node in self.tree.nodes():
            if node.depth % self._stride:
                node.states.clear()
        self._kept = sum(_size(state) for node in self.tree.nodes() for state in node.states.values())

    def _look(self) -> None:
        if self.stop is not None and self.stop.is_set():
            raise Stopped("The sweep was stopped.")


def cannot_start_in_the_middle(model: nn.Module, batch: Batch, plans: Sequence[LayerPlan]) -> str:
    """Return why plans have to be run whole on this model, or an empty string.

    A few of the plans are run both ways on a few tokens, and their logits compared.
    """
    small = _beginning(batch)
    probes = [plans[at] for at in sorted({n * len(plans) // PROBES for n in range(PROBES)})]
    try:
        runs, tail = SharedRuns(model, [small], probes), Tail(model)
        for plan in probes:
            view = operate(model, plan)
            shared = tail.logits(runs.hidden(plan, view, 0))
            runs.finish(plan)
            if (gap := _gap(shared, view, small)) > TOLERANCE * (1 if shared.dtype == torch.float32 else 10):
                return f"Starting in the middle changes the logits of {plan} by {gap:.1g} of their spread."
    except _FAILURES as error:
        return f"Starting in the middle stopped with {type(error).__name__}."
    return ""


def _gap(shared: torch.Tensor, view: Any, batch: Batch) -> float:
    with torch.inference_mode():
        whole = view(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    real = batch.attention_mask.bool()
    left, right = shared[real].float(), whole[real].float()
    if left.shape != right.shape or not torch.equal(torch.isfinite(left), torch.isfinite(right)):
        return float("inf")
    finite = torch.isfinite(right)
    return float((left - right)[finite].abs().max() / right[finite].std().clamp_min(1e-6))


def _beginning(batch: Batch, rows: int = 2, tokens: int = 12) -> Batch:
    """Return the last rows' first tokens: the shortest windows, so that there is padding where the batch has some."""
    ids, mask = batch.input_ids[-rows:, :tokens], batch.attention_mask[-rows:, :tokens].clone()
    if len(ids) > 1:
        mask[-1, -tokens // 3 :] = 0
    nothing = torch.zeros(0, dtype=torch.long)
    return Batch(ids * mask, mask, nothing, nothing, nothing, nothing, nothing)


def _without_hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    rest = {name: value for name, value in kwargs.items() if name != "hidden_states" or args}
    return (args[1:] if args else None), rest


def _size(state: torch.Tensor) -> int:
    return state.numel() * state.element_size()
