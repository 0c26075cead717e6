"""Run a plan by hand: an independent way to the logits that a view should give.

The base runs once, and the arguments with which it calls each layer (masks, positions, rotary embeddings) are
recorded. Then its own layers are called one after the other in the plan's order, each with its recorded arguments,
and what comes out goes through the base's own tail. No config is changed and no layer gets a new index, so nothing
of what makes a view right is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from surgery_core.anatomy import find_halves, find_layers
from surgery_core.material import Material
from surgery_core.plan import Layer, LayerPlan
from surgery_core.slots import Silenced, hidden_input, hidden_of, with_hidden
from surgery_core.view import operate


class ByHand:
    """Logits of any plan for one batch, from calls of the base's layers.

    Args:
        model: the base.
        inputs: `input_ids` and `attention_mask`, both `[batch, seq]`.
        material: donors and means that the plan names. A donor's layers are called with the arguments of the
            donor's own run on the same inputs.
    """

    def __init__(self, model: nn.Module, inputs: dict[str, torch.Tensor], material: Material | None = None) -> None:
        self.material = material or Material()
        self.donors: dict[str, ByHand] = {}
        path, layers = find_layers(model)
        self.model = operate(model, LayerPlan.identity(len(layers)))
        self.layers = self.model.get_submodule(path)
        self.inputs = inputs
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        with torch.inference_mode(), ExitStack() as stack:
            for layer in self.layers:
                handle = layer.register_forward_pre_hook(self._record, with_kwargs=True)
                stack.callback(handle.remove)
            self.model(**inputs, use_cache=False)

    def logits(self, plan: LayerPlan) -> torch.Tensor:
        """Return the logits `[batch, seq, vocab]` that the plan should give."""
        hidden = hidden_input(*self.calls[0])
        with torch.inference_mode():
            for slot in plan:
                changes = [self._contribution(layer, hidden) for layer in slot.layers]
                hidden = hidden + torch.stack(changes).mean(0) if len(changes) > 1 else hidden + changes[0]
            return self._tail(hidden)

    def _record(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.calls.append((args, dict(kwargs)))

    def _donor(self, name: str) -> ByHand:
        if name not in self.donors:
            donor = self.material.donors[name]
            vocab = donor.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
            inputs = {**self.inputs, "input_ids": self.inputs["input_ids"] % vocab}
            self.donors[name] = ByHand(donor, inputs)
        return self.donors[name]

    def _contribution(self, spec: Layer, hidden: torch.Tensor) -> torch.Tensor:
        if spec.mean and self.material.means is not None:
            return spec.scale * self.material.means.vectors[spec.index].expand_as(hidden)
        if spec.donor is not None:
            return self._donor(spec.donor)._contribution(replace(spec, donor=None), hidden)
        layer = self.layers[spec.index]
        args, kwargs = self.calls[spec.index]
        with _without(layer, spec):
            output = layer(hidden, *args[1:], **kwargs) if args else layer(**{**kwargs, "hidden_states": hidden})
        return spec.scale * (hidden_of(output) - hidden)

    def _tail(self, hidden: torch.Tensor) -> torch.Tensor:
        last = self.layers[len(self.layers) - 1]
        handle = last.register_forward_hook(lambda module, args, output: with_hidden(output, hidden))
        try:
            logits: torch.Tensor = self.model(**self.inputs, use_cache=False).logits
        finally:
            handle.remove()
        return logits


@contextmanager
def _without(layer: nn.Module, spec: Layer) -> Iterator[None]:
    """Take one half's contribution away with a hook, for as long as the block runs."""
    if spec.part == "both":
        yield
        return
    attention, mlp = find_halves(layer)
    half = layer.get_submodule(str(mlp if spec.part == "attn" else attention))
    handle = half.register_forward_hook(_nothing, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _nothing(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
    return Silenced.silence(type(module), args, kwargs, output)
