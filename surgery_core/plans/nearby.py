"""Plans near to a plan: the fewest layers put back, or put back in place. Pure planning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import MAX_SLOTS, Layer, Slot


def neighbours(plan: LayerPlan) -> Iterator[LayerPlan]:
    """Yield plans near to `plan`, the nearest first, each once.

    One edit puts a deleted layer back, puts a layer that runs elsewhere back in its place, drops a repetition, or
    makes a slot plain. All plans one edit away come first, then some that are further.
    """
    seen = {plan}
    for slots in _edited(list(plan), plan.n_layers):
        if len(slots) <= MAX_SLOTS and (found := LayerPlan(tuple(slots), plan.n_layers)) not in seen:
            seen.add(found)
            yield found


def _edited(slots: list[Slot], n_layers: int) -> Iterator[list[Slot]]:
    missing = sorted(set(range(n_layers)) - {layer.index for slot in slots for layer in slot.layers})
    yield from ([*slots[:at], *_plain(slot), *slots[at + 1 :]] for at, slot in enumerate(slots) if not slot.is_plain)
    yield from (_put_back(slots, [index]) for index in missing)
    yield from (_put_back(slots[:at] + slots[at + 1 :], [slots[at]]) for at in _displaced(slots))
    yield from (slots[:at] + slots[at + 1 :] for at in _repeated(slots))
    yield from (_put_back(slots, list(pair)) for pair in combinations(missing, 2))
    plain = [one for slot in slots for one in _plain(slot)]
    yield plain
    yield from (_put_back(plain, [index]) for index in missing)
    yield _put_back([], plain)


def _plain(slot: Slot) -> list[Slot]:
    """Return the layers of a slot as they are in the base, one after the other; a donor's layer stays a donor's."""
    return [Slot((replace(Layer(layer.index), donor=layer.donor),)) for layer in slot.layers]


def _put_back(slots: list[Slot], added: list[int] | list[Slot]) -> list[Slot]:
    """Return the slots with each added one before the first that runs a later layer."""
    result = list(slots)
    for item in added:
        slot = item if isinstance(item, Slot) else Slot.of(item)
        later = (at for at, other in enumerate(result) if _first(other) > _first(slot))
        result.insert(next(later, len(result)), slot)
    return result


def _first(slot: Slot) -> int:
    return slot.layers[0].index


def _displaced(slots: list[Slot]) -> list[int]:
    """Return the positions of slots that run before an earlier layer or after a later one, first those of early layers."""
    firsts = [_first(slot) for slot in slots]
    out = [
        at
        for at, first in enumerate(firsts)
        if any(other > first for other in firsts[:at]) or any(other < first for other in firsts[at + 1 :])
    ]
    return sorted(out, key=lambda at: (firsts[at], at))


def _repeated(slots: list[Slot]) -> list[int]:
    return [at for at, slot in enumerate(slots) if slot in slots[:at]]
