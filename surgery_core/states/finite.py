"""Where a model stops computing numbers: the first layer whose states are not finite, and why, as a sentence."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from surgery_core.plans.labels import slot_labels
from surgery_core.states.last import run_body
from surgery_core.states.windows import Batch
from surgery_core.surgery.anatomy import find_layers, plan_of
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.layer_io import hidden_input, hidden_of
from surgery_core.surgery.placement import place
from surgery_core.surgery.recording import Call, watched

_KNOWN: Any = WeakTensorKeyDictionary()
"""Whether weights that were looked at are numbers, with their version, which counts changes in place."""

_HALF = (torch.float16, torch.bfloat16)
_FLOATS = (*_HALF, torch.float32, torch.float64)


def broken_weights(model: nn.Module) -> str:
    """Return a sentence that says which part of a model has weights that are no numbers; empty where none has.

    Kernels of attention may drop such a weight's results without a trace, so looking at the logits is not enough. Each
    weight is looked at once, until it is changed.
    """
    if _is_sound(model):
        return ""
    parts = [
        ("the embeddings", model.get_input_embeddings()),  # type: ignore[operator]
        *zip(_labels(model), find_layers(model)[1], strict=True),
        ("the head", model.get_output_embeddings()),  # type: ignore[operator]
        ("the model", model),
    ]
    return next((_weights(name) for name, part in parts if part is not None and not _is_sound(part)), "")


def _is_sound(part: nn.Module) -> bool:
    return all(_is_finite(parameter) for parameter in part.parameters())


def _is_finite(parameter: torch.Tensor) -> bool:
    """Whether a weight is numbers; one that is packed, or not in memory, is taken for sound."""
    if type(parameter) is not nn.Parameter or parameter.device.type == "meta" or parameter.dtype not in _FLOATS:
        return True
    version = 0 if parameter.is_inference() else parameter._version
    known = _KNOWN.get(parameter)
    if known is None or known[0] != version:
        known = _KNOWN[parameter] = (version, bool(parameter.detach().isfinite().all()))
    return bool(known[1])


def not_finite(model: nn.Module, batch: Batch) -> str:
    """Return a sentence that says from which layer on a model's states are not numbers, and why where that shows.

    Args:
        model: a causal language model, or a view of one, whose logits were seen not to be finite.
        batch: texts on which that was seen.
    """
    layers, view = find_layers(model)[1], private_copy(model)
    real, seen = batch.attention_mask.bool(), [False] * (len(layers) + 1)

    def enter(number: int, call: Call) -> None:
        if number == 0:
            seen[0] = _broken(hidden_input(*call), real)

    def leave(number: int, call: Call, output: Any) -> None:
        seen[number + 1] = _broken(hidden_of(output), real)

    with watched(find_layers(view)[1], enter, leave):
        run_body(view, batch.input_ids, batch.attention_mask)
    places = [number for number, broken in enumerate(seen) if broken]
    if not places:
        return _sentence("the head", model.get_output_embeddings(), model)  # type: ignore[operator]
    if places[0] == 0:
        return _sentence("the embeddings", model.get_input_embeddings(), model)  # type: ignore[operator]
    return _sentence(_labels(model)[places[0] - 1], layers[places[0] - 1], model)


def _weights(where: str) -> str:
    verb = "have" if where.endswith("s") else "has"
    return f"Not a number from {where} on: {where} {verb} weights that are no numbers; get the checkpoint anew."


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
    if isinstance(part, nn.Module) and not _is_sound(part):
        return _weights(where)
    dtype: Any = next(model.parameters()).dtype
    if dtype in _HALF:
        name = str(dtype).removeprefix("torch.")
        return (
            f"Not a number from {where} on: its values are too large for {name}; open the model in float32, or change "
            "less there."
        )
    return f"Not a number from {where} on: its values are too large; change less there."
