"""The residual stream inside a layer: after its attention, before its MLP.

A layer whose MLP is silenced returns just that, whatever norms and scales stand around its halves. Whether there is
such a point at all is found by trying, not by the model's class: where attention and MLP read the same input side by
side (GPT-NeoX, GPT-J, Phi, Falcon), and where a norm follows the sum (the original transformer), there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from surgery_core.anatomy import device_of, find_layers
from surgery_core.errors import AnatomyError
from surgery_core.halves import halves_of
from surgery_core.plan import LayerPlan
from surgery_core.slots import Silenced, become, hidden_of
from surgery_core.view import operate


def halfway(model: nn.Module, layers: Any, wanted: Sequence[int]) -> dict[int, torch.Tensor]:
    """Make the layers of a private view fill a dictionary, as they run, with their states after the attention.

    Args:
        model: the model that the view was made of.
        layers: the view's layers; they get hooks.
        wanted: which of them are read.

    Returns:
        States `[seq, d_model]` of the batch's first text, by layer number, once the view has run.

    Raises:
        AnatomyError: when a wanted layer has no such point.
    """
    check_halfway(model, wanted)
    twins = _silenced(model, wanted, ("mlp",))
    found: dict[int, torch.Tensor] = {}

    def attach(number: int) -> None:
        def take(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            found[number] = hidden_of(twins[number](*args, **kwargs))[0].detach()

        layers[number].register_forward_hook(take, with_kwargs=True)

    for number in wanted:
        attach(number)
    return found


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
            seen: list[torch.Tensor] = []
            _watch_mlp(without_attention[number], seen)
            without_attention[number](*args, **kwargs)
            if torch.equal(seen[0], read):
                raise AnatomyError(
                    f"{type(layers[number]).__name__} runs attention and MLP side by side on the same input, so there is "
                    "no point after its attention; read after whole layers."
                )


def _silenced(model: nn.Module, wanted: Iterable[int], halves: tuple[str, ...]) -> dict[int, Any]:
    """Return clones of layers in which the named halves add nothing."""
    path, layers = find_layers(model)
    view = operate(model, LayerPlan.identity(len(layers)))
    clones: Any = view.get_submodule(path)
    for number in wanted:
        found = halves_of(clones[number])
        for half, paths in (("attention", found.attention), ("mlp", found.mlp)):
            for path in paths if half in halves else ():
                become(clones[number].get_submodule(path), Silenced)
    return {number: clones[number] for number in wanted}


def _calls(model: nn.Module, wanted: Iterable[int]) -> dict[int, tuple[Any, Any, torch.Tensor, torch.Tensor]]:
    """Return how layers are called on a few tokens: arguments, what enters, and what their MLPs read."""
    path, layers = find_layers(model)
    view = operate(model, LayerPlan.identity(len(layers)))
    clones: Any = view.get_submodule(path)
    calls: dict[int, tuple[Any, Any, torch.Tensor, torch.Tensor]] = {}

    def attach(number: int) -> None:
        seen: list[torch.Tensor] = []
        _watch_mlp(clones[number], seen)

        def take(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            entering = args[0] if args else kwargs["hidden_states"]
            calls[number] = (args, kwargs, entering, seen[0])

        clones[number].register_forward_hook(take, with_kwargs=True)

    for number in wanted:
        attach(number)
    ids = torch.arange(3, device=device_of(model))[None] + 1
    with torch.inference_mode():
        view(input_ids=ids, use_cache=False)
    return calls


def _watch_mlp(layer: Any, seen: list[torch.Tensor]) -> None:
    layer.get_submodule(halves_of(layer).mlp[0]).register_forward_pre_hook(
        lambda module, args: seen.append(args[0].clone())
    )
