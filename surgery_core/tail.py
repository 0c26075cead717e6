"""Run only what comes after the layers, as the model itself would: final norm, head, scales and soft caps.

A view with a single slot whose layer returns a given hidden state leaves everything behind the layers to the
model's own code, whatever the architecture does there.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from surgery_core.anatomy import device_of, find_layers, width_of
from surgery_core.errors import RefusedPlanError
from surgery_core.slots import become
from surgery_core.view import base_of, operate_part

CHUNK_ELEMENTS = 2**24
"""Most logits that are held at once where only statistics of them are wanted (64 MB in float32)."""


class Injected:
    """A layer that ignores its input and returns the hidden states of this thread."""

    _surgery_hidden: threading.local

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the injected hidden states `[batch, seq, d_model]` in the form of the layer's own output."""
        hidden = self._surgery_hidden.value
        if self._surgery_extras is None:  # type: ignore[attr-defined]
            return hidden
        return (hidden, *[None] * self._surgery_extras)  # type: ignore[attr-defined]


class Tail:
    """The part of a model behind its layers.

    Args:
        model: a transformers causal language model, or a view of one. A view without layers has its base's tail.

    Raises:
        RefusedPlanError: when there is no layer to stand in for.
    """

    def __init__(self, model: nn.Module) -> None:
        model = with_layers(model)
        path = find_layers(model)[0]
        self.model = operate_part(model, 0)
        self.hidden = threading.local()
        self.d_model = width_of(model)
        layer: Any = self.model.get_submodule(path)[0]
        become(layer, Injected)
        layer._surgery_hidden = self.hidden
        layer._surgery_extras = layer_extras(model)

    def logits(self, hidden: torch.Tensor, *, grad: bool = False) -> torch.Tensor:
        """Return the logits `[..., seq, vocab]` of hidden states `[..., seq, d_model]` as they leave a layer.

        With `grad`, gradients flow back to the hidden states.
        """
        # one token a row: nothing behind the layers looks at other tokens, and no position is beyond the context
        flat = hidden.reshape(-1, 1, self.d_model)
        ids = torch.zeros(flat.shape[:2], dtype=torch.long, device=flat.device)
        self.hidden.value = flat
        try:
            with nullcontext() if grad else torch.inference_mode():
                output = self.model(input_ids=ids, use_cache=False).logits
        finally:
            self.hidden.value = None
        return output.reshape(*hidden.shape[:-1], -1)  # type: ignore[no-any-return]


def with_layers(model: nn.Module) -> nn.Module:
    """Return the model, or the nearest base of a view without layers that has some.

    Raises:
        RefusedPlanError: when there is none.
    """
    found: nn.Module | None = model
    while found is not None and not len(find_layers(found)[1]):
        found = base_of(found)
    if found is None:
        raise RefusedPlanError("The model has no layers, so there is nothing to read from.")
    return found


def layer_extras(model: nn.Module) -> int | None:
    """Return how many values follow the residual stream in what layers return; None where they return a tensor.

    Found by one run on a single token, on a private view. The form has to be right: code that unpacks
    `hidden, *rest = layer(...)` takes a lone tensor's first batch row.
    """
    model = with_layers(model)
    path = find_layers(model)[0]
    view = operate_part(model, 0)
    seen: list[Any] = []
    view.get_submodule(path)[0].register_forward_hook(lambda module, args, output: seen.append(output))
    device = device_of(model)
    with torch.inference_mode():
        view(input_ids=torch.zeros((1, 1), dtype=torch.long, device=device), use_cache=False)
    return None if isinstance(seen[0], torch.Tensor) else len(seen[0]) - 1
