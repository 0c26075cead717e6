"""The Jacobian lens's reference estimator, derived again from its description, in plain torch and transformers.

The text runs in copies, one for each output component of a pass; a cotangent has a one at that component in every valid
target position, and what arrives at a layer is averaged over the valid source positions. Valid are the positions from
`skip` to the last but one. Nothing of `surgery_core` is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def reference_jacobians(
    model: Any,
    layers: Sequence[Any],
    ids: Sequence[int],
    *,
    skip: int = 16,
    together: int = 8,
    components: int | None = None,
) -> torch.Tensor:
    """Return the first `components` rows of each layer's matrix, `[layers - 1, components, d_model]`.

    Args:
        model: a plain causal language model; its body runs, without the head.
        layers: its decoder layers.
        ids: the text, at most 128 tokens.
        skip: positions that are left out at the beginning.
        together: components of a pass.
        components: how many; all of them by default.
    """
    states: list[torch.Tensor] = []

    def take(module: Any, args: Any, output: Any) -> Any:
        state = output if isinstance(output, torch.Tensor) else output[0]
        if not states:
            state = state.detach().requires_grad_()
        states.append(state)
        return state if isinstance(output, torch.Tensor) else (state, *output[1:])

    handles = [layer.register_forward_hook(take) for layer in layers]
    with torch.enable_grad():
        model.base_model(input_ids=torch.tensor([list(ids)]).expand(together, -1), use_cache=False)
    for handle in handles:
        handle.remove()
    *sources, target = states
    width, valid = target.shape[-1], torch.arange(skip, len(ids) - 1)
    components = width if components is None else components
    found = torch.zeros((len(sources), components, width))
    for start in range(0, components, together):
        count = min(together, components - start)
        cotangent, rows = torch.zeros_like(target), torch.arange(count)
        cotangent[rows[:, None], valid[None], start + rows[:, None]] = 1.0
        grads = torch.autograd.grad(target, sources, cotangent, retain_graph=start + together < components)
        for matrix, grad in zip(found, grads, strict=True):
            matrix[start : start + count] = grad[:count, valid].float().mean(dim=1)
    return found
