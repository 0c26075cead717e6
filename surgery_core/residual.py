"""Record the residual stream of a model: what enters its first layer and what leaves every slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from surgery_core.anatomy import find_layers
from surgery_core.plan import LayerPlan
from surgery_core.slots import hidden_input, hidden_of
from surgery_core.tail import with_layers
from surgery_core.view import operate, operate_part, plan_of

INPUT = "input"
"""Label of the row that shows the residual stream before any layer."""


@dataclass(frozen=True, eq=False)
class Residuals:
    """The residual stream of one text.

    Attributes:
        labels: `"input"`, then one label a slot (`"L0"`, ...), all different.
        states: `[rows, seq, d_model]`, a row a label.
        logits: `[seq, vocab]`, the model's own.
    """

    labels: tuple[str, ...]
    states: torch.Tensor
    logits: torch.Tensor


def residuals(model: nn.Module, input_ids: torch.Tensor) -> Residuals:
    """Run the model on `input_ids` `[1, seq]` and return its residual stream.

    The states are taken with hooks on the layers of a private view: the last entry of transformers'
    `output_hidden_states` is already normed in most architectures.
    """
    path, layers = find_layers(model)
    plan = plan_of(model)
    labels = (INPUT, *slot_labels(plan))
    if not len(layers):
        with torch.inference_mode():
            logits = model(input_ids=input_ids, use_cache=False).logits[0]
        return Residuals(labels, _entering(model, input_ids)[None], logits)
    view = operate(model, LayerPlan.identity(len(layers)))
    seen: list[torch.Tensor] = []
    _record(view.get_submodule(path), seen)
    with torch.inference_mode():
        logits = view(input_ids=input_ids, use_cache=False).logits[0]
    return Residuals(labels, torch.stack([seen[row] for row in _rows(plan)]), logits)


def slot_labels(plan: LayerPlan) -> list[str]:
    """Return a label for each slot; the second run of a layer is `"L5 (2)"`."""
    labels: list[str] = []
    counts: dict[str, int] = {}
    for slot in plan:
        counts[slot.label] = counts.get(slot.label, 0) + 1
        labels.append(slot.label if counts[slot.label] == 1 else f"{slot.label} ({counts[slot.label]})")
    return labels


def _record(layers: Any, seen: list[torch.Tensor]) -> None:
    def entering(module: Any, args: Any, kwargs: Any) -> None:
        seen.append(hidden_input(args, kwargs)[0].detach())

    layers[0].register_forward_pre_hook(entering, with_kwargs=True)
    for layer in layers:
        layer.register_forward_hook(lambda module, args, output: seen.append(hidden_of(output)[0].detach()))


def _rows(plan: LayerPlan) -> list[int]:
    """Return which recorded state belongs to each row: of a parallel slot, that of its last member."""
    rows = [0]
    for slot in plan:
        rows.append(rows[-1] + len(slot.layers))
    return rows


def _entering(model: nn.Module, input_ids: torch.Tensor) -> torch.Tensor:
    """Return what would enter the first layer, `[seq, d_model]`, of a view that has none."""
    base = with_layers(model)
    path = find_layers(base)[0]
    view = operate_part(base, 0)
    seen: list[torch.Tensor] = []
    _record(view.get_submodule(path), seen)
    with torch.inference_mode():
        view(input_ids=input_ids, use_cache=False)
    return seen[0]
