"""Where a model stops computing numbers: the first layer whose states are not finite, and why, as a sentence."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from surgery_core.anatomy import find_layers
from surgery_core.last_state import run_body
from surgery_core.plan import LayerPlan
from surgery_core.residual import slot_labels
from surgery_core.slots import hidden_input, hidden_of, place
from surgery_core.view import operate, plan_of
from surgery_core.windows import Batch

_HALF = (torch.float16, torch.bfloat16)


def not_finite(model: nn.Module, batch: Batch) -> str:
    """Return a sentence that says from which layer on a model's states are not numbers, and why where that shows.

    Args:
        model: a causal language model, or a view of one, whose logits were seen not to be finite.
        batch: texts on which that was seen.
    """
    layers = find_layers(model)[1]
    view = operate(model, LayerPlan.identity(len(layers)))
    real, seen = batch.attention_mask.bool(), [False] * (len(layers) + 1)

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        seen[0] = _broken(hidden_input(args, kwargs), real)

    def leave(number: int) -> Any:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            seen[number] = _broken(hidden_of(output), real)

        return look

    for number, layer in enumerate(find_layers(view)[1], 1):
        if number == 1:
            layer.register_forward_pre_hook(enter, with_kwargs=True)
        layer.register_forward_hook(leave(number))
    run_body(view, batch.input_ids, batch.attention_mask)
    places = [number for number, broken in enumerate(seen) if broken]
    if not places:
        return _sentence("the head", model.get_output_embeddings(), model)  # type: ignore[operator]
    if places[0] == 0:
        return _sentence("the embeddings", model.get_input_embeddings(), model)  # type: ignore[operator]
    return _sentence(_labels(model)[places[0] - 1], layers[places[0] - 1], model)


def _labels(model: nn.Module) -> list[str]:
    """Return the label of the slot that each layer of a model stands in."""
    plan = plan_of(model)
    labels = slot_labels(plan)
    return [labels[placement.slot] for placement in place(plan)]


def _broken(states: torch.Tensor, real: torch.Tensor) -> bool:
    """Whether a state of a token that is no padding is not finite."""
    if states.shape[: real.dim()] == real.shape:
        states = states[real.to(states.device)]
    return not bool(states.isfinite().all())


def _sentence(where: str, part: Any, model: nn.Module) -> str:
    tensors = list(part.parameters()) if isinstance(part, nn.Module) else []
    if any(tensor.is_floating_point() and not bool(tensor.isfinite().all()) for tensor in tensors):
        return f"Not a number from {where} on: {where} has weights that are no numbers; get the checkpoint anew."
    dtype: Any = next(model.parameters()).dtype
    if dtype in _HALF:
        name = str(dtype).removeprefix("torch.")
        return (
            f"Not a number from {where} on: its values are too large for {name}; open the model in float32, or change "
            "less there."
        )
    return f"Not a number from {where} on: its values are too large; change less there."
