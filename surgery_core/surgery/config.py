"""What a model keeps by layer outside of its layers, and how it follows them.

Depth and per-layer lists in configs, lists that a config class computes, and embeddings with a part for each layer
(Gemma 3n, Gemma 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from surgery_core.errors import RefusedPlanError
from surgery_core.failures import FAILURES
from surgery_core.surgery.anatomy import text_config
from surgery_core.surgery.names import (
    DEPRECATED_KEYS,
    DEPTH_KEYS,
    FIRST_READER,
    FLAG_LISTS,
    FURTHER_DEPTHS,
    INDEX_LISTS,
    NOT_PER_LAYER,
    OVERRIDES,
    PER_LAYER,
    names_of,
)


def layer_configs(model: nn.Module, path: str) -> list[Any]:
    """Return the configs that describe the layers at `path`: the text config, and that of the list's owner."""
    owner = model.get_submodule(path.rpartition(".")[0])
    found = [text_config(model), getattr(owner, "config", None)]
    return list({id(config): config for config in found if config is not None}.values())


Order = Sequence["int | tuple[Any, int]"]
"""What runs, by original index; a layer of another model is its config and its index there."""


def config_changes(config: Any, order: Order, n_layers: int) -> dict[str, Any]:
    """Return the attributes of a config that change when the layers become `order`.

    Depth attributes that held `n_layers` become `len(order)`; lists with one entry a layer follow the layers.
    """
    depths = (*names_of(config).depth, *DEPTH_KEYS, *FURTHER_DEPTHS)
    changes: dict[str, Any] = {key: len(order) for key in depths if config.__dict__.get(key) == n_layers}
    for key, value in config.__dict__.items():
        if _is_per_layer(config, key, value, n_layers):
            changes[key] = _following(key, value, order)
        elif _lists_layers(key, value, n_layers):
            changes[key] = [at for at, index in enumerate(order) if index in value]
    if (spec := config.__dict__.get(OVERRIDES)) is not None:
        known = spec.per_layer_overrides
        followed = {at: known[index] for at, index in enumerate(order) if isinstance(index, int) and index in known}
        changes[OVERRIDES] = replace(spec, per_layer_overrides=followed)
    return changes


def owner_changes(owner: nn.Module, order: Order, n_layers: int) -> dict[str, Any]:
    """Return the attributes in which the layer list's owner keeps its depth, or picks layers, as they have to become."""
    first = owner.__dict__.get(FIRST_READER, n_layers)
    readers = {FIRST_READER: _first_of_rest(order, first)} if first < n_layers else {}
    return readers | {
        key: len(order) if type(value) is int else [at for at, index in enumerate(order) if index in value]
        for key, value in owner.__dict__.items()
        if "layer" in key
        and not key.startswith("_")
        and (_is_int(value, n_layers) or _lists_layers(key, value, n_layers))
    }


def _first_of_rest(order: Order, first: int) -> int:
    """Return the place from which on all layers are `first` or later ones of the base; behind the last where none is."""
    place = len(order)
    while place and isinstance(index := order[place - 1], int) and index >= first:
        place -= 1
    return place


def fixed_properties(config: Any, order: Order, n_layers: int) -> type:
    """Return a class for the config whose computed per-layer lists follow the layers.

    Some config classes compute such a list from a period or from indices, which cannot express every order; the
    computed values are taken as they were and put into the new order. Without such lists it is the config's class.
    """
    cls = type(config)
    fixed: dict[str, Any] = {}
    for name in dir(cls):
        if isinstance(getattr(cls, name, None), property) and not name.startswith("_") and name not in DEPRECATED_KEYS:
            value = _property_value(config, name)
            if _is_per_layer(config, name, value, n_layers):
                fixed[name] = _constant(_following(name, value, order))
    return type(cls.__name__, (cls,), fixed | {"__module__": cls.__module__}) if fixed else cls


def is_attention(kind: str) -> bool:
    """Whether a layer type keeps keys and values, rather than a state of fixed size."""
    return kind == "hybrid" or ("attention" in kind and not kind.startswith("linear"))


def types_key(config: Any) -> str:
    """Return the attribute in which a config keeps its `layer_types`; some keep them under another name (Zamba)."""
    return str(getattr(config, "attribute_map", {}).get("layer_types", "layer_types"))


def with_types(cls: type, config: Any, kinds: list[str]) -> type:
    """Return `cls`, a class for the config, with the layer types `kinds`; itself where they are a plain attribute."""
    key = types_key(config)
    if not isinstance(getattr(cls, key, None), property):
        return cls
    return type(cls.__name__, (cls,), {key: _constant(kinds), "__module__": cls.__module__})


def _is_per_layer(config: Any, key: str, value: object, n_layers: int) -> bool:
    """Whether a config's list has an entry a layer: by what it is called, and not by its length alone.

    Falcon-H1's `mlp_multipliers` has two entries, as a model of two layers has layers.
    """
    if type(value) not in (list, tuple) or len(value) != n_layers or _lists_layers(key, value, n_layers):  # type: ignore[arg-type]
        return False
    if any(word in key for word in NOT_PER_LAYER):
        return False
    return any(word in key for word in PER_LAYER) or _follows_depth(config, key, n_layers)


def _follows_depth(config: Any, key: str, n_layers: int) -> bool:
    """Whether the class, told to make a config that is one layer deeper, makes this list one entry longer."""
    depth = next(
        (name for name in (*names_of(config).depth, *DEPTH_KEYS) if config.__dict__.get(name) == n_layers), None
    )
    if depth is None:
        return False
    try:
        found = getattr(type(config)(**{depth: n_layers + 1}), key)
    except FAILURES:
        return False
    return type(found) in (list, tuple) and len(found) == n_layers + 1


def _is_int(value: object, expected: int) -> bool:
    return type(value) is int and value == expected


def _lists_layers(key: str, value: object, n_layers: int) -> bool:
    """Whether a list holds the indices of some of the layers (Mllama's cross-attention layers)."""
    if type(value) is not list or not value or not key.endswith(INDEX_LISTS) or key in FLAG_LISTS:
        return False
    return all(type(index) is int and 0 <= index < n_layers for index in value) and value == sorted(set(value))


def _following(key: str, value: Any, order: Order) -> Any:
    return type(value)(value[entry] if isinstance(entry, int) else _donated(key, *entry) for entry in order)


def _donated(key: str, config: Any, index: int) -> Any:
    """Return a donated layer's entry, from its own model's list of the same name."""
    found = getattr(config, key, None)
    if not isinstance(found, (list, tuple)) or index >= len(found):
        raise RefusedPlanError(
            f"The other model's config has no {key} for its layer {index}, which this model needs; "
            "take a layer of a model of the same architecture."
        )
    return found[index]


def _property_value(config: Any, name: str) -> Any:
    """Return a property's value, or None where this config does not define what it is computed from."""
    try:
        return getattr(config, name)
    except (AttributeError, TypeError, ValueError, KeyError, NotImplementedError):
        return None


def _constant(value: Any) -> property:
    return property(lambda self: value, lambda self, new: None)
