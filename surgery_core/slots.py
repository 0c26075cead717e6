"""Behaviours of a slot: what makes one layer run scaled, in part, or beside others.

Each is a mixin put before the layer's own class on a clone (or on the original, in place, and taken off again),
so the layer's own `forward` does the work and only its contribution `layer(h) - h` to the residual stream changes.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from surgery_core.errors import RefusedPlanError
from surgery_core.halves import halves_of
from surgery_core.marks import mark, mark_of, needed_mark
from surgery_core.plan import Layer, LayerPlan

INDEX_NAMES = ("layer_idx", "layer_id", "layer_number", "layer_index", "block_idx")


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


@dataclass
class Group:
    """The layers of one parallel slot. What they have contributed so far is kept by thread."""

    size: int

    def __post_init__(self) -> None:
        self.local = threading.local()

    def __deepcopy__(self, memo: dict[int, Any]) -> Group:
        return Group(self.size)


@dataclass(frozen=True, eq=False)
class Member:
    """Which of the layers of a parallel slot one is."""

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


@dataclass(frozen=True)
class Placement:
    """One layer at one place of the operated model. A parallel slot takes one place a member."""

    layer: Layer
    slot: int
    member: int
    group: Group | None


def place(plan: LayerPlan) -> list[Placement]:
    """Return what runs in order; a parallel slot takes one place a member."""
    placements = []
    for number, slot in enumerate(plan):
        group = Group(len(slot.layers)) if len(slot.layers) > 1 else None
        for member, layer in enumerate(slot.layers):
            placements.append(Placement(layer, number, member, group))
    return placements


def cache_positions(types: Sequence[str], attends: Sequence[bool]) -> tuple[list[int], list[str]]:
    """Return the cache position of every layer, and the layer types that go with them.

    Models take the length of the past from the first cache entry (of each layer type), so that one must belong to
    a layer that fills it. Layers without attention of their own get the type of the first layer that has it, and,
    within a type, the entries behind those of the layers that attend.

    Args:
        types: type of each layer in running order, all equal where the model has no types.
        attends: whether each layer fills its cache entry.
    """
    first = next((kind for kind, fills in zip(types, attends, strict=True) if fills), None)
    kinds = [kind if fills or first is None else first for kind, fills in zip(types, attends, strict=True)]
    positions = [0] * len(kinds)
    for kind in set(kinds):
        places = [at for at, other in enumerate(kinds) if other == kind]
        for entry, at in zip(places, sorted(places, key=lambda at: not attends[at]), strict=True):
            positions[at] = entry
    return positions, kinds


def equip(layer: Any, placement: Placement) -> None:
    """Give a cloned layer the behaviour that its placement asks for."""
    spec = placement.layer
    if spec.part != "both":
        _silence(layer, spec)
    if spec.scale != 1:
        before = mark_of(layer, Factor)
        become(layer, Scaled)
        mark(layer, Factor(spec.scale * (before.value if before else 1.0)))
    if placement.group is not None:
        become(layer, Grouped)
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


def become(module: Any, mixin: type) -> None:
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
    made = type(cls.__name__, (mixin, cls), {"__module__": cls.__module__})
    return _MIXED.setdefault((mixin, cls), made)


def index_slots(layer: nn.Module, original: int, position: int, stride: int = 1) -> list[tuple[nn.Module, str, Any]]:
    """Return (module, attribute, value) for everything in a layer that has to follow it to `position`.

    Only attributes that hold the layer's own original index are cache indices. A layer with several caches
    (`stride` of them) has the indices `stride * original` and on. A table by layer index, in which a block that
    several layers share looks up what belongs to the layer (Zamba 2), keeps this layer's entry, under its position.
    """
    tables = [
        (module, name, {position: table[original]})
        for module in layer.modules()
        for name, table in module.__dict__.items()
        if "layer" in name and type(table) is dict and original in table and all(type(key) is int for key in table)
    ]
    return tables + [
        (module, name, value + stride * (position - original))
        for module in layer.modules()
        for name in INDEX_NAMES
        if type(value := module.__dict__.get(name)) is int
        and stride * original <= value < stride * (original + 1)
        and not (stride > 1 and module is layer)
    ]


def cache_stride(layers: nn.ModuleList | Sequence[nn.Module]) -> int:
    """Return how many cache entries each layer has: 1, or 2 where a layer holds two attentions."""
    if not len(layers):
        return 1
    highest = max(own_indices(layers[len(layers) - 1]), default=0)
    return max(1, (highest + 1) // len(layers))


def own_indices(layer: nn.Module) -> set[int]:
    """Return every index that a layer or a module in it keeps."""
    found = (module.__dict__.get(name) for module in layer.modules() for name in INDEX_NAMES)
    return {value for value in found if type(value) is int}


def check_groups(layers: nn.ModuleList | Sequence[nn.Module], order: Sequence[int]) -> None:
    """Refuse to tear apart the parallel layers of a view that is operated once more.

    Raises:
        RefusedPlanError: when a member runs without the others of its group, or in another order.
    """
    expected = 0
    for index in order:
        layer: Any = layers[index]
        member = mark_of(layer, Member)
        if (member.number if member else 0) != expected:
            break
        expected = 0 if member is None or member.is_last else member.number + 1
    else:
        if expected == 0:
            return
    raise RefusedPlanError(
        "The model that is operated has parallel layers, which would be torn apart; make one plan for its base."
    )


def hidden_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """Return the residual stream that enters a layer: its first argument, or `hidden_states`."""
    hidden: torch.Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def contributed(entering: torch.Tensor, output: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what entered a layer and what the layer added to it, both on the device on which the layer ran."""
    hidden = hidden_of(output)
    entering = entering.to(hidden.device)
    return entering, hidden - entering


def hidden_of(output: Any) -> torch.Tensor:
    """Return the residual stream in a layer's output, a tensor or a tuple that begins with it."""
    return output if isinstance(output, torch.Tensor) else output[0]


def with_hidden(output: Any, hidden: torch.Tensor, further: Mapping[int, Any] | None = None) -> Any:
    """Return `output` with its residual stream replaced by `hidden`, in the same form.

    `further` replaces other values of a tuple, by their position.
    """
    if isinstance(output, torch.Tensor):
        return hidden
    values = [hidden, *output[1:]]
    for at, value in (further or {}).items():
        values[at] = value
    return _like(output, tuple(values))


def _like(output: Any, values: tuple[Any, ...]) -> Any:
    """Return `values` as a tuple of the kind that `output` is, a named one too."""
    return type(output)(*values) if hasattr(output, "_fields") else type(output)(values)


def _silence(layer: nn.Module, spec: Layer) -> None:
    halves = halves_of(layer)
    for path in halves.mlp if spec.part == "attn" else halves.attention:
        become(layer.get_submodule(path), Silenced)


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
