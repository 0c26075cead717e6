"""The base's run over texts, kept so that an edit costs only what it changed.

What stands before the first slot that a plan changes is the same as in the base. The base runs once over every batch; how
it calls its layers is recorded, and so are its states, behind every layer or, where memory ends, behind every n-th. A
view then runs only its own layers from there on, called one by one as the base calls them.

Whether a model allows that is not known from its class: each kind of change is tried once on a few tokens, both ways.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import nn

from surgery_core.failures import FAILURES
from surgery_core.states.beginnings_check import TOLERANCE, beginning
from surgery_core.states.beginnings_tree import size_of
from surgery_core.states.last import last_state
from surgery_core.states.layer_calls import Rest, call_layer, record_calls
from surgery_core.states.windows import Batch
from surgery_core.surgery.anatomy import adapters_around, base_of, find_layers, plan_of
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.change_kinds import change_kind, layer_kinds
from surgery_core.surgery.closeness import relative_difference
from surgery_core.surgery.moves import is_moved
from surgery_core.surgery.placement import place
from surgery_core.surgery.recording import watched
from surgery_core.surgery.stream_form import stream_of

KEPT_BYTES = 2**27
"""Most bytes of states that are kept of a run (128 MB): SmolLM2's thirty layers over the bundled texts take 84 MB."""

Look = Callable[[], None]

_RIGHT: WeakKeyDictionary[nn.Module, dict[Hashable, bool]] = WeakKeyDictionary()
"""By base, whether a kind of change can start in the middle, for as long as the base lives."""


def can_be_kept(model: nn.Module) -> bool:
    """Whether the states of a model are one vector a token, so that its layers can be called one by one."""
    stream = stream_of(model)
    return bool(len(find_layers(model)[1])) and stream.is_plain and not stream.problem


class BaseRun:
    """A model's run over batches. Safe beside other threads once every batch was recorded.

    Args:
        model: the base, one that `can_be_kept`; it is not changed.
        batches: what it runs on.
        memory: most bytes of states that are kept.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Batch], memory: int = KEPT_BYTES) -> None:
        self.model, self.batches, self.memory = model, tuple(batches), memory
        self.kinds = layer_kinds(model)
        self.every = 1
        self._view = private_copy(model)
        self._states: list[dict[int, torch.Tensor]] = [{} for _ in self.batches]
        self._calls: dict[int, list[Rest]] = {}
        self._kept = 0
        self._few: BaseRun | None = None
        self._lock = threading.Lock()

    def record(self, number: int, look: Look = lambda: None) -> torch.Tensor:
        """Run the base on a batch and keep what views need; return what leaves its last layer, `[batch, seq, d_model]`.

        Args:
            number: of the batch.
            look: called before every layer; it may raise to stop the work.
        """
        last = [torch.empty(0)]

        def seen(depth: int, state: torch.Tensor) -> None:
            last[0] = state
            self._keep(number, depth, state)

        self._calls[number] = record_calls(self._view, self.batches[number], seen, look)
        return last[0]

    def starts(self, view: nn.Module, look: Look = lambda: None) -> bool:
        """Whether a view can start where its plan parts from the base: it is one of the base, and its kind was tried.

        `look` is called before every layer of the trial; it may raise to stop the work.
        """
        if base_of(view) is not self.model or any(len(calls) != len(self.kinds) for calls in self._calls.values()):
            return False
        if adapters_around(view) != adapters_around(self.model) or is_moved(view):
            return False
        plan = plan_of(view)
        if not len(plan) or any(layer.donor is not None or layer.mean for slot in plan for layer in slot.layers):
            return False
        known, kind = _RIGHT.setdefault(self.model, {}), change_kind(plan, self.kinds)
        with self._lock:
            if kind not in known:
                known[kind] = self._is_right(view, look)
        return known[kind]

    def last(self, view: nn.Module, number: int, look: Look = lambda: None) -> torch.Tensor:
        """Return what leaves the last layer of a view for a batch, `[batch, seq, d_model]`.

        Args:
            view: of the base, one that `starts`.
            number: of the batch.
            look: called before every layer; it may raise to stop the work.
        """
        plan, layers, calls = plan_of(view), find_layers(view)[1], self._calls[number]
        same = next((at for at, slot in enumerate(plan) if at >= len(calls) or str(slot) != str(at)), len(plan))
        begin = max(depth for depth in self._states[number] if depth <= same)
        # a copy: a layer may write into its input
        hidden = self._states[number][begin].clone()
        # the slots before `begin` are whole layers of the base, one place each
        for placement, layer in list(zip(place(plan), layers, strict=True))[begin:]:
            look()
            hidden = call_layer(layer, calls[placement.layer.index], hidden)
        return hidden

    def _keep(self, number: int, depth: int, state: torch.Tensor) -> None:
        """Keep what enters the first layer, and of the other states every n-th."""
        if depth % self.every:
            return
        self._states[number][depth] = state.clone()
        self._kept += size_of(state)
        while self._kept > self.memory and self.every <= len(self.kinds):
            self.every *= 2
            for states in self._states:
                for gone in [at for at in states if at % self.every]:
                    self._kept -= size_of(states.pop(gone))

    def _is_right(self, view: nn.Module, look: Look) -> bool:
        """Run a view both ways on a few tokens."""
        try:
            if self._few is None:
                few = BaseRun(self.model, [beginning(self.batches[0])])
                few.record(0, look)
                self._few = few
            batch, copy = self._few.batches[0], private_copy(view)
            ours = self._few.last(view, 0, look)
            with watched(find_layers(copy)[1], lambda number, call: look()):
                whole = last_state(copy, batch.input_ids, batch.attention_mask)
        except FAILURES:
            return False
        real = batch.attention_mask.bool()
        close = TOLERANCE * (1 if whole.dtype == torch.float32 else 10)
        return relative_difference(ours[real.to(ours.device)], whole[real.to(whole.device)], blind=True) <= close
