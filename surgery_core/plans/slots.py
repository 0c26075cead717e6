"""Layers and slots: what runs at one place of a plan, and how it is written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from surgery_core.errors import PlanError

Part = Literal["both", "attn", "mlp"]


PARTS: tuple[Part, ...] = ("both", "attn", "mlp")


BARE = ".bare"
"""What the notation has behind a layer that runs without its adapter."""


STITCH = "~"
"""What the notation has behind a slot whose last projection is fitted anew, so that what follows a cut gets what it got."""


BARE_DONOR = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
"""A donor's name that the notation has without quotes."""


MAX_DONOR = 1_000
"""Longest name of a donor, in characters."""


MAX_SLOTS = 1024
"""Most layers that a plan may run, those of parallel and damped slots too; keeps a typed `5x1000000` from taking the
server down."""


@dataclass(frozen=True)
class Layer:
    """One use of one layer of the base model.

    Attributes:
        index: original index of the layer, from 0.
        part: `"both"`, or only the attention (`"attn"`) or MLP (`"mlp"`) half of its contribution.
        scale: factor on the layer's contribution to the residual stream; any finite number.
        mean: whether the layer is replaced by its mean contribution over a calibration text.
        donor: name of the other loaded model that the layer is taken from, or None for the base.
        adapter: whether the adapter that the layer has runs; one that has none runs the same either way.
        stitched: whether the layer's last projection is a fitted one (`surgery_core.stitch`), for the layers that are
            missing behind it.
    """

    index: int
    part: Part = "both"
    scale: float = 1.0
    mean: bool = False
    donor: str | None = None
    adapter: bool = True
    stitched: bool = False

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise PlanError(f"{self.part!r} is not a part of a layer; write one of {', '.join(PARTS)}.")
        if not math.isfinite(self.scale):
            raise PlanError(f"A layer cannot be scaled by {self.scale}; give a finite number such as 0.5.")
        if self.index < 0:
            raise PlanError(f"{self.index} is not a layer; layers are numbered from 0.")
        if self.donor is not None and not 0 < len(self.donor) <= MAX_DONOR:
            raise PlanError(f"A donor's name has 1 to {MAX_DONOR:,} characters; this one has {len(self.donor):,}.")

    @property
    def is_plain(self) -> bool:
        """Whether the layer runs exactly as it does in the base model."""
        return self == Layer(self.index)

    @property
    def modifiers(self) -> str:
        """Return the notation's suffix for adapter, part and scale: `""`, `".attn"`, `"*0.5"`, `".bare.mlp*2"`."""
        part = ("" if self.adapter else BARE) + ("" if self.part == "both" else f".{self.part}")
        return part + ("" if self.scale == 1 else f"*{format_number(self.scale)}")

    def __str__(self) -> str:
        name = str(self.index) if self.donor is None else f"{donor_text(self.donor)}:{self.index}"
        return (f"mean({name})" if self.mean else name) + self.modifiers + (f",{STITCH}" if self.stitched else "")


@dataclass(frozen=True)
class Slot:
    """One position of the operated model: a layer, several that read the same input, or a damped block of them.

    Attributes:
        layers: what runs. Several run in parallel, each on what enters the slot, and their contributions are averaged;
            those of a damped block run one after the other.
        damping: of a damped block, the factor on what all of it together adds to the residual stream:
            `h + damping * (block(h) - h)`, any finite number but 1. None for every other slot.
    """

    layers: tuple[Layer, ...]
    damping: float | None = None

    def __post_init__(self) -> None:
        if not self.layers:
            raise PlanError("A slot needs at least one layer.")
        if len(self.layers) > 1 and self.is_stitched:
            raise PlanError(f"A stitch stands behind a single layer; this slot runs {len(self.layers)} of them.")
        if self.damping is not None:
            self._check_damping(self.damping)

    def _check_damping(self, damping: float) -> None:
        if not math.isfinite(damping) or damping == 1:
            raise PlanError(f"A block cannot be damped by {damping}; give a finite number but 1, such as 0.5.")
        if len(self.layers) < 2:
            raise PlanError(f"A damped block has two layers or more; scale {self.layers[0]} instead.")

    @classmethod
    def of(cls, *indices: int) -> Slot:
        """Return the slot that runs these layers of the base, in parallel when there are several."""
        return cls(tuple(Layer(index) for index in indices))

    @property
    def is_parallel(self) -> bool:
        """Whether several layers read the same input."""
        return len(self.layers) > 1 and self.damping is None

    @property
    def is_plain(self) -> bool:
        """Whether the slot is one unmodified layer of the base."""
        return len(self.layers) == 1 and self.layers[0].is_plain

    @property
    def own(self) -> Layer | None:
        """Return the one layer of the base that runs here, whole or a part of it, scaled or not; None for anything else."""
        layer = self.layers[0]
        return layer if len(self.layers) == 1 and not layer.mean and layer.donor is None else None

    @property
    def is_whole(self) -> bool:
        """Whether the slot is one whole layer of the base, with or without its adapter: what a checkpoint can hold."""
        return len(self.layers) == 1 and replace(self.layers[0], adapter=True).is_plain

    @property
    def is_stitched(self) -> bool:
        """Whether a stitch stands behind the slot."""
        return any(layer.stitched for layer in self.layers)

    @property
    def label(self) -> str:
        """Return the slot's short name for charts and chips: `"L7"`, `"L7.attn"`, `"L4|L5"`, `"L7~"`, `"[L4-L6]×0.5"`."""
        if self.damping is not None:
            return f"[{_run_label(self.layers)}]×{format_number(self.damping)}"
        return "|".join(layer_label(layer) for layer in self.layers)

    def map(self, change: Callable[[Layer], Layer]) -> Slot:
        """Return the slot with every one of its layers changed."""
        return Slot(tuple(change(layer) for layer in self.layers), self.damping)

    def scaled(self, factor: float) -> tuple[Slot, ...]:
        """Return what stands in the slot's place with its contribution multiplied once more; a block may fall apart."""
        if self.damping is not None:
            return damped(self.layers, self.damping * factor)
        return (self.map(lambda layer: replace(layer, scale=layer.scale * factor)),)

    def __str__(self) -> str:
        if len(self.layers) == 1:
            return str(self.layers[0])
        if self.damping is not None:
            return f"[{','.join(map(str, self.layers))}]*{format_number(self.damping)}"
        return f"({'|'.join(map(str, self.layers))})"


def damped(layers: tuple[Layer, ...], damping: float) -> tuple[Slot, ...]:
    """Return the slots of a damped block: one, or what is the same written without it.

    One layer alone is scaled, and a block with a factor of 1 is its layers one after the other.

    Raises:
        PlanError: for a factor that is not finite, or a stitched layer.
    """
    if len(layers) == 1:
        return Slot(layers).scaled(damping)
    if damping == 1:
        return tuple(Slot((layer,)) for layer in layers)
    return (Slot(layers, damping),)


def donor_text(name: str) -> str:
    """Return a donor's name as the notation has it: in double quotes where it needs them, `\\` before `"` and `\\`."""
    if BARE_DONOR.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def format_number(value: float) -> str:
    """Return the shortest text of a number that reads back to the same value."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def check_layer(index: int, n_layers: int) -> int:
    """Return the index of a layer, counted from the front; refuse one that a model of `n_layers` does not have."""
    normal = index + n_layers if index < 0 else index
    if not 0 <= normal < n_layers:
        allowed = f"0 to {n_layers - 1}" if n_layers else "none, for it has no layers"
        raise PlanError(f"The model has no layer {index}; allowed: {allowed}.")
    return normal


def layer_label(layer: Layer) -> str:
    """Return a layer's short name for charts and chips: `"L7"`, `"L7.attn"`, `"mean L7"`."""
    name = f"L{layer.index}" if layer.donor is None else f"{donor_text(layer.donor)}:L{layer.index}"
    mark = STITCH if layer.stitched else ""
    return (f"mean {name}" if layer.mean else name) + layer.modifiers.replace("*", "×") + mark


def _run_label(layers: tuple[Layer, ...]) -> str:
    """Return layers one after the other in short: `"L4-L6"` for neighbours as they are, else `"L4,L7.attn"`."""
    first, last = layers[0], layers[-1]
    if layers == tuple(Layer(index) for index in range(first.index, last.index + 1)):
        return f"{layer_label(first)}-{layer_label(last)}"
    return ",".join(layer_label(layer) for layer in layers)
