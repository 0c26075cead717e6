"""Find the plan nearest to a refused one that is allowed: the fewest layers put back, or put back in place."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

from torch import nn

from surgery_core.errors import SurgeryError
from surgery_core.material import Material
from surgery_core.plan import MAX_SLOTS, Layer, LayerPlan, Slot
from surgery_core.trial import Trial

MOST_TRIES = 48
"""Plans that are tried at most."""


def nearest_plan(
    model: nn.Module, tokenizer: Any, plan: LayerPlan, material: Material | None = None, *, seconds: float = 20.0
) -> LayerPlan | None:
    """Return the plan with the fewest edits to `plan` that passes its checks on this model, or None.

    One edit puts a deleted layer back, puts a layer that runs elsewhere back in its place, drops a repetition, or
    makes a slot plain. Plans one edit away are tried first, then some that are further, then the unchanged model.

    Args:
        model: the base.
        tokenizer: only its special tokens matter, which the test prompts avoid.
        plan: the refused plan.
        material: donors and means that it names.
        seconds: how long to look; None is returned where even the unchanged model does not pass.
    """
    trial = Trial(model, tokenizer, material)
    identity = LayerPlan.identity(plan.n_layers)
    if not allowed(trial, identity):
        return None
    end = time.monotonic() + seconds
    for tried, candidate in enumerate(candidates(plan)):
        if tried == MOST_TRIES or time.monotonic() > end:
            break
        if allowed(trial, candidate):
            return candidate
    return identity


def allowed(trial: Trial, plan: LayerPlan) -> bool:
    """Whether a plan passes its checks."""
    try:
        return all(check.passed for check in trial.plan_checks(plan))
    except SurgeryError:
        return False


def candidates(plan: LayerPlan) -> Iterator[LayerPlan]:
    """Yield plans near to `plan`, the nearest first, each once."""
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
    """Return the positions outside of the longest run of layers in ascending order, first those of early layers."""
    tails: list[int] = []
    ends: list[list[int]] = []
    for at, slot in enumerate(slots):
        place = bisect_left(tails, _first(slot))
        chain = [*(ends[place - 1] if place else []), at]
        tails[place : place + 1] = [_first(slot)]
        ends[place : place + 1] = [chain]
    kept = set(ends[-1]) if ends else set()
    return sorted(set(range(len(slots))) - kept, key=lambda at: (_first(slots[at]), at))


def _repeated(slots: list[Slot]) -> list[int]:
    return [at for at, slot in enumerate(slots) if slot in slots[:at]]
