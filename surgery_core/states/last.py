"""What leaves the last layer of a model that runs on a padded batch, without any logits being made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.building import operate_part, private_copy
from surgery_core.surgery.recording import Call, recorded, watched
from surgery_core.surgery.stream_form import stream_of, with_layers


def last_state(
    model: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor, look: Callable[[], None] = lambda: None
) -> torch.Tensor:
    """Return the states `[batch, seq, width]` that leave the last layer; of a model without layers, the embeddings.

    Args:
        model: a causal language model or a view of one; a private view of it runs.
        input_ids, attention_mask: `[batch, seq]`.
        look: called before every layer; it may raise to stop the work.

    Raises:
        RefusedPlanError: when neither the model nor what it is a view of has a layer.
        AnatomyError: when states have no place for each token.
    """
    stream, layers = stream_of(model), find_layers(model)[1]
    if not len(layers):
        view = operate_part(with_layers(model), 0)
        with recorded(find_layers(view)[1]) as seen:
            run_body(view, input_ids, attention_mask)
        return stream.entering(*seen.calls[0])
    view, last = private_copy(model), [None]

    def keep(number: int, call: Call, output: Any) -> None:
        # the last that runs: some layers do so only where there is an image
        last[0] = output

    with watched(find_layers(view)[1], lambda number, call: look(), keep):
        run_body(view, input_ids, attention_mask)
    return stream.leaving(last[0])


def run_body(view: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, *, grad: bool = False) -> None:
    """Run a view without its head, where it has a body of its own, so that no logits are made.

    With `grad` a graph is made from whatever asks for a gradient, as the caller's own mode has it.
    """
    with nullcontext() if grad else torch.inference_mode():
        view.base_model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
