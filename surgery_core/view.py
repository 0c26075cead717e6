"""Views: operated models that share every tensor with their base.

`operate` clones the module shells of the base (not its tensors), puts the plan's layers into the clone, gives each
its own cache position and brings the config's depth and per-layer lists in line. The base is never written to, so
any number of views can live at once, in any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from surgery_core.anatomy import DEPTH_KEYS, find_layers, text_config
from surgery_core.errors import PlanError
from surgery_core.plan import LayerPlan
from surgery_core.shells import Cloner
from surgery_core.slots import Placement, equip, index_slots, place

_NOT_PER_LAYER = ("token_id", "architectures", "keys_to_ignore", "label", "languages", "skip_modules")
"""Parts of names of config lists that are never one entry a layer, whatever their length."""


def operate(model: nn.Module, plan: LayerPlan | str) -> Any:
    """Return the model that `plan` describes, as a view of `model`.

    The view is an ordinary model of the same class, with its own config and generation config: it runs, generates
    with the KV cache, and can be operated again. It shares every parameter and buffer with `model`, which is not
    changed.

    Args:
        model: a transformers causal language model.
        plan: a plan for its layers, or the notation of one.

    Raises:
        PlanError: when the plan is for another number of layers or does not parse.
        RefusedPlanError: when the plan cannot be trusted on this model.
        AnatomyError: when the model's layers cannot be found.
    """
    path, layers = find_layers(model)
    plan = checked_plan(plan, len(layers))
    placements = place(plan)
    cloner = Cloner()
    operated_list = _empty_list(layers)
    cloner.adopt(layers, operated_list)
    view = cloner.module(model)
    for position, placement in enumerate(placements):
        clone = clone_layer(cloner, layers[placement.layer.index], placement, position)
        operated_list._modules[str(position)] = clone
    adjust_config(view, path, [placement.layer.index for placement in placements], len(layers))
    view.__dict__["_surgery_layers_path"] = path
    view.__dict__["_surgery_plan"] = plan
    view.__dict__["_surgery_base"] = _Base(model)
    return view


@dataclass(frozen=True, eq=False)
class _Base:
    """Holds a view's base where cloning does not follow it, as it would follow a module."""

    model: Any


def base_of(model: nn.Module) -> Any:
    """Return the model that a view was made of, or None for a model that is no view."""
    base = model.__dict__.get("_surgery_base")
    return base.model if base is not None else None


def plan_of(model: nn.Module) -> LayerPlan:
    """Return the plan that a view was made with; the identity for a model that is no view."""
    plan = model.__dict__.get("_surgery_plan")
    return plan if plan is not None else LayerPlan.identity(len(find_layers(model)[1]))


def checked_plan(plan: LayerPlan | str, n_layers: int) -> LayerPlan:
    """Return the plan, parsed if it is text.

    Raises:
        PlanError: when it is a plan for another number of layers, or does not parse.
    """
    if isinstance(plan, str):
        return LayerPlan.parse(plan, n_layers)
    if plan.n_layers != n_layers:
        raise PlanError(
            f"This plan is for a model of {plan.n_layers} layers, but the model has {n_layers}; "
            f"make a plan for {n_layers} layers."
        )
    return plan


def clone_layer(outer: Cloner, layer: nn.Module, placement: Placement, position: int, *, keep_hooks: bool = False) -> Any:
    """Return a clone of `layer` for one cache position, with the behaviour that its placement asks for."""
    clone = Cloner(outer, keep_hooks=keep_hooks).module(layer)
    for module, name, value in index_slots(clone, placement.layer.index, position):
        module.__dict__[name] = value
    equip(clone, placement)
    return clone


def adjust_config(view: nn.Module, path: str, order: Sequence[int], n_layers: int) -> None:
    """Bring the depth and the per-layer lists of the view's own configs in line with `order`."""
    for config in layer_configs(view, path):
        config.__dict__.update(config_changes(config, order, n_layers))


def config_changes(config: Any, order: Sequence[int], n_layers: int) -> dict[str, Any]:
    """Return the attributes of a config that change when the layers become `order`.

    Depth attributes that held `n_layers` become `len(order)`; lists with one entry a layer follow the layers.
    """
    changes: dict[str, Any] = {
        key: len(order) for key in DEPTH_KEYS if config.__dict__.get(key) == n_layers
    }
    for key, value in config.__dict__.items():
        if _is_per_layer(key, value, n_layers):
            changes[key] = type(value)(value[index] for index in order)
    return changes


def layer_configs(model: nn.Module, path: str) -> list[Any]:
    """Return the configs that describe the layers at `path`: the text config, and that of the list's owner."""
    owner = model.get_submodule(path.rpartition(".")[0])
    found = [text_config(model), getattr(owner, "config", None)]
    return list({id(config): config for config in found if config is not None}.values())


def _is_per_layer(key: str, value: object, n_layers: int) -> bool:
    return type(value) in (list, tuple) and len(value) == n_layers and not any(word in key for word in _NOT_PER_LAYER)  # type: ignore[arg-type]


def _empty_list(layers: nn.ModuleList) -> Any:
    """Return an empty list of the same class (some models use their own)."""
    empty: Any = object.__new__(type(layers))
    nn.Module.__init__(empty)
    empty.training = layers.training
    return empty
