"""How a model calls its layers on a batch, kept so that other layers can be called in the same way, one by one.

What a layer is called with besides the residual stream (masks, positions, rotary embeddings) belongs to the layer, not to
its position: masks and rotary embeddings depend on its type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from surgery_core.states.last import run_body
from surgery_core.states.windows import Batch
from surgery_core.surgery import recording
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.behaviours import Averaged, MeanOf, mix_in
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.layer_io import hidden_input, hidden_of
from surgery_core.surgery.marks import mark
from surgery_core.surgery.stream_form import stream_of

Rest = tuple[tuple[Any, ...] | None, dict[str, Any]]
"""What a layer is called with besides the residual stream; None for the first part where that goes by name."""

Seen = Callable[[int, torch.Tensor], None]
"""What is told of a state: how many layers are behind it, and itself, `[batch, seq, d_model]`."""


def record_calls(view: nn.Module, batch: Batch, seen: Seen, look: Callable[[], None] = lambda: None) -> list[Rest]:
    """Run a private copy of a model on a batch, tell of every state, and return how its layers are called, in order.

    Args:
        view: the copy; it gets hooks for as long as it runs.
        batch: what it runs on.
        seen: told of what enters the first layer and what leaves each.
        look: called before every layer; it may raise to stop the work.
    """
    calls: list[Rest] = []
    last = [torch.empty(0)]

    def called(number: int, call: recording.Call) -> None:
        look()
        seen(len(calls), hidden_input(*call))
        calls.append(without_hidden(call))

    def returned(number: int, call: recording.Call, output: Any) -> None:
        last[0] = hidden_of(output)

    with recording.watched(find_layers(view)[1], called, returned):
        run_body(view, batch.input_ids, batch.attention_mask)
    seen(len(calls), last[0])
    return calls


def calls_of_copies(model: nn.Module, batch: Batch, copies: int) -> list[Rest]:
    """Return how layers are called when a batch is there several times: as the model itself would call them.

    Its layers are passed by, so only embeddings and masks are made.

    Args:
        model: the base; a private copy of it runs.
        batch: what it would run on.
        copies: how often its rows follow each other.
    """
    view, nothing = private_copy(model), MeanOf(torch.zeros(()), stream_of(model).extras)
    for layer in find_layers(view)[1]:
        mix_in(layer, Averaged)
        mark(layer, nothing)
    with recording.recorded(find_layers(view)[1]) as seen:
        run_body(view, batch.input_ids.repeat(copies, 1), batch.attention_mask.repeat(copies, 1))
    return [without_hidden(call) for call in seen.calls.values()]


def call_layer(layer: nn.Module, rest: Rest, hidden: torch.Tensor) -> torch.Tensor:
    """Call a layer on a residual stream `[batch, seq, d_model]`, and return the one that leaves it."""
    args, kwargs = rest
    with torch.inference_mode():
        output = layer(**{**kwargs, "hidden_states": hidden}) if args is None else layer(hidden, *args, **kwargs)
    return hidden_of(output)


def without_hidden(call: recording.Call) -> Rest:
    """Return what a layer is called with besides the residual stream."""
    args, kwargs = call
    rest = {name: value for name, value in kwargs.items() if name != "hidden_states" or args}
    return (args[1:] if args else None), rest
