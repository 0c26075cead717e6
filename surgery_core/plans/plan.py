"""Plans: the whole anatomy of an operated model as an immutable value.

A plan is a tuple of slots; a slot says which layer of the base model runs there and how. Planning is pure:
nothing here imports torch. Positions are indices into the current plan and follow Python (negative counts
from the end); layers are original indices of the base model.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import SupportsIndex, cast, overload

from surgery_core.errors import PlanError
from surgery_core.plans.slots import MAX_SLOTS, Layer, Part, Slot, check_layer, damped


@dataclass(frozen=True)
class LayerPlan:
    """The slots of an operated model, in order, and the depth of the base model that they refer to."""

    slots: tuple[Slot, ...]
    n_layers: int

    def __post_init__(self) -> None:
        if self.n_layers < 0:
            raise PlanError(f"A model cannot have {self.n_layers} layers.")
        if (runs := sum(len(slot.layers) for slot in self.slots)) > MAX_SLOTS:
            raise PlanError(f"The plan runs {runs:,} layers; at most {MAX_SLOTS:,} are allowed.")
        for slot in self.slots:
            for layer in slot.layers:
                if layer.donor is None:
                    check_layer(layer.index, self.n_layers)

    @classmethod
    def identity(cls, n_layers: int) -> LayerPlan:
        """Return the plan that leaves a model of `n_layers` layers as it is."""
        return cls(tuple(Slot.of(index) for index in range(n_layers)), n_layers)

    @classmethod
    def parse(cls, text: str, n_layers: int) -> LayerPlan:
        """Read a plan from its notation, for a base model of `n_layers` layers.

        Raises:
            NotationError: where the text does not parse; it points at the character.
        """
        from surgery_core.plans.parser import parse_slots

        return cls(parse_slots(text, n_layers), n_layers)

    def __str__(self) -> str:
        return self.notation

    @cached_property
    def notation(self) -> str:
        """Return the shortest text that parses to this plan."""
        from surgery_core.plans.printer import format_slots

        return format_slots(self.slots)

    def __len__(self) -> int:
        return len(self.slots)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.slots)

    @overload
    def __getitem__(self, position: int) -> Slot: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Slot, ...]: ...
    def __getitem__(self, position: int | slice) -> Slot | tuple[Slot, ...]:
        return self.slots[position]

    @property
    def is_identity(self) -> bool:
        """Whether this plan leaves the model as it is."""
        return self == LayerPlan.identity(self.n_layers)

    @property
    def layers_used(self) -> frozenset[int]:
        """Return the original indices of the base's layers that appear anywhere in the plan."""
        return frozenset(layer.index for slot in self.slots for layer in slot.layers if layer.donor is None)

    @property
    def deleted(self) -> tuple[int, ...]:
        """Return the original indices of the base's layers that appear nowhere, in order."""
        return tuple(index for index in range(self.n_layers) if index not in self.layers_used)

    @property
    def donors(self) -> frozenset[str]:
        """Return the names of the other models that layers are taken from."""
        return frozenset(layer.donor for slot in self.slots for layer in slot.layers if layer.donor is not None)

    def delete(self, positions: Iterable[int] | int) -> LayerPlan:
        """Return the plan without these positions. Deleting every one leaves embeddings straight to the head."""
        gone = set(self._positions(positions))
        return self._with(slot for position, slot in enumerate(self.slots) if position not in gone)

    def permute(self, order: Iterable[int]) -> LayerPlan:
        """Return the plan whose slots are this one's at `order`; shorter drops, longer repeats."""
        return self._with(self.slots[self._position(position)] for position in _integers(order))

    def replace(self, positions: Iterable[int] | int, replacements: Iterable[int | Slot] | int | Slot) -> LayerPlan:
        """Return the plan with each position replaced by a layer of the base (an int) or by a slot.

        Raises:
            PlanError: when the two have different lengths, or a position repeats or is out of range.
        """
        where = self._positions(positions)
        single = isinstance(replacements, (int, Slot)) or hasattr(replacements, "__index__")
        new = [replacements] if single else list(cast("Iterable[int | Slot]", replacements))
        if len(where) != len(new):
            raise PlanError(
                f"{len(where)} positions but {len(new)} replacements were given; give one replacement a position."
            )
        slots = list(self.slots)
        for position, slot in zip(where, new, strict=True):
            slots[position] = self._slot(cast("int | Slot", slot))
        return self._with(slots)

    def swap(self, a: int, b: int) -> LayerPlan:
        """Return the plan with two positions exchanged."""
        a, b = self._position(a), self._position(b)
        slots = list(self.slots)
        slots[a], slots[b] = slots[b], slots[a]
        return self._with(slots)

    def move(self, a: int, to: int) -> LayerPlan:
        """Return the plan with the slot at `a` taken out and put back so that it stands at position `to`."""
        a, to = self._position(a), self._position(to)
        slots = list(self.slots)
        slots.insert(to, slots.pop(a))
        return self._with(slots)

    def insert(self, position: int, slot: Slot | int) -> LayerPlan:
        """Return the plan with a slot, or a layer of the base, put in before `position` (`len(plan)` appends)."""
        position = _normalise(position, len(self) + 1, "position")
        return self._with((*self.slots[:position], self._slot(slot), *self.slots[position:]))

    def reverse(self, start: int = 0, stop: int | None = None) -> LayerPlan:
        """Return the plan with the block `start:stop` backwards."""
        start, stop = self._block(start, stop)
        return self._with((*self.slots[:start], *self.slots[start:stop][::-1], *self.slots[stop:]))

    def repeat(self, start: int, stop: int, times: int) -> LayerPlan:
        """Return the plan with the block `start:stop` run `times` times in a row (1 changes nothing, 0 deletes)."""
        start, stop = self._block(start, stop)
        times = _integer(times)
        if times < 0 or (stop - start) * times > MAX_SLOTS:
            raise PlanError(
                f"A block of {stop - start} cannot run {times:,} times; a plan runs at most {MAX_SLOTS:,} layers."
            )
        return self._with((*self.slots[:start], *self.slots[start:stop] * times, *self.slots[stop:]))

    def parallel(self, start: int, stop: int) -> LayerPlan:
        """Return the plan with the block `start:stop` as one slot whose layers read the same input.

        Their contributions are averaged, as in "Transformer Layers as Painters" (arXiv 2407.09298).
        """
        start, stop = self._block(start, stop)
        group = Slot(tuple(layer for slot in self._single(start, stop, whole=False) for layer in slot.layers))
        return self._with((*self.slots[:start], group, *self.slots[stop:]))

    def damp(self, start: int, stop: int, factor: float) -> LayerPlan:
        """Return the plan with the block `start:stop` as one slot of which only a part of what it adds is taken.

        Its layers run one after the other, and `h + factor * (block(h) - h)` goes on. Twice `0.5` is a loop in half
        steps ("Training-Free Looped Transformers", arXiv 2605.23872); a block and then itself damped is a loop that is
        interpolated with the state that was not looped ("Inner Loop Inference", arXiv 2602.14759).

        Raises:
            PlanError: for an empty block, or one with parallel, damped or stitched slots in it.
        """
        start, stop = self._block(start, stop)
        layers = tuple(slot.layers[0] for slot in self._single(start, stop, whole=True))
        return self._with((*self.slots[:start], *damped(layers, _number(factor)), *self.slots[stop:]))

    def loop(self, start: int, stop: int, times: int, damping: float | None = None) -> LayerPlan:
        """Return the plan with the block `start:stop` run `times` times, each time with a part of what it adds.

        Args:
            start, stop: the block, as a slice.
            times: how often it runs, at least 1.
            damping: the part that is taken each time; by default `1 / times`, so that the steps together are as long as
                one whole run. Errors as for `damp` and `repeat`.
        """
        start, stop = self._block(start, stop)
        if _integer(times) < 1:
            raise PlanError(f"A loop cannot run {times} times; give 1 or more.")
        plan = self.damp(start, stop, 1 / times if damping is None else damping)
        return plan.repeat(start, stop + len(plan) - len(self), times)

    def scale(self, position: int, factor: float) -> LayerPlan:
        """Return the plan with the contribution at `position` multiplied by `factor` (once more, if scaled)."""
        position, factor = self._position(position), _number(factor)
        return self._with((*self.slots[:position], *self.slots[position].scaled(factor), *self.slots[position + 1 :]))

    def keep(self, position: int, part: Part) -> LayerPlan:
        """Return the plan with only `part` of the layer at `position` left (`"both"` restores it whole)."""
        return self._change(position, lambda layer: replace(layer, part=part))

    def switch_adapter(self, positions: Iterable[int] | int, *, on: bool) -> LayerPlan:
        """Return the plan with the adapter of the layers at these positions switched on or off."""
        where = set(self._positions(positions))
        return self._with(
            slot.map(lambda layer: replace(layer, adapter=on)) if position in where else slot
            for position, slot in enumerate(self.slots)
        )

    def stitch(self, positions: Iterable[int] | int) -> LayerPlan:
        """Return the plan with a stitch behind the slots at these positions, where layers of the base are missing."""
        where = set(self._positions(positions))
        return self._with(
            slot.map(lambda layer: replace(layer, stitched=True)) if position in where else slot
            for position, slot in enumerate(self.slots)
        )

    @cached_property
    def unstitched(self) -> LayerPlan:
        """Return the plan without its stitches: the same layers, as they are in the base."""
        return self._with(slot.map(lambda layer: replace(layer, stitched=False)) for slot in self.slots)

    def _with(self, slots: Iterable[Slot]) -> LayerPlan:
        return LayerPlan(tuple(slots), self.n_layers)

    def _change(self, position: int, change: Callable[[Layer], Layer]) -> LayerPlan:
        position = self._position(position)
        changed = self.slots[position].map(change)
        return self._with((*self.slots[:position], changed, *self.slots[position + 1 :]))

    def _single(self, start: int, stop: int, *, whole: bool) -> tuple[Slot, ...]:
        """Return the slots `start:stop`, which are to become one; no damped one can, and as a block only single layers."""
        block = self.slots[start:stop]
        if not block:
            raise PlanError(f"The block {start}:{stop} is empty; name at least one position.")
        for slot in block:
            if slot.damping is not None or (whole and (len(slot.layers) > 1 or slot.is_stitched)):
                raise PlanError(f"{slot} cannot be one layer among several of a slot; leave it out of the block.")
        return block

    def _slot(self, slot: int | Slot) -> Slot:
        return slot if isinstance(slot, Slot) else Slot.of(check_layer(_integer(slot), self.n_layers))

    def _position(self, position: int) -> int:
        return _normalise(position, len(self), "position")

    def _positions(self, positions: Iterable[int] | int) -> list[int]:
        return normalise_positions(positions, len(self))

    def _block(self, start: int, stop: int | None) -> tuple[int, int]:
        start = _normalise(start, len(self) + 1, "start of a block", base=len(self))
        stop = len(self) if stop is None else _normalise(stop, len(self) + 1, "end of a block", base=len(self))
        if start > stop:
            raise PlanError(f"The block {start}:{stop} ends before it starts; give start <= stop.")
        return start, stop


def normalise_positions(positions: Iterable[int] | int, length: int) -> list[int]:
    """Return positions counted from 0, in the order given.

    Raises:
        PlanError: for anything that is not an integer, is out of range, or is named twice.
    """
    given: Iterable[int] = [positions] if hasattr(positions, "__index__") else positions  # type: ignore[list-item]
    found = [_normalise(position, length, "position") for position in _integers(given)]
    repeated = sorted({position for position in found if found.count(position) > 1})
    if repeated:
        raise PlanError(f"Named more than once: {', '.join(map(str, repeated))}. Name each position once.")
    return found


def _normalise(position: int, length: int, what: str, base: int | None = None) -> int:
    position = _integer(position)
    count = length if base is None else base
    normal = position + count if position < 0 else position
    if not 0 <= normal < length:
        allowed = f"0 to {length - 1}" if length else "none, for there are no layers left"
        raise PlanError(f"{position} is not a {what} here; allowed: {allowed}.")
    return normal


def _integers(values: Iterable[int]) -> Sequence[int]:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise PlanError(f"{values!r} is not a list of layer numbers; write for example [3, 4].")
    return [_integer(value) for value in values]


def _integer(value: SupportsIndex) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise PlanError(f"{value!r} is not a whole number; layers and positions are whole numbers.")
    return operator.index(value)


def _number(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PlanError(f"{value!r} is not a number; give a finite number such as 0.5.")
    return float(value)
