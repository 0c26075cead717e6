"""Views: operated models that share every tensor with their base.

`operate` clones the module shells of the base (not its tensors), puts the plan's layers into the clone, gives each
its own cache position and brings the config's depth and per-layer lists in line. The base is never written to, so
any number of views can live at once, in any number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import islice
from typing import Any

from torch import nn

from surgery_core.anatomy import Held, Operated, find_layers
from surgery_core.assembly import Assembly, assemble
from surgery_core.errors import PlanError, RefusedPlanError
from surgery_core.marks import mark
from surgery_core.material import PENDING, Material, Means
from surgery_core.neighbours import neighbours
from surgery_core.per_layer import kept_inputs
from surgery_core.plan import LayerPlan, Slot
from surgery_core.shells import Cloner
from surgery_core.slots import Averaged, Donated, MeanOf, OwnRotary, Placement, become, equip, index_slots

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
    return _View(_assembled(model, plan, material), material).build()


def check_plan(model: nn.Module, plan: LayerPlan, donors: Mapping[str, nn.Module] | None = None) -> None:
    """Refuse a plan that cannot run on this model, before anything of it is measured. Errors as for `operate`."""
    _assembled(model, plan, Material(donors or {}, PENDING))


def _assembled(model: nn.Module, plan: LayerPlan, material: Material) -> Assembly:
    """Return what a plan consists of on a model; a refusal has the nearest plan that its structure allows."""
    try:
        return assemble(model, plan, material)
    except RefusedPlanError as error:
        raise RefusedPlanError(str(error), _nearest_operable(model, plan, material)) from None


def check_operable(model: nn.Module, plan: LayerPlan, material: Material) -> None:
    """Refuse a plan that cannot run on this model. Errors as for `operate`, which does this first."""
    assemble(model, plan, material)


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
    """Return a view with one single slot of a plan, for calling its layers by hand.

    Whether the slot alone would be a model to be trusted does not matter here.
    """
    plan, material = LayerPlan((slot,), len(find_layers(model)[1])), material or Material()
    return _View(assemble(model, plan, material, alone=True), material).build()


def operate_part(model: nn.Module, position: int) -> Any:
    """Return a view with one single layer of `model`, for running what stands around the layers."""
    return operate_slot(model, Slot.of(position))


class _View:
    """Puts a view together: clones around the layers, then the layers of the plan, then the config."""

    def __init__(self, assembly: Assembly, material: Material) -> None:
        self.assembly, self.material = assembly, material
        self.model, self.layers = assembly.model, assembly.layers
        self.cloner = Cloner()

    def build(self) -> Any:
        """Return the view. Raises `RefusedPlanError` where a mean has no form in this model."""
        made = self.assembly
        operated = _empty_list(self.layers)
        self.cloner.adopt(self.layers, operated)
        view = self.cloner.module(self.model)
        for at, (placement, position) in enumerate(zip(made.placements, made.positions, strict=True)):
            operated._modules[str(at)] = self._layer(placement, position, made.stride)
        self._configure(view)
        mark(view, Operated(made.path, made.plan, Held(self.model)))
        return view

    def _layer(self, placement: Placement, position: int, stride: int) -> Any:
        spec = placement.layer
        clone = clone_layer(self.cloner, self.material.layer(spec, self.layers), placement, position, stride)
        if spec.mean:
            become(clone, Averaged)
            vector = self.stream.added(self.material.means.vectors[spec.index])  # type: ignore[union-attr]
            mark(clone, MeanOf(vector, self.stream.extras, self.stream.carries))
        if (rotary := self.material.rotary(spec, self.model)) is not None:
            become(clone, Donated)
            mark(clone, OwnRotary(rotary))
        equip(clone, placement)
        return clone

    @cached_property
    def stream(self) -> Any:
        """The form of what layers return; found by running one, and only where it is needed."""
        from surgery_core.streams import stream_of

        return stream_of(self.model)

    def _configure(self, view: nn.Module) -> None:
        made = self.assembly
        owner: Any = view.get_submodule(made.owner_path)
        owner.__dict__.update(made.owner)
        if made.inputs is not None:
            config = self.model.get_submodule(made.owner_path).config
            owner.__class__, kept = kept_inputs(owner, config, made.inputs)
            mark(owner, kept)
        for config, change in made.config_changes_of(view):
            config.__class__ = change.cls
            config.__dict__.update(change.values)


def private_copy(model: nn.Module) -> Any:
    """Return a view of a model as it is: hooks and behaviours that are put on its modules are nobody else's."""
    return operate(model, LayerPlan.identity(len(find_layers(model)[1])))


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


def _empty_list(layers: nn.ModuleList) -> Any:
    """Return an empty list of the same class (some models use their own)."""
    empty: Any = object.__new__(type(layers))
    nn.Module.__init__(empty)
    empty.training = layers.training
    return empty
