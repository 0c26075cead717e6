"""What a kind of sweep may need besides the plan that it starts from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from surgery_core.errors import SettingsError

FACTORS = (-1.0, 0.0, 0.25, 0.5, 0.75, 0.9, 1.1, 1.25, 1.5, 2.0, 3.0)
"""Factors on a layer's contribution that a scale sweep tries by default; 1 is the base."""


DAMPINGS = (0.25, 0.5, 0.75, 1.0)
"""Parts of what a looped block adds that are taken each time, by default; 1 is the plain loop."""


MAX_TIMES = 64
"""Most runs of a repeated layer or block."""


@dataclass(frozen=True)
class SweepOptions:
    """What a kind of sweep may need besides the plan to start from.

    Attributes:
        layer: position that is moved or scaled, or where a block that is looped begins; by default the middle one, and
            of a block the one that lets it lie in the middle.
        max_length: longest block; by default all but one of the slots.
        times: how often a repeated layer or block runs, 2 to 64; of a loop, at most.
        factors: factors of a scale sweep; of a loop the parts of what it adds, by default 0.25, 0.5, 0.75 and 1.
        seed: of shuffles.
        length: layers of a block that is looped; by default a quarter of the slots.
        damping: the part of what a damped repeat adds that is taken each time; by default 1 / `times`.
    """

    layer: int | None = None
    max_length: int | None = None
    times: int = 2
    factors: tuple[float, ...] = FACTORS
    seed: int = 0
    length: int | None = None
    damping: float | None = None

    def __post_init__(self) -> None:
        if self.damping is not None and not math.isfinite(self.damping):
            raise SettingsError(f"A repeat cannot be damped by {self.damping}; give a finite number such as 0.5.")
        if not 2 <= self.times <= MAX_TIMES:
            raise SettingsError(f"A layer cannot be repeated to run {self.times} times; give 2 to {MAX_TIMES}.")
        if not self.factors:
            raise SettingsError("A scale sweep needs at least one factor; give for example 0, 0.5, 2.")

    def position(self, length: int) -> int:
        """Return the position that is moved or scaled in a plan of `length` slots.

        Raises:
            SettingsError: when there is no such position.
        """
        layer = length // 2 if self.layer is None else self.layer
        if not -length <= layer < length:
            raise SettingsError(f"There is no layer {layer} to sweep; allowed: 0 to {length - 1}.")
        return layer % length

    def block(self, length: int) -> tuple[int, int]:
        """Return where the block that is looped begins in a plan of `length` slots, and behind which slot it ends.

        Raises:
            SettingsError: when it does not fit.
        """
        size = max(1, length // 4) if self.length is None else self.length
        begin = (length - size) // 2 if self.layer is None else self.position(length)
        if not 1 <= size <= length - begin:
            raise SettingsError(
                f"A block of {size} layers from layer {begin} on does not fit a model of {length}; allowed: 1 to "
                f"{length - begin}."
            )
        return begin, begin + size

    def longest(self, length: int) -> int:
        """Return the length of the longest block in a plan of `length` slots.

        Raises:
            SettingsError: when it is longer than the plan, or below one.
        """
        if self.max_length is None:
            return max(1, length - 1)
        if not 1 <= self.max_length <= length:
            raise SettingsError(
                f"A block of {self.max_length} layers does not fit a model of {length}; allowed: 1 to {length}."
            )
        return self.max_length
