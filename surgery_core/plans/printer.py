"""Print slots in the shortest notation that parses back to exactly the same slots.

Dynamic programming over the end of the text: the best text of a prefix is the best text of a shorter prefix
and one more item (a slot, a range, a repeat or a run with shared modifiers). Repeated units are printed by the
same procedure, memoised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

from surgery_core.plans.slots import BARE, BARE_DONOR, STITCH, Layer, Slot, donor_text, format_number

_BARE_RANGE = re.compile(rf'(?:(?:{BARE_DONOR.pattern}|"(?:[^"\\]|\\.)*"):)?\d+-\d+', re.DOTALL)

Symbol = Slot | None
"""A slot without its stitch, or None for the stitch behind it."""

Item = tuple[int, str]
"""Where an item starts, and its text."""

Common = Callable[[Layer], tuple[str, Layer]]
"""Takes off a layer what several may have in common: its text, and the layer without it."""


def format_slots(slots: tuple[Slot, ...]) -> str:
    """Return the shortest text that `parse_slots` reads back to exactly these slots.

    Of equally short texts it is the one with fewest items; swapped neighbours are written `6,5`, not `6-5`.
    """
    return _Printer().text(slots)


class _Printer:
    """Slots are interned as small integers, so that blocks are cheap to compare and to remember."""

    def __init__(self) -> None:
        self.numbers: dict[Symbol, int] = {}
        self.slots: list[Symbol] = []
        self.known: dict[tuple[int, ...], tuple[str, int]] = {}

    def text(self, slots: tuple[Slot, ...]) -> str:
        """Return the shortest notation of the slots."""
        return self._best(tuple(self._intern(symbol) for symbol in _symbols(slots)))[0]

    def _intern(self, slot: Symbol) -> int:
        if slot not in self.numbers:
            self.numbers[slot] = len(self.slots)
            self.slots.append(slot)
        return self.numbers[slot]

    def _best(self, block: tuple[int, ...]) -> tuple[str, int]:
        """Return the shortest text of a block and its number of items."""
        if block not in self.known:
            self.known[block] = _shortest(len(block), self._items(block))
        return self.known[block]

    def _items(self, block: tuple[int, ...]) -> list[list[Item]]:
        """Return, for every end, the items that could stand last before it."""
        slots = [self.slots[number] for number in block]
        ends: list[list[Item]] = [[] for _ in range(len(block) + 1)]
        for position, slot in enumerate(slots):
            ends[position + 1].append((position, STITCH if slot is None else self._single(slot)))
        for start, stop, text in _ranges(slots):
            ends[stop].append((start, text))
        for start, period, times in _repeats(block):
            if slots[start] is None:
                continue
            ends[start + period * times].append((start, f"{self._atom(block[start : start + period])}x{times}"))
        for common in (_modifiers, _bareness):
            for start, stop in _runs_with(common, slots):
                run = [slot for slot in slots[start:stop] if slot is not None]
                ends[stop].append((start, self._factored(run, common)))
        return ends

    def _single(self, slot: Slot) -> str:
        """Return the text of one slot; the layers of a damped block are written like a plan of their own."""
        if slot.damping is None:
            return str(slot)
        block = self._best(tuple(self._intern(Slot((layer,))) for layer in slot.layers))[0]
        return f"[{block}]*{format_number(slot.damping)}"

    def _atom(self, block: tuple[int, ...]) -> str:
        """Return the block's text in a form that takes a modifier."""
        text, items = self._best(block)
        return text if items == 1 and not _BARE_RANGE.fullmatch(text) else f"({text})"

    def _factored(self, slots: list[Slot], common: Common) -> str:
        """Return the text of slots with what all their layers have in common behind it, once."""
        rest = (slot.map(lambda layer: common(layer)[1]) for slot in slots)
        return self._atom(tuple(self._intern(slot) for slot in rest)) + common(slots[0].layers[0])[0]


def _shortest(length: int, items: list[list[Item]]) -> tuple[str, int]:
    costs: list[tuple[int, int]] = [(0, 0)]
    choices: list[Item] = [(0, "")]
    for stop in range(1, length + 1):
        options = [
            ((costs[start][0] + len(text) + (start > 0), costs[start][1] + 1), (start, text))
            for start, text in items[stop]
        ]
        cost, choice = min(options, key=lambda option: option[0])
        costs.append(cost)
        choices.append(choice)
    return _spell(choices), costs[-1][1]


def _spell(choices: list[Item]) -> str:
    texts, stop = [], len(choices) - 1
    while stop > 0:
        stop, text = choices[stop]
        texts.append(text)
    return ",".join(reversed(texts))


def _symbols(slots: tuple[Slot, ...]) -> Iterator[Symbol]:
    for slot in slots:
        yield slot.map(lambda layer: replace(layer, stitched=False))
        if slot.is_stitched:
            yield None


def _ranges(slots: list[Symbol]) -> Iterator[tuple[int, int, str]]:
    steps = [_step(a, b) for a, b in pairwise(slots)]
    for start in range(len(steps)):
        stop, first = start + 1, slots[start]
        while steps[start] and stop <= len(steps) and steps[stop - 1] == steps[start]:
            stop += 1
            last = slots[stop - 1]
            if first is not None and last is not None and (stop - start > 2 or steps[start] > 0):
                yield start, stop, _range_text(first, last)


def _step(first: Symbol, second: Symbol) -> int:
    """Return +1 or -1 where the second slot continues a range from the first, else 0."""
    if first is None or second is None or len(first.layers) > 1 or len(second.layers) > 1:
        return 0
    a, b = first.layers[0], second.layers[0]
    step = b.index - a.index
    if abs(step) != 1 or a.modifiers:
        return 0
    return step if b == Layer(b.index, mean=a.mean, donor=a.donor) else 0


def _range_text(first: Slot, last: Slot) -> str:
    a, b = first.layers[0], last.layers[0]
    donor = "" if a.donor is None else f"{donor_text(a.donor)}:"
    span = f"{donor}{a.index}-{b.index}"
    return f"mean({span})" if a.mean else span


def _repeats(block: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Yield (start, period, times) of every repetition whose unit is not itself a repetition."""
    for start in range(len(block)):
        for length, border in enumerate(_borders(block[start:]), 1):
            period = length - border
            if border and length % period == 0:
                yield start, period, length // period


def _borders(block: tuple[int, ...]) -> list[int]:
    """Return the longest proper border of every prefix (the prefix function of Knuth, Morris and Pratt)."""
    borders = [0] * len(block)
    for i in range(1, len(block)):
        k = borders[i - 1]
        while k and block[i] != block[k]:
            k = borders[k - 1]
        borders[i] = k + 1 if block[i] == block[k] else 0
    return borders


def _modifiers(layer: Layer) -> tuple[str, Layer]:
    """Return all modifiers of a layer, and the layer without them."""
    return layer.modifiers, replace(layer, part="both", scale=1.0, adapter=True)


def _bareness(layer: Layer) -> tuple[str, Layer]:
    """Return what says that a layer runs without its adapter, and the layer with it."""
    return "" if layer.adapter else BARE, replace(layer, adapter=True)


def _runs_with(common: Common, slots: list[Symbol]) -> list[tuple[int, int]]:
    """Return the maximal runs, and the single parallel slots, whose layers all have the same in common."""
    marks = [_shared(common, slot) for slot in slots]
    cuts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(marks)) if a != b), len(slots)]
    runs = [(start, stop) for start, stop in pairwise(cuts) if start < stop and marks[start]]
    parallel = [(i, i + 1) for i, slot in enumerate(slots) if marks[i] and slot is not None and len(slot.layers) > 1]
    plain = [(a, b) for a, b in runs if b - a > 1]
    return list(dict.fromkeys([*plain, *parallel]))


def _shared(common: Common, slot: Symbol) -> str:
    if slot is None or slot.damping is not None:
        return ""
    marks = {common(layer)[0] for layer in slot.layers}
    return marks.pop() if len(marks) == 1 else ""
