"""What an operated model consists of, decided once: which layers run where, and what follows them.

`assemble` is the only place that refuses a plan for a model's structure. Its record says everything that has to be
changed; `operate` carries it out on clones, and `ModelSurgery` on the model itself, with a journal. Nothing that one
of the two does right can be forgotten in the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from surgery_core.errors import RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.surgery.adapters import has_adapter
from surgery_core.surgery.anatomy import adapters_left_out, find_layers, text_config
from surgery_core.surgery.cache import cache_positions, cache_stride, has_own_cache, own_indices
from surgery_core.surgery.config import (
    Order,
    config_changes,
    fixed_properties,
    is_attention,
    layer_configs,
    owner_changes,
    types_key,
    with_types,
)
from surgery_core.surgery.ingredients import Ingredients
from surgery_core.surgery.layer_inputs import has_per_layer_inputs
from surgery_core.surgery.layer_parts import halves_of
from surgery_core.surgery.placement import Placement, place
from surgery_core.surgery.refusals import check_attention, check_groups, check_sharing, check_single_list


@dataclass(frozen=True, eq=False)
class ConfigChange:
    """What becomes of one config.

    Attributes:
        config: as it is.
        cls: its class from then on; another one where it computes lists with an entry a layer.
        values: attributes with their new values.
    """

    config: Any
    cls: type
    values: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Assembly:
    """The operated model as data, before anything is built.

    Attributes:
        model, path, layers: what is operated on, and its layers.
        plan: what it becomes.
        placements: what runs in order, a member of a parallel slot each.
        positions: the cache position of each of them.
        stride: cache entries that each layer has.
        configs: what becomes of the configs that describe the layers.
        owner: attributes of the module that holds the layers, with their new values.
        inputs: which of the inputs that the owner computes for each layer go to what runs; None where it has none.
        left_out: paths of the adapters outside of the layers that do not run.
    """

    model: nn.Module
    path: str
    layers: nn.ModuleList
    plan: LayerPlan
    placements: tuple[Placement, ...]
    positions: tuple[int, ...]
    stride: int
    configs: tuple[ConfigChange, ...]
    owner: Mapping[str, Any]
    inputs: tuple[int, ...] | None
    left_out: tuple[str, ...] = ()

    @property
    def owner_path(self) -> str:
        """Return the path of the module that holds the layers."""
        return self.path.rpartition(".")[0]

    def config_changes_of(self, other: nn.Module) -> list[tuple[Any, ConfigChange]]:
        """Return the configs of a clone of the model, each with what becomes of it."""
        return list(zip(layer_configs(other, self.path), self.configs, strict=True))


def assemble(
    model: nn.Module,
    plan: LayerPlan,
    ingredients: Ingredients,
    replaced: Mapping[int, nn.Module] | None = None,
    *,
    alone: bool = False,
) -> Assembly:
    """Return what the model that `plan` describes consists of.

    Args:
        model: what is operated on.
        plan: a plan for its layers.
        ingredients: donors and means that the plan names.
        replaced: modules of a person's that run in place of the layer at some positions.
        alone: whether the plan is a part of another one, whose layers are called by hand; only parts are checked then.

    Raises:
        PlanError: when the plan names what is not there.
        RefusedPlanError: when the structure of the model does not allow the plan.
    """
    path, layers = find_layers(model)
    replaced = replaced or {}
    placements = tuple(place(plan))
    if not alone:
        _check(model, path, layers, plan, placements, ingredients, replaced)
    for placement in placements:
        _check_part(placement, ingredients, layers)
    order = [_origin(placement, ingredients) for placement in placements]
    positions, kinds = _cache(model, placements, replaced)
    owner = model.get_submodule(path.rpartition(".")[0])
    return Assembly(
        model=model,
        path=path,
        layers=layers,
        plan=plan,
        placements=placements,
        positions=tuple(positions),
        stride=cache_stride(layers),
        configs=tuple(_config_change(model, config, order, kinds) for config in layer_configs(model, path)),
        owner=owner_changes(owner, order, len(layers)),
        inputs=tuple(p.layer.index for p in placements) if has_per_layer_inputs(owner) else None,
        left_out=() if alone else adapters_left_out(model, plan),
    )


def _check(
    model: nn.Module,
    path: str,
    layers: nn.ModuleList,
    plan: LayerPlan,
    placements: tuple[Placement, ...],
    ingredients: Ingredients,
    replaced: Mapping[int, nn.Module],
) -> None:
    """Refuse what cannot be trusted on this structure, before anything is built or run."""
    ingredients.check(plan, model)
    _check_adapter(model, placements)
    own = [at for at, placement in enumerate(placements) if placement.layer.donor is None]
    check_groups(layers, [placements[at].layer.index for at in own])
    check_single_list(model, path, len(layers))
    attending = _attending(placements, replaced)
    check_attention(model, [p.layer.index for p, attends in zip(placements, attending, strict=True) if attends])
    running = [at for at in own if at not in replaced and not placements[at].layer.mean]
    check_sharing(layers, [placements[at].layer.index for at in running])


def _check_adapter(model: nn.Module, placements: tuple[Placement, ...]) -> None:
    without = [p.layer for p in placements if not p.layer.adapter and p.layer.donor is None]
    if without and not has_adapter(model):
        raise RefusedPlanError(
            f"{without[0]} asks for a layer without its adapter, and this model has none; leave .bare out, or open an "
            "adapter."
        )


def _check_part(placement: Placement, ingredients: Ingredients, layers: nn.ModuleList) -> None:
    spec = placement.layer
    if spec.part != "both" and not halves_of(ingredients.layer(spec, layers)).both:
        raise RefusedPlanError(
            f"Layer {spec.index} has no separate attention and MLP, so .{spec.part} has no meaning for it; "
            "delete the layer or keep it whole."
        )


def _attending(placements: tuple[Placement, ...], replaced: Mapping[int, nn.Module]) -> list[bool]:
    """Return, for each layer that runs, whether it fills its cache entry: no mean does, and a person's module if it says so."""
    return [
        bool(own_indices(replaced[at])) if at in replaced else not placement.layer.mean
        for at, placement in enumerate(placements)
    ]


def _origin(placement: Placement, ingredients: Ingredients) -> int | tuple[Any, int]:
    spec = placement.layer
    return spec.index if spec.donor is None else (ingredients.config(spec), spec.index)


def _cache(
    model: nn.Module, placements: tuple[Placement, ...], replaced: Mapping[int, nn.Module]
) -> tuple[list[int], list[str]]:
    """Return the cache positions, and the layer types that go with them where a layer does not attend."""
    attends = _attending(placements, replaced)
    types = getattr(text_config(model), "layer_types", None)
    if types and has_own_cache(model):
        fills = [is_attention(types[placement.layer.index]) for placement in placements]
        both = [left and right for left, right in zip(attends, fills, strict=True)]
        return cache_positions([""] * len(both), both)[0], []
    if all(attends):
        return list(range(len(placements))), []
    kinds = [types[placement.layer.index] if types else "" for placement in placements]
    positions, kinds = cache_positions(kinds, attends)
    return positions, kinds if types else []


def _config_change(model: nn.Module, config: Any, order: Order, kinds: list[str]) -> ConfigChange:
    n_layers = len(find_layers(model)[1])
    cls = fixed_properties(config, order, n_layers)
    values = config_changes(config, order, n_layers)
    if kinds and config is text_config(model):
        cls = with_types(cls, config, kinds)
        values |= {types_key(config): kinds}
    return ConfigChange(config, cls, values)
