"""Which cache entry each layer gets, and the attributes that hold it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from torch import nn

from surgery_core.surgery.names import index_names


def cache_positions(types: Sequence[str], attends: Sequence[bool]) -> tuple[list[int], list[str]]:
    """Return the cache position of every layer, and the layer types that go with them.

    Models take the length of the past from the first cache entry (of each layer type), so that one must belong to
    a layer that fills it. Layers without attention of their own get the type of the first layer that has it, and,
    within a type, the entries behind those of the layers that attend.

    Args:
        types: type of each layer in running order, all equal where the model has no types.
        attends: whether each layer fills its cache entry.
    """
    first = next((kind for kind, fills in zip(types, attends, strict=True) if fills), None)
    kinds = [kind if fills or first is None else first for kind, fills in zip(types, attends, strict=True)]
    positions = [0] * len(kinds)
    for kind in set(kinds):
        places = [at for at, other in enumerate(kinds) if other == kind]
        for entry, at in zip(places, sorted(places, key=lambda at: not attends[at]), strict=True):
            positions[at] = entry
    return positions, kinds


def index_slots(layer: nn.Module, original: int, position: int, stride: int = 1) -> list[tuple[nn.Module, str, Any]]:
    """Return (module, attribute, value) for everything in a layer that has to follow it to `position`.

    Only attributes that hold the layer's own original index are cache indices. A layer with several caches
    (`stride` of them) has the indices `stride * original` and on. A table by layer index, in which a block that
    several layers share looks up what belongs to the layer (Zamba 2), keeps this layer's entry, under its position.
    """
    modules, names = list(layer.modules()), index_names()
    tables = [
        (module, name, {position: table[original]})
        for module in modules
        for name, table in module.__dict__.items()
        if type(table) is dict and "layer" in name and original in table and all(type(key) is int for key in table)
    ]
    return tables + [
        (module, name, value + stride * (position - original))
        for module in modules
        for name in names
        if type(value := module.__dict__.get(name)) is int
        and stride * original <= value < stride * (original + 1)
        and not (stride > 1 and module is layer)
    ]


def cache_stride(layers: nn.ModuleList | Sequence[nn.Module]) -> int:
    """Return how many cache entries each layer has: 1, or 2 where a layer holds two attentions."""
    if not len(layers):
        return 1
    highest = max(own_indices(layers[len(layers) - 1]), default=0)
    return max(1, (highest + 1) // len(layers))


def own_indices(layer: nn.Module) -> set[int]:
    """Return every index that a layer or a module in it keeps."""
    found = (module.__dict__.get(name) for module in layer.modules() for name in index_names())
    return {value for value in found if type(value) is int}


def has_own_cache(model: nn.Module) -> bool:
    """Whether the architecture brings a whole cache class of its own, which does not follow the config's types.

    Such a cache has an entry of the same kind for every layer, and counts the tokens in the first one (MiniMax).
    """
    names = vars(sys.modules[type(model).__module__]).values() if type(model).__module__ in sys.modules else ()
    return any(isinstance(found, type) and _is_cache(found, type(model).__module__) for found in names)


def _is_cache(cls: type, module: str) -> bool:
    return cls.__module__ == module and "DynamicCache" in (base.__name__ for base in cls.__mro__[1:])


def reading_on(output: Any) -> dict[str, Any]:
    """Return the argument with which a model reads on behind what it has read.

    It is called as the output's own field is: `cache` since transformers 5.24, `past_key_values` before.

    Args:
        output: of a model that was run with `use_cache=True`.

    Raises:
        AttributeError: when it has kept nothing.
    """
    name = "cache" if getattr(output, "cache", None) is not None else "past_key_values"
    return {name: getattr(output, name)}
