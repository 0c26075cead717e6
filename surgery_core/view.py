"""Views: operated models that share every tensor with their base.

`operate` clones the module shells of the base (not its tensors), puts the plan's layers into the clone, gives each
its own cache position and brings the config's depth and per-layer lists in line. The base is never written to, so
any number of views can live at once, in any number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from torch import nn

from surgery_core.anatomy import find_layers, text_config
from surgery_core.errors import PlanError, RefusedPlanError
from surgery_core.material import PENDING, Material, Means
from surgery_core.neighbours import neighbours
from surgery_core.per_layer import (
    Order,
    check_attention,
    check_sharing,
    check_single_list,
    config_changes,
    fixed_properties,
    has_own_cache,
    is_attention,
    keep_per_layer_inputs,
    layer_configs,
    owner_changes,
    types_key,
    with_types,
)
from surgery_core.plan import LayerPlan, Slot
from surgery_core.shells import Cloner
from surgery_core.slots import (
    Averaged,
    Donated,
    Placement,
    become,
    cache_positions,
    cache_stride,
    check_groups,
    equip,
    index_slots,
    place,
)

_NEIGHBOURS = 64
"""Plans that are looked at for one that the structure allows."""


def operate(
    model: nn.Module,
    plan: LayerPlan | str,
    *,
    donors: Mapping[str, nn.Module] | None = None,
    means: Means | None = None,
) -> Any:
    """Return the model that `plan` describes, as a view of `model`.

    The view is an ordinary model of the same class, with its own config and generation config: it runs, generates
    with the KV cache, and can be operated again. It shares every parameter and buffer with `model`, which is not
    changed.

    Args:
        model: a transformers causal language model.
        plan: a plan for its layers, or the notation of one.
        donors: other models by name, for slots such as `donor:7`.
        means: mean contributions of this model's layers (`mean_contributions`), for slots such as `mean(7)`.

    Raises:
        PlanError: when the plan is for another number of layers, does not parse, or names what is not there.
        RefusedPlanError: when the structure of this model does not allow the plan; has the nearest plan that can run,
            if any. What shows only while the model runs is found by `prove`, which the app and the command line do
            before every result.
        AnatomyError: when the model's layers cannot be found.
    """
    plan = checked_plan(plan, len(find_layers(model)[1]))
    material = Material(donors or {}, means)
    _require_operable(model, plan, material)
    return _View(model, plan, material).build(place(plan))


def check_plan(model: nn.Module, plan: LayerPlan, donors: Mapping[str, nn.Module] | None = None) -> None:
    """Refuse a plan that cannot run on this model, before anything of it is measured. Errors as for `operate`."""
    material = Material(donors or {}, PENDING)
    _require_operable(model, plan, material)
    for layer in {layer for slot in plan for layer in slot.layers if layer.part != "both"}:
        operate_slot(model, Slot((layer,)), material)


def _require_operable(model: nn.Module, plan: LayerPlan, material: Material) -> None:
    try:
        check_operable(model, plan, material)
    except RefusedPlanError as error:
        raise RefusedPlanError(str(error), _nearest_operable(model, plan, material)) from None


def check_operable(model: nn.Module, plan: LayerPlan, material: Material) -> None:
    """Refuse a plan that cannot run on this model. Errors as for `operate`, which does this first."""
    path, layers = find_layers(model)
    material.check(plan, model)
    placements = place(plan)
    check_groups(layers, [placement.layer.index for placement in placements if placement.layer.donor is None])
    check_single_list(model, path, len(layers))
    own = [p.layer.index for p in placements if not p.layer.mean and p.layer.donor is None]
    check_attention(model, [placement.layer.index for placement in placements if not placement.layer.mean])
    check_sharing(layers, own)


def _nearest_operable(model: nn.Module, plan: LayerPlan, material: Material) -> LayerPlan | None:
    """Return the nearest plan that is not ruled out before it is tried, or None."""

    def possible(near: LayerPlan) -> bool:
        try:
            check_operable(model, near, material)
        except PlanError:
            return False
        return True

    return next(filter(possible, islice(neighbours(plan), _NEIGHBOURS)), None)


def operate_slot(model: nn.Module, slot: Slot, material: Material | None = None) -> Any:
    """Return a view with one single slot of a plan, for calling its layers by hand."""
    plan = LayerPlan((slot,), len(find_layers(model)[1]))
    return _View(model, plan, material or Material()).build(place(plan))


def operate_part(model: nn.Module, position: int) -> Any:
    """Return a view with one single layer of `model`, for running what stands around the layers."""
    plan = LayerPlan.identity(len(find_layers(model)[1])).permute([position])
    return _View(model, plan, Material()).build(place(plan))


class _View:
    """Puts a view together: clones around the layers, then the layers of the plan, then the config."""

    def __init__(self, model: nn.Module, plan: LayerPlan, material: Material) -> None:
        self.model, self.plan, self.material = model, plan, material
        self.path, self.layers = find_layers(model)
        self.cloner = Cloner()

    def build(self, placements: Sequence[Placement]) -> Any:
        """Return the view with these layers. Errors as for `operate`."""
        operated = _empty_list(self.layers)
        self.cloner.adopt(self.layers, operated)
        view = self.cloner.module(self.model)
        stride = cache_stride(self.layers)
        positions, kinds = self._cache(placements)
        for at, (placement, position) in enumerate(zip(placements, positions, strict=True)):
            operated._modules[str(at)] = self._layer(placement, position, stride)
        self._configure(view, placements, kinds)
        state = {"_surgery_layers_path": self.path, "_surgery_plan": self.plan, "_surgery_base": _Base(self.model)}
        view.__dict__.update(state)
        return view

    def _layer(self, placement: Placement, position: int, stride: int) -> Any:
        spec = placement.layer
        clone = clone_layer(self.cloner, self.material.layer(spec, self.layers), placement, position, stride)
        if spec.mean:
            become(clone, Averaged)
            clone._surgery_mean = self.stream.added(self.material.means.vectors[spec.index])  # type: ignore[union-attr]
            clone._surgery_extras, clone._surgery_runs = self.stream.extras, self.stream.carries
        if (rotary := self.material.rotary(spec, self.model)) is not None:
            become(clone, Donated)
            clone.__dict__["_surgery_rotary"] = rotary
        equip(clone, placement)
        return clone

    @cached_property
    def stream(self) -> Any:
        """The form of what layers return; found by running one, and only where it is needed."""
        from surgery_core.streams import stream_of

        return stream_of(self.model)

    def _order(self, placements: Sequence[Placement]) -> list[Any]:
        specs = [placement.layer for placement in placements]
        return [spec.index if spec.donor is None else (self.material.config(spec), spec.index) for spec in specs]

    def _cache(self, placements: Sequence[Placement]) -> tuple[list[int], list[str]]:
        """Return the cache positions, and the layer types that go with them where a layer does not attend."""
        attends = [not placement.layer.mean for placement in placements]
        types = getattr(text_config(self.model), "layer_types", None)
        if types and has_own_cache(self.model):
            fills = [is_attention(types[placement.layer.index]) for placement in placements]
            both = [left and right for left, right in zip(attends, fills, strict=True)]
            return cache_positions([""] * len(both), both)[0], []
        if all(attends):
            return list(range(len(placements))), []
        kinds = [types[placement.layer.index] if types else "" for placement in placements]
        positions, kinds = cache_positions(kinds, attends)
        return positions, kinds if types else []

    def _configure(self, view: nn.Module, placements: Sequence[Placement], kinds: list[str]) -> None:
        order = self._order(placements)
        keep_per_layer_inputs(view, self.model, self.path, [placement.layer.index for placement in placements])
        owner = view.get_submodule(self.path.rpartition(".")[0])
        owner.__dict__.update(owner_changes(owner, order, len(self.layers)))
        adjust_config(view, self.path, order, len(self.layers))
        if kinds:
            config = text_config(view)
            config.__class__ = with_types(config, kinds)
            config.__dict__[types_key(config)] = kinds


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
    """Return a clone of `layer` with its cache indices set to `position`."""
    clone = Cloner(outer, keep_hooks=keep_hooks).module(layer)
    for module, name, value in index_slots(clone, placement.layer.index, position, stride):
        module.__dict__[name] = value
    return clone


def adjust_config(view: nn.Module, path: str, order: Order, n_layers: int) -> None:
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
