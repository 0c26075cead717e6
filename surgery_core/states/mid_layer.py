"""The residual stream inside a layer: after its attention, before its MLP.

A layer whose MLP is silenced returns just that, whatever norms and scales stand around its halves. Whether there is
such a point at all is found by trying, not by the model's class: where attention and MLP read the same input side by
side (GPT-NeoX, GPT-J, Phi, Falcon), and where a norm follows the sum (the original transformer), there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from surgery_core.errors import AnatomyError
from surgery_core.surgery.anatomy import device_of, find_layers
from surgery_core.surgery.behaviours import Silenced, mix_in
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.layer_io import hidden_input, hidden_of
from surgery_core.surgery.layer_parts import halves_of
from surgery_core.surgery.recording import Call, recorded, watched


def halfway(model: nn.Module, wanted: Sequence[int]) -> Callable[[int, Call], torch.Tensor | None]:
    """Return what gives the state after the attention of a layer that is called in a run of a model.

    Args:
        model: the model that runs.
        wanted: which of its layers are read.

    Returns:
        A function of a layer's number and its call, which gives the state `[seq, d_model]` of the batch's first text,
        or None for a layer that is not read.

    Raises:
        AnatomyError: when a wanted layer has no such point.
    """
    check_halfway(model, wanted)
    twins = _silenced(model, wanted, ("mlp",))

    def state(number: int, call: Call) -> torch.Tensor | None:
        if number not in twins:
            return None
        args, kwargs = call
        return hidden_of(twins[number](*args, **kwargs))[0].detach()

    return state


def check_halfway(model: nn.Module, wanted: Iterable[int]) -> None:
    """Refuse layers that have no residual stream between attention and MLP.

    Raises:
        AnatomyError: naming the layer's class and why.
    """
    wanted = list(wanted)
    layers = find_layers(model)[1]
    for number in wanted:
        halves = halves_of(layers[number])
        if not halves.both:
            raise AnatomyError(
                f"{type(layers[number]).__name__} has no separate attention and MLP, so there is no point between them; "
                "read after whole layers."
            )
        if any(path[-1].isdigit() for path in halves.attention):
            raise AnatomyError(
                f"{type(layers[number]).__name__} runs several attentions and MLPs in turn, so there is no one point "
                "between them; read after whole layers."
            )
    without_both = _silenced(model, wanted, ("attention", "mlp"))
    without_attention = _silenced(model, wanted, ("attention",))
    calls = _calls(model, wanted)
    with torch.inference_mode():
        for number in wanted:
            if number not in calls:
                raise AnatomyError(
                    f"The {type(layers[number]).__name__} in slot {number} does not run on text alone, so there is no point "
                    "inside it; read after whole layers."
                )
            args, kwargs, entering, read = calls[number]
            untouched = hidden_of(without_both[number](*args, **kwargs))
            if not torch.allclose(untouched, entering.to(untouched.device), atol=1e-6, equal_nan=True):
                raise AnatomyError(
                    f"{type(layers[number]).__name__} norms what its halves have added, so its residual stream has no "
                    "point between them; read after whole layers."
                )
            with _mlps_read([without_attention[number]]) as seen:
                without_attention[number](*args, **kwargs)
            if torch.equal(seen[0], read):
                raise AnatomyError(
                    f"{type(layers[number]).__name__} runs attention and MLP side by side on the same input, so there is "
                    "no point after its attention; read after whole layers."
                )


def _silenced(model: nn.Module, wanted: Iterable[int], halves: tuple[str, ...]) -> dict[int, Any]:
    """Return clones of layers in which the named halves add nothing."""
    clones: Any = find_layers(private_copy(model))[1]
    for number in wanted:
        found = halves_of(clones[number])
        for half, paths in (("attention", found.attention), ("mlp", found.mlp)):
            for path in paths if half in halves else ():
                mix_in(clones[number].get_submodule(path), Silenced)
    return {number: clones[number] for number in wanted}


def _calls(model: nn.Module, wanted: Sequence[int]) -> dict[int, tuple[Any, Any, torch.Tensor, torch.Tensor]]:
    """Return how layers are called on a few tokens: arguments, what enters, and what their MLPs read."""
    view = private_copy(model)
    layers: Any = find_layers(view)[1]
    ids = torch.arange(3, device=device_of(model))[None] + 1
    with (
        torch.inference_mode(),
        recorded([layers[number] for number in wanted]) as seen,
        _mlps_read([layers[number] for number in wanted]) as read,
    ):
        view(input_ids=ids, use_cache=False)
    return {
        number: (*seen.calls[at], hidden_input(*seen.calls[at]), read[at])
        for at, number in enumerate(wanted)
        if at in seen.calls
    }


@contextmanager
def _mlps_read(layers: Sequence[Any]) -> Iterator[dict[int, torch.Tensor]]:
    """Keep what the MLPs of layers that run inside the block read first."""
    read: dict[int, torch.Tensor] = {}

    def called(number: int, call: Call) -> None:
        read.setdefault(number, call[0][0].clone())

    with watched([layer.get_submodule(halves_of(layer).mlp[0]) for layer in layers], called):
        yield read
