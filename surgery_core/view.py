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

from surgery_core.anatomy import find_layers
from surgery_core.errors import PlanError
from surgery_core.per_layer import check_attention, config_changes, fixed_properties, keep_per_layer_inputs, layer_configs
from surgery_core.plan import LayerPlan
from surgery_core.shells import Cloner
from surgery_core.slots import Placement, cache_stride, check_groups, equip, index_slots, place


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
    order = [placement.layer.index for placement in placements]
    check_groups(layers, order)
    check_attention(model, order)
    return _built(model, plan, path, layers, placements)


def operate_part(model: nn.Module, position: int) -> Any:
    """Return a view with one single layer of `model`, for running what stands around the layers."""
    path, layers = find_layers(model)
    plan = LayerPlan.identity(len(layers)).permute([position])
    return _built(model, plan, path, layers, place(plan))


def _built(
    model: nn.Module, plan: LayerPlan, path: str, layers: nn.ModuleList, placements: Sequence[Placement]
) -> Any:
    order = [placement.layer.index for placement in placements]
    stride = cache_stride(layers)
    cloner = Cloner()
    operated_list = _empty_list(layers)
    cloner.adopt(layers, operated_list)
    view = cloner.module(model)
    for position, placement in enumerate(placements):
        clone = clone_layer(cloner, layers[placement.layer.index], placement, position, stride)
        operated_list._modules[str(position)] = clone
    keep_per_layer_inputs(view, model, path, order)
    adjust_config(view, path, order, len(layers))
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


def clone_layer(
    outer: Cloner, layer: nn.Module, placement: Placement, position: int, stride: int, *, keep_hooks: bool = False
) -> Any:
    """Return a clone of `layer` for one cache position, with the behaviour that its placement asks for."""
    clone = Cloner(outer, keep_hooks=keep_hooks).module(layer)
    for module, name, value in index_slots(clone, placement.layer.index, position, stride):
        module.__dict__[name] = value
    equip(clone, placement)
    return clone


def adjust_config(view: nn.Module, path: str, order: Sequence[int], n_layers: int) -> None:
    """Bring the depth and the per-layer lists of the view's own configs in line with `order`."""
    for config in layer_configs(view, path):
        config.__class__ = fixed_properties(config, order, n_layers)
        config.__dict__.update(config_changes(config, order, n_layers))


def _empty_list(layers: nn.ModuleList) -> Any:
    """Return an empty list of the same class (some models use their own)."""
    empty: Any = object.__new__(type(layers))
    nn.Module.__init__(empty)
    empty.training = layers.training
    return empty
