"""Stitches: projections that were fitted for the cuts of one plan, and how they are put into its layers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from surgery_core.errors import PlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Layer


@dataclass(frozen=True, eq=False)
class Stitch:
    """The last projection of one layer, fitted anew.

    Attributes:
        layer: as the plan has it, with its stitch.
        path: of the projection in the layer.
        weight: as the projection keeps it: `[d_model, width]`, of a Conv1D `[width, d_model]`.
        bias: `[d_model]`, or None where the projection has none.
    """

    layer: Layer
    path: str
    weight: torch.Tensor
    bias: torch.Tensor | None

    def put(self, layer: nn.Module) -> None:
        """Give a cloned layer the projection; its other tensors stay those of the base."""
        module = layer.get_submodule(self.path)
        module._parameters["weight"] = nn.Parameter(self.weight, requires_grad=False)
        if self.bias is not None:
            module._parameters["bias"] = nn.Parameter(self.bias, requires_grad=False)

    @contextmanager
    def within(self, layer: nn.Module) -> Iterator[None]:
        """Give a layer the projection for as long as the block runs."""
        module = layer.get_submodule(self.path)
        before = dict(module._parameters)
        self.put(layer)
        try:
            yield
        finally:
            module._parameters.update(before)


@dataclass(frozen=True, eq=False)
class Stitches:
    """The fitted projections of one plan, in its order, and over which texts they were fitted.

    Attributes:
        plan: the plan that they belong to; they mean nothing in another one.
        all: a projection for each of its stitches.
        texts: SHA-256 of the calibration texts.
        n_texts, n_tokens: how much that was.
    """

    plan: LayerPlan
    all: tuple[Stitch, ...]
    texts: str = ""
    n_texts: int = 0
    n_tokens: int = 0

    @property
    def key(self) -> str:
        """Return the SHA-256 of plan, calibration texts and matrices, in hexadecimal: a part of every result's key."""
        found = hashlib.sha256(f"{self.plan}\n{self.texts}\n".encode())
        for stitch in self.all:
            for tensor in (stitch.weight, stitch.bias):
                found.update(b"" if tensor is None else _bytes(tensor))
        return found.hexdigest()

    @property
    def note(self) -> str:
        """Return over what they were fitted, for a result that uses them."""
        return (
            f"Stitched over {self.n_tokens:,} tokens of {self.n_texts:,} texts ({self.texts[:12]}); "
            f"matrices {self.key[:12]}."
        )

    def mapped(self, change: Callable[[Layer], Layer]) -> Stitches:
        """Return the same projections for the plan whose layers are changed in some way."""
        plan = LayerPlan(tuple(slot.map(change) for slot in self.plan), self.plan.n_layers)
        return replace(self, plan=plan, all=tuple(replace(one, layer=change(one.layer)) for one in self.all))

    def of(self, layer: Layer) -> Stitch:
        """Return the projection of a stitched layer.

        Raises:
            PlanError: when there is none.
        """
        for stitch in self.all:
            if stitch.layer == layer:
                return stitch
        raise PlanError(f"No stitch was fitted for {layer}; fit the plan's stitches with stitch first.")


PENDING = Stitches(LayerPlan((), 0), ())
"""Stands for stitches that are still to be fitted; enough to check a plan, not to run it."""


def check_stitches(plan: LayerPlan, stitches: Stitches | None) -> None:
    """Refuse a plan whose stitches were not fitted, or were fitted for another plan.

    Raises:
        PlanError: which says so.
    """
    marked = [slot.layers[0] for slot in plan if slot.is_stitched]
    if not marked:
        return
    if twice := [layer for layer in marked if marked.count(layer) > 1]:
        raise PlanError(
            f"{twice[0]} stands in the plan twice; a layer that runs more than once has one stitch at most."
        )
    if stitches is None:
        raise PlanError(f"{marked[0]} is a stitch, which has to be fitted over texts; do that with stitch first.")
    if stitches is not PENDING and stitches.plan != plan:
        raise PlanError(f"These stitches were fitted for {stitches.plan}, not for {plan}; fit them for this plan.")


def _bytes(tensor: torch.Tensor) -> bytes:
    plain: Any = tensor.detach().cpu().contiguous()
    return bytes(plain.view(torch.uint8).numpy().tobytes())
