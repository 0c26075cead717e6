"""A model without its weights, for a process that asks what a model is made of and has others run it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from surgery_core.surgery.clone import Cloner

_OFFLOADED = ("_hf_hook", "_old_forward", "forward")
"""What accelerate leaves on a module whose weights it moves about; a skeleton has none to move."""


def without_weights(model: nn.Module) -> Any:
    """Return a copy of a model whose parameters and buffers are on torch's meta device; it can be pickled.

    Plans are checked, and views made, on it as on the model itself; nothing can be run. Tied weights stay tied.
    """
    copy = Cloner().module(model)
    made: dict[int, torch.Tensor] = {}
    for module in copy.modules():
        if "_hf_hook" in module.__dict__:
            for name in _OFFLOADED:
                module.__dict__.pop(name, None)
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    made[id(tensor)] = _empty(tensor)
                held[name] = made[id(tensor)]
    return copy


def _empty(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the same shape, format and kind without storage."""
    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
