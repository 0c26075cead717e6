"""Kinds of change: plans that are the same to the code that runs them.

On a model whose layers are all alike, deleting layer 3 and deleting layer 4 can go wrong in the same ways only. What differs
is whether the first or the last layer is among those that run, whether the order is changed, layers repeated, scaled,
halved, averaged, put side by side or into a damped block; and, where layers are of several types, which type stands where.
"""

from __future__ import annotations

from collections.abc import Hashable

from torch import nn

from surgery_core.plans.plan import LayerPlan
from surgery_core.surgery.adapters import adapter_paths, bare
from surgery_core.surgery.anatomy import find_layers, text_config


def layer_kinds(model: nn.Module) -> tuple[Hashable, ...]:
    """Return, for each layer, what tells it from others: its modules' classes, what it shares, and its stated type.

    An adapter counts as the module that it was put around.
    """
    layers = find_layers(model)[1]
    types = getattr(text_config(model), "layer_types", None) or [""] * len(layers)
    return tuple((_structure(layer), kind) for layer, kind in zip(layers, types, strict=False))


def _structure(layer: nn.Module) -> Hashable:
    adapters = {path: bare(layer.get_submodule(path)) for path in adapter_paths(layer)}
    inside = tuple(f"{path}." for path in adapters)
    modules = [(name, adapters.get(name, module)) for name, module in layer.named_modules()]
    return tuple(
        (name, type(module).__name__, *(repr(module.__dict__.get(flag)) for flag in _FLAGS))
        for name, module in modules
        if not inside or not name.startswith(inside)
    )


_FLAGS = ("is_kv_shared_layer", "store_full_length_kv", "use_rope", "is_sliding", "sliding_window")
"""What an attention is told about its layer's place, besides its index."""


def change_kind(plan: LayerPlan, kinds: tuple[Hashable, ...]) -> Hashable:
    """Return what a plan changes, as far as that matters to whether it runs as it reads.

    Args:
        plan: for a model of `len(kinds)` layers.
        kinds: of the model's layers, as `layer_kinds` gives them.
    """
    layers = [layer for slot in plan for layer in slot.layers]
    own = [layer.index for layer in layers if layer.donor is None]
    changed = frozenset((layer.part, layer.scale != 1, layer.mean, layer.donor, layer.adapter) for layer in layers)
    ends = (0 in own[:1], plan.n_layers - 1 in own[-1:])
    several = {slot.damping is None for slot in plan if len(slot.layers) > 1}
    shape = (own != sorted(own), len(set(own)) < len(own), frozenset(several))
    # where layers differ, which of them stand where is the kind of change
    sequence = tuple(kinds[index] for index in own) if len(set(kinds)) > 1 else bool(own)
    return changed, ends, shape, sequence, (len(plan) > plan.n_layers) - (len(plan) < plan.n_layers)
