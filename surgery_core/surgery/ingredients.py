"""What a plan needs besides the base: other models to take layers from, means of layers, and fitted stitches."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from surgery_core.errors import PlanError, RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Layer
from surgery_core.surgery.adapters import has_adapter
from surgery_core.surgery.anatomy import find_layers, text_config, width_of
from surgery_core.surgery.stitches import Stitches, check_stitches


@dataclass(frozen=True, eq=False)
class Means:
    """Mean contribution of every layer to the residual stream over calibration texts.

    Attributes:
        vectors: `[n_layers, d_model]`, on the CPU; row `i` is the mean over all tokens of layer `i`'s output minus its input.
        titles: of the texts.
        n_tokens: how many tokens the means are over.
    """

    vectors: torch.Tensor
    titles: tuple[str, ...]
    n_tokens: int

    @property
    def note(self) -> str:
        """Return what the means are over, for a result that uses them."""
        return f"Means over {self.n_tokens:,} tokens of: {', '.join(self.titles)}."


PENDING = Means(torch.empty(0, 0), (), 0)
"""Stands for means that are still to be measured; enough to check a plan, not to run it."""


@dataclass(frozen=True, eq=False)
class Ingredients:
    """Other models by the name they are loaded under, the base's mean contributions, and the plan's fitted stitches."""

    donors: Mapping[str, nn.Module] = field(default_factory=dict)
    means: Means | None = None
    stitches: Stitches | None = None

    @property
    def named(self) -> dict[str, Any]:
        """Return all of them as `operate` takes them."""
        return {"donors": self.donors, "means": self.means, "stitches": self.stitches}

    def check(self, plan: LayerPlan, base: nn.Module) -> None:
        """Refuse a plan that names a donor or a mean that is not there or does not fit.

        Raises:
            PlanError: for an unknown donor or layer, another width (both are named), missing means, or stitches that
                were fitted for another plan.
            RefusedPlanError: for a donor whose layers are called in another way.
        """
        check_stitches(plan, self.stitches)
        for slot in plan:
            for layer in slot.layers:
                self._check(layer, base)

    def layer(self, spec: Layer, layers: nn.ModuleList) -> nn.Module:
        """Return the layer object that a plan's layer names, of the base or of a donor."""
        return layers[spec.index] if spec.donor is None else find_layers(self.donors[spec.donor])[1][spec.index]

    def config(self, spec: Layer) -> Any:
        """Return the config that describes a donated layer, or None for one of the base."""
        return None if spec.donor is None else text_config(self.donors[spec.donor])

    def rotary(self, spec: Layer, base: nn.Module) -> nn.Module | None:
        """Return the donor's rotary embedding where its layers need other angles than the base's, else None."""
        if spec.donor is None:
            return None
        own, other = _rotary(base), _rotary(self.donors[spec.donor])
        if own is None or other is None or _same_buffers(own, other):
            return None
        return other

    def _check(self, spec: Layer, base: nn.Module) -> None:
        if spec.stitched and (spec.mean or spec.donor is not None):
            raise RefusedPlanError(f"{spec} is not supported: only a layer of this model itself can be stitched.")
        if spec.mean:
            self._check_mean(spec)
        if spec.donor is not None:
            self._check_donor(spec, spec.donor, base)

    def _check_mean(self, spec: Layer) -> None:
        if spec.donor is not None or spec.part != "both" or not spec.adapter:
            raise RefusedPlanError(f"{spec} is not supported: a mean is that of a whole layer of this model.")
        if self.means is None:
            raise PlanError(f"{spec} needs the layers' mean contributions; compute them with mean_contributions first.")

    def _check_donor(self, spec: Layer, name: str, base: nn.Module) -> None:
        if name not in self.donors:
            known = ", ".join(sorted(self.donors)) or "none"
            raise PlanError(f"No other model is loaded as {name!r}; loaded: {known}. Load it first.")
        donor = self.donors[name]
        layers = find_layers(donor)[1]
        if spec.index >= len(layers):
            raise PlanError(f"{name} has no layer {spec.index}; allowed: 0 to {len(layers) - 1}.")
        if width_of(donor) != width_of(base):
            raise PlanError(
                f"{name} is {width_of(donor)} wide and this model {width_of(base)}; "
                "layers can only come from a model of the same width."
            )
        if not spec.adapter and not has_adapter(donor):
            raise RefusedPlanError(
                f"{spec} asks for a layer without its adapter, and {name} has none; leave .bare out."
            )
        _check_called_alike(spec, layers[spec.index], find_layers(base)[1])


def _check_called_alike(spec: Layer, donated: nn.Module, layers: nn.ModuleList) -> None:
    if type(donated).__name__ == type(layers[0]).__name__:
        return
    ours, theirs = (list(inspect.signature(layer.forward).parameters) for layer in (layers[0], donated))
    if ours != theirs:
        raise RefusedPlanError(
            f"A {type(donated).__name__} of {spec.donor} is called in another way than a {type(layers[0]).__name__}; "
            "take a layer of a model of the same architecture."
        )


def _rotary(model: nn.Module) -> nn.Module | None:
    owner = model.get_submodule(find_layers(model)[0].rpartition(".")[0])
    return getattr(owner, "rotary_emb", None)


def _same_buffers(left: nn.Module, right: nn.Module) -> bool:
    ours, theirs = dict(left.named_buffers()), dict(right.named_buffers())
    same = (torch.equal(ours[name].cpu(), theirs[name].cpu()) for name in ours if name in theirs)
    return ours.keys() == theirs.keys() and all(same)
