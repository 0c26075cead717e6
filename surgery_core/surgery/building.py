"""Build views: an assembly carried out on clones of module shells, which share every tensor with the base."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Slot
from surgery_core.surgery.adapters import take_off
from surgery_core.surgery.anatomy import Held, Operated, find_layers
from surgery_core.surgery.assembly import Assembly, assemble
from surgery_core.surgery.behaviours import Averaged, Donated, MeanOf, OwnRotary, equip, mix_in
from surgery_core.surgery.cache import index_slots
from surgery_core.surgery.clone import Cloner
from surgery_core.surgery.ingredients import Ingredients
from surgery_core.surgery.layer_inputs import kept_inputs
from surgery_core.surgery.marks import mark
from surgery_core.surgery.placement import Placement


class MeanForm(Protocol):
    """What has to be known of a model's layers to let one hand on a mean: how it is added, and what follows it."""

    @property
    def extras(self) -> int | None:
        """Return how many values follow the residual stream in what layers return; None where they return a tensor."""

    @property
    def carries(self) -> bool:
        """Whether one of them is a state from which a cache is filled."""

    def added(self, vector: torch.Tensor) -> torch.Tensor:
        """Return a vector `[d_model]` as it can be added to what a layer returns."""


def built(assembly: Assembly, ingredients: Ingredients, form: MeanForm | None = None) -> Any:
    """Return the view that an assembly describes.

    Args:
        assembly: what it consists of.
        ingredients: donors, means and stitches that its plan names.
        form: how layers hand on their state; needed where the plan has means.
    """
    return _View(assembly, ingredients, form).build()


def private_copy(model: nn.Module) -> Any:
    """Return a view of a model as it is: hooks and behaviours that are put on its modules are nobody else's."""
    return built(assemble(model, LayerPlan.identity(len(find_layers(model)[1])), Ingredients()), Ingredients())


def operate_part(model: nn.Module, position: int) -> Any:
    """Return a view with one single layer of `model`, for running what stands around the layers."""
    plan = LayerPlan((Slot.of(position),), len(find_layers(model)[1]))
    return built(assemble(model, plan, Ingredients(), alone=True), Ingredients())


class _View:
    """Puts a view together: clones around the layers, then the layers of the plan, then the config."""

    def __init__(self, assembly: Assembly, ingredients: Ingredients, form: MeanForm | None) -> None:
        self.assembly, self.ingredients, self.form = assembly, ingredients, form
        self.model, self.layers = assembly.model, assembly.layers
        self.cloner = Cloner()

    def build(self) -> Any:
        """Return the view."""
        made = self.assembly
        operated = _empty_list(self.layers)
        self.cloner.adopt(self.layers, operated)
        view = self.cloner.module(self.model)
        take_off(view, made.left_out)
        for at, (placement, position) in enumerate(zip(made.placements, made.positions, strict=True)):
            operated._modules[str(at)] = self._layer(placement, position, made.stride)
        self._configure(view)
        mark(view, Operated(made.path, made.plan, Held(self.model)))
        return view

    def _layer(self, placement: Placement, position: int, stride: int) -> Any:
        spec = placement.layer
        clone = clone_layer(self.cloner, self.ingredients.layer(spec, self.layers), placement, position, stride)
        if spec.mean and self.form is not None and self.ingredients.means is not None:
            mix_in(clone, Averaged)
            vector = self.form.added(self.ingredients.means.vectors[spec.index])
            mark(clone, MeanOf(vector, self.form.extras, self.form.carries))
        if (rotary := self.ingredients.rotary(spec, self.model)) is not None:
            mix_in(clone, Donated)
            mark(clone, OwnRotary(rotary))
        equip(clone, placement)
        if spec.stitched and self.ingredients.stitches is not None:
            self.ingredients.stitches.of(spec).put(clone)
        return clone

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


def clone_layer(
    outer: Cloner, layer: nn.Module, placement: Placement, position: int, stride: int, *, keep_hooks: bool = False
) -> Any:
    """Return a clone of `layer` with its cache indices set to `position`."""
    clone = Cloner(outer, keep_hooks=keep_hooks).module(layer)
    if position != placement.layer.index:
        for module, name, value in index_slots(clone, placement.layer.index, position, stride):
            module.__dict__[name] = value
    return clone


def _empty_list(layers: nn.ModuleList) -> Any:
    """Return an empty list of the same class (some models use their own)."""
    empty: Any = object.__new__(type(layers))
    nn.Module.__init__(empty)
    empty.training = layers.training
    return empty
