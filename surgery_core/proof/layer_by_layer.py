"""Run a plan by hand: an independent way to the logits that a view should give.

The base runs once, and the arguments with which it calls each layer (masks, positions, rotary embeddings) are
recorded. Then its own layers are called one after the other in the plan's order, each with its recorded arguments,
and what comes out goes through the base's own tail. What layers hand each other besides the residual stream (router
states, a second stream) is recognised in the recorded run and handed on in the plan's order. No config is changed, no
layer gets a new index, and no list is rearranged: what a view could get wrong is not used. Shared with views are the
copy of the unchanged model on which calls are recorded, and where the halves of a layer and its adapters are; those
are left out by peft's own switch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from surgery_core.errors import RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Layer, Slot
from surgery_core.surgery.adapters import adapter_paths, switched_off
from surgery_core.surgery.anatomy import adapters_around, adapters_left_out, find_layers
from surgery_core.surgery.behaviours import Silenced
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.ingredients import Ingredients
from surgery_core.surgery.layer_io import contributed, hidden_input, hidden_of, with_hidden
from surgery_core.surgery.layer_parts import halves_of
from surgery_core.surgery.recording import recorded
from surgery_core.surgery.stream_form import stream_of

_Extras = dict[int | str, Any]
"""What layers hand each other besides the residual stream, by where it goes among their arguments."""


class ByHand:
    """Logits of any plan for one batch, from calls of the base's layers.

    Args:
        model: the base.
        inputs: `input_ids` and `attention_mask`, both `[batch, seq]`.
        ingredients: donors and means that the plan names. A donor's layers are called with the arguments of the
            donor's own run on the same inputs.
        bare: whether the adapters outside of the layers are left out.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        ingredients: Ingredients | None = None,
        *,
        bare: bool = False,
    ) -> None:
        self.ingredients = ingredients or Ingredients()
        self.donors: dict[str, ByHand] = {}
        self.model = private_copy(model)
        self._bare = self if bare else None
        if bare:
            switched_off(self.model, adapters_around(self.model))
        self.layers: Any = find_layers(self.model)[1]
        self.inputs = inputs
        with torch.inference_mode(), recorded(self.layers) as seen:
            self.model(**inputs, use_cache=False)
        self.calls, self.outputs = seen.calls, seen.outputs
        self.handed_on = _handed_on(list(self.calls.values()), list(self.outputs.values()))

    def logits(self, plan: LayerPlan) -> torch.Tensor:
        """Return the logits `[batch, seq, vocab]` that the plan should give.

        Raises:
            RefusedPlanError: for a parallel, damped or mean slot of a model whose layers hand each other more than the
                residual stream, where there is no one right answer.
        """
        if self._bare is not self and adapters_left_out(self.model, plan):
            return self._without_adapter().logits(plan)
        first = next(iter(self.calls.values()))
        hidden, extras = hidden_input(*first), {key: _argument(first, key) for key in self.handed_on}
        if self.handed_on:
            _check_followed(plan)
        with torch.inference_mode():
            for slot in plan:
                hidden, extras = self._after(slot, hidden, extras)
            return self._tail(hidden, extras)

    def _after(self, slot: Slot, hidden: torch.Tensor, extras: _Extras) -> tuple[torch.Tensor, _Extras]:
        """Return the stream behind a slot, and what its last layer hands on.

        A layer that runs by itself and unscaled gives the stream on as it is: to take its contribution and add that
        again would round at every layer, by more than a deleted layer changes in bfloat16.
        """
        if slot.damping is not None:
            state, further = hidden, extras
            for layer in slot.layers:
                state, _, further = self._ran(layer, state, further)
            entered, added = contributed(hidden, state)
            return (entered + slot.damping * added).to(state.dtype), further
        ran = [self._ran(layer, hidden, extras) for layer in slot.layers]
        state, change, further = ran[-1]
        if len(ran) > 1:
            change = torch.stack([one.to(change.device) for _, one, _ in ran]).mean(0)
            state = (hidden.to(change) + change).to(state.dtype)
        return state, further

    def runs(self, plan: LayerPlan) -> int:
        """Return how many layers of the plan should run; some run only on an image or the like, never on text."""
        return sum(layer.donor is not None or layer.index in self.calls for slot in plan for layer in slot.layers)

    def passes_on(self, index: int) -> bool:
        """Whether a layer without both of its halves passes each token's state on, and only that token's.

        That is so if its attention and MLP were found, none was missed that looks at other tokens, and taking them
        away leaves the residual stream.
        """
        if index not in self.calls:
            return True
        layer, stream = self.layers[index], stream_of(self.model)
        if stream.seq_axis is None:
            return False
        hidden = hidden_input(*self.calls[index])
        first = torch.zeros(hidden.shape[stream.seq_axis], dtype=torch.bool, device=hidden.device)
        first[0] = True
        where = first.reshape([-1 if axis == stream.seq_axis else 1 for axis in range(hidden.dim())])
        with torch.inference_mode(), _silenced(layer, *halves_of(layer).attention, *halves_of(layer).mlp):
            before, after = (
                hidden_of(layer(*args, **kwargs))
                for args, kwargs in (
                    self._call(index, state, {}) for state in (hidden, hidden.where(~where, hidden.roll(1, -1)))
                )
            )
        changed = (before != after).movedim(stream.seq_axis, 0).flatten(1).any(1)
        return torch.equal(changed, first)

    def _without_adapter(self) -> ByHand:
        """Return the run of the model without what its adapter has outside of the layers."""
        if self._bare is None:
            self._bare = ByHand(self.model, self.inputs, self.ingredients, bare=True)
        return self._bare

    def _donor(self, name: str) -> ByHand:
        if name not in self.donors:
            donor = self.ingredients.donors[name]
            vocab = donor.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
            inputs = {**self.inputs, "input_ids": self.inputs["input_ids"] % vocab}
            self.donors[name] = ByHand(donor, inputs)
        return self.donors[name]

    def _ran(self, spec: Layer, hidden: torch.Tensor, extras: _Extras) -> tuple[torch.Tensor, torch.Tensor, _Extras]:
        """Return the stream behind a layer that reads `hidden`, what the layer adds, and what it hands on besides."""
        if spec.mean and self.ingredients.means is not None:
            mean = spec.scale * stream_of(self.model).added(self.ingredients.means.vectors[spec.index]).to(hidden)
            return hidden + mean, mean.expand_as(hidden), extras
        if spec.donor is not None:
            return self._donor(spec.donor)._ran(replace(spec, donor=None), hidden, extras)
        if spec.index not in self.calls:
            return hidden, torch.zeros_like(hidden), extras
        layer = self.layers[spec.index]
        args, kwargs = self._call(spec.index, hidden, extras)
        with _without(layer, spec), self._stitched(layer, spec):
            output = layer(*args, **kwargs)
        state = hidden_of(output)
        if spec.scale != 1:
            entered, added = contributed(hidden, output)
            state = (entered + spec.scale * added).to(state.dtype)
        return state, contributed(hidden, state)[1], {key: output[at] for key, at in self.handed_on.items()}

    def _stitched(self, layer: nn.Module, spec: Layer) -> AbstractContextManager[None]:
        """Give a stitched layer its projection while the block runs; the copy's own dictionary of parameters has it."""
        if not spec.stitched or self.ingredients.stitches is None:
            return nullcontext()
        return self.ingredients.stitches.of(spec).within(layer)

    def _call(self, index: int, hidden: torch.Tensor, extras: _Extras) -> tuple[list[Any], dict[str, Any]]:
        """Return the recorded arguments of a layer with another residual stream and other handed-on values."""
        recorded, keywords = self.calls[index]
        args, kwargs = list(recorded), dict(keywords)
        if args:
            args[0] = hidden
        else:
            kwargs["hidden_states"] = hidden
        for key, value in extras.items():
            if isinstance(key, int):
                args[key] = value
            else:
                kwargs[key] = value
        return args, kwargs

    def _tail(self, hidden: torch.Tensor, extras: _Extras) -> torch.Tensor:
        """Run the base with layers that give back what was recorded, and the last one `hidden`."""
        values = {at: extras[key] for key, at in self.handed_on.items()}
        last = max(self.calls)
        given = {**self.outputs, last: with_hidden(self.outputs[last], hidden, values)}
        with ExitStack() as stack:
            for index, output in given.items():
                stack.enter_context(_answering(self.layers[index], output))
            return self.model(**self.inputs, use_cache=False).logits  # type: ignore[no-any-return]


@contextmanager
def _answering(layer: nn.Module, output: Any) -> Iterator[None]:
    """Let a layer answer with `output`, without running, for as long as the block runs."""
    own = layer.__dict__.get("forward")
    layer.__dict__["forward"] = lambda *args, **kwargs: output
    try:
        yield
    finally:
        del layer.__dict__["forward"]
        if own is not None:
            layer.__dict__["forward"] = own


def _handed_on(calls: list[Any], outputs: list[Any]) -> dict[int | str, int]:
    """Return which argument of a layer is which further output of the layer before it, found by identity."""
    found: dict[int | str, int] = {}
    for output, (args, kwargs) in _pairs(outputs, calls):
        further = {} if isinstance(output, torch.Tensor) else dict(enumerate(output))
        for at, value in further.items():
            if at and isinstance(value, torch.Tensor):
                keys = [*range(1, len(args)), *(key for key in kwargs if key != "hidden_states")]
                found |= {key: at for key in keys if _argument((args, kwargs), key) is value}
    return found


def _pairs(outputs: list[Any], calls: list[Any]) -> list[tuple[Any, Any]]:
    """Return each layer's output with the call of the layer after it."""
    return list(zip(outputs[:-1], calls[1:], strict=True))


def _argument(call: tuple[tuple[Any, ...], dict[str, Any]], key: int | str) -> Any:
    return call[0][key] if isinstance(key, int) else call[1][key]


def _check_followed(plan: LayerPlan) -> None:
    special = [slot for slot in plan if len(slot.layers) > 1 or slot.layers[0].mean]
    if special:
        raise RefusedPlanError(
            f"{special[0]} has no one meaning here: layers of this architecture hand each other more than the residual "
            "stream; use whole layers one after the other."
        )


@contextmanager
def _without(layer: nn.Module, spec: Layer) -> Iterator[None]:
    """Take one half's contribution away with a hook, and adapters with peft's switch, for as long as the block runs."""
    halves = halves_of(layer)
    taken = {"both": (), "attn": halves.mlp, "mlp": halves.attention}[spec.part]
    with ExitStack() as stack:
        if not spec.adapter:
            stack.callback(_switch_back, layer, switched_off(layer, adapter_paths(layer)))
        stack.enter_context(_silenced(layer, *taken))
        yield


def _switch_back(layer: nn.Module, before: dict[str, bool]) -> None:
    for path, off in before.items():
        switched_off(layer, [path], off=off)


@contextmanager
def _silenced(layer: nn.Module, *paths: str) -> Iterator[None]:
    with ExitStack() as stack:
        for path in paths:
            hook = layer.get_submodule(path).register_forward_hook(_nothing, with_kwargs=True)
            stack.callback(hook.remove)
        yield


def _nothing(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
    return Silenced.silence(type(module), args, kwargs, output)
