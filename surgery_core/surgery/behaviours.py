"""Behaviours of a slot: what makes one layer run scaled, in part, beside others, or in a damped block.

Each is a mixin put before the layer's own class on a clone (or on the original, in place, and taken off again),
so the layer's own `forward` does the work and only its contribution `layer(h) - h` to the residual stream changes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from surgery_core.plans.slots import Layer
from surgery_core.surgery.adapters import take_off
from surgery_core.surgery.layer_io import contributed, hidden_input, hidden_of, with_hidden
from surgery_core.surgery.layer_parts import halves_of
from surgery_core.surgery.marks import mark, mark_of, needed_mark
from surgery_core.surgery.placement import Group, Placement


@dataclass(frozen=True)
class Factor:
    """What a layer's contribution is multiplied by."""

    value: float


class Scaled:
    """A layer whose contribution to the residual stream is multiplied by its `Factor`."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer and scale what it adds to `hidden_states` `[batch, seq, d_model]`."""
        entering = hidden_input(args, kwargs)
        output = super().forward(*args, **kwargs)  # type: ignore[misc]
        entering, added = contributed(entering, output)
        return with_hidden(output, entering + needed_mark(self, Factor).value * added)  # type: ignore[arg-type]


class Silenced:
    """An attention or MLP that adds nothing. It still runs, so that its cache stays in step."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module and replace its output by zeros, or by the residual where the module adds that itself."""
        output = super().forward(*args, **kwargs)  # type: ignore[misc]
        return self.silence(type(self), args, kwargs, output)

    @staticmethod
    def silence(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Return `output` of a module of class `cls` without its contribution."""
        residual = _residual_argument(cls, args, kwargs)
        hidden = hidden_of(output)
        return with_hidden(output, torch.zeros_like(hidden) if residual is None else residual)


@dataclass(frozen=True, eq=False)
class MeanOf:
    """What a layer is replaced by.

    Attributes:
        vector: its mean contribution `[d_model]`.
        extras: how many values follow the residual stream in what layers return; None where they return a tensor.
        runs: whether the layer runs all the same.
    """

    vector: torch.Tensor
    extras: int | None
    runs: bool = False


class Averaged:
    """A layer replaced by its mean contribution, a `MeanOf`.

    Nothing of it runs, unless layers of the model return a state that its cache is filled from (xLSTM).
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return `hidden_states` `[batch, seq, d_model]` plus the mean, in the form of the layer's own output."""
        mean = needed_mark(self, MeanOf)  # type: ignore[arg-type]
        entering = hidden_input(args, kwargs)
        hidden = entering + mean.vector.to(entering)
        if mean.runs:
            return with_hidden(super().forward(*args, **kwargs), hidden)  # type: ignore[misc]
        return hidden if mean.extras is None else (hidden, *[None] * mean.extras)


@dataclass(frozen=True, eq=False)
class OwnRotary:
    """The module that makes the rotary angles of a donated layer."""

    module: Any


class Donated:
    """A layer of another model, whose rotary angles are its own model's: an `OwnRotary`."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer with position embeddings of its own model for the same positions."""
        rotary, hidden = needed_mark(self, OwnRotary), hidden_input(args, kwargs)  # type: ignore[arg-type]
        kwargs["position_embeddings"] = rotary.module(hidden, kwargs["position_ids"])
        return super().forward(*args, **kwargs)  # type: ignore[misc]


@dataclass(frozen=True, eq=False)
class Member:
    """Which of the layers of a slot with several one is."""

    group: Group
    number: int

    @property
    def is_last(self) -> bool:
        """Whether no other one follows."""
        return self.number == self.group.size - 1


class Grouped:
    """One of several layers that read the same input; the last one returns the input plus their mean contribution."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer on the group's input `[batch, seq, d_model]`; pass that input on until the last member."""
        member = needed_mark(self, Member)  # type: ignore[arg-type]
        group = member.group
        entering = hidden_input(args, kwargs)
        output = super().forward(*args, **kwargs)  # type: ignore[misc]
        entering, added = contributed(entering, output)
        total = added if member.number == 0 else group.local.total.to(added.device) + added
        if not member.is_last:
            group.local.total = total
            return with_hidden(output, entering)
        group.local.total = None
        return with_hidden(output, entering + total / group.size)


class Damped:
    """One of the layers of a damped block; the last one returns the block's input plus a part of all that was added."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer; keep what enters the first one, `[batch, seq, d_model]`, until the last one has run."""
        member = needed_mark(self, Member)  # type: ignore[arg-type]
        local, damping = member.group.local, member.group.damping
        if member.number == 0:
            # a copy, for a layer may write into its input
            local.entered = hidden_input(args, kwargs).clone()
        output = super().forward(*args, **kwargs)  # type: ignore[misc]
        if not member.is_last:
            return output
        entered, added = contributed(local.entered, output)
        local.entered = None
        return with_hidden(output, entered + (1.0 if damping is None else damping) * added)


def equip(layer: Any, placement: Placement) -> None:
    """Give a cloned layer the behaviour that its placement asks for."""
    spec = placement.layer
    if not spec.adapter:
        take_off(layer)
    if spec.part != "both":
        _silence(layer, spec)
    if spec.scale != 1:
        before = mark_of(layer, Factor)
        mix_in(layer, Scaled)
        mark(layer, Factor(spec.scale * (before.value if before else 1.0)))
    if placement.group is not None:
        mix_in(layer, Grouped if placement.group.damping is None else Damped)
        mark(layer, Member(placement.group, placement.member))


@dataclass(frozen=True, eq=False)
class OwnForward:
    """The `forward` that was set on an object."""

    call: Any


class Instanced:
    """A module whose `forward` was set on the object (accelerate does so), now reachable through its class."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the forward that the object had."""
        return needed_mark(self, OwnForward).call(*args, **kwargs)  # type: ignore[arg-type]


def mix_in(module: Any, mixin: type) -> None:
    """Put a mixin before the class of a cloned module; a `forward` on the object itself would hide the mixin's."""
    if "forward" in module.__dict__:
        mark(module, OwnForward(module.__dict__.pop("forward")))
        module.__class__ = mixed(Instanced, type(module))
    module.__class__ = mixed(mixin, type(module))


_MIXED: dict[tuple[type, type], type] = {}


def mixed(mixin: type, cls: type) -> type:
    """Return the class that puts `mixin` before `cls`, the same one every time, under the name of `cls`.

    A class that has the mixin already (a view of a view) stays as it is.
    """
    if issubclass(cls, mixin):
        return cls
    known = _MIXED.get((mixin, cls))
    if known is not None:
        return known
    made = type(cls.__name__, (mixin, cls), {"__module__": cls.__module__})
    return _MIXED.setdefault((mixin, cls), made)


def _silence(layer: nn.Module, spec: Layer) -> None:
    halves = halves_of(layer)
    for path in halves.mlp if spec.part == "attn" else halves.attention:
        mix_in(layer.get_submodule(path), Silenced)


def _residual_argument(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """Return the `residual` argument of a module that adds it itself (BLOOM), else None."""
    position = _residual_position(cast("Hashable", cls))
    if position is None:
        return None
    residual: torch.Tensor = kwargs["residual"] if "residual" in kwargs else args[position]
    return residual


@functools.cache
def _residual_position(cls: Any) -> int | None:
    own: Any = next(base for base in cls.__mro__ if "forward" in base.__dict__ and base not in (Silenced, Instanced))
    names = [name for name in inspect.signature(own.forward).parameters if name != "self"]
    return names.index("residual") if "residual" in names else None
