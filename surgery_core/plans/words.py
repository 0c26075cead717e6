"""A plan in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from surgery_core.plans.plan import LayerPlan


def describe(plan: LayerPlan) -> str:
    """Return what a plan does to the model, in words."""
    if plan.is_identity:
        return f"All {plan.n_layers} layers run in order."
    if not plan.slots:
        return "No layer runs: embeddings go straight to the head."
    whole = plan.unstitched
    parts = [_deleted(plan), _repeated(plan), _moved(plan), _bare(whole), _changed(whole), _stitched(plan)]
    return f"{_runs(plan)} {' '.join(part for part in parts if part)}".strip()


def subject(plan: LayerPlan) -> str:
    """Return what begins a sentence about the operated model: `Without L5`, `With L4 twice`, `After surgery`."""
    if plan.is_identity:
        return "Unchanged"
    if plan != plan.unstitched:
        return f"{subject(plan.unstitched)} but with a stitch"
    if not plan.slots:
        return "Without any layer"
    order, plain = _layers(plan), all(slot.is_plain for slot in plan)
    if not plain or len(order) != len(plan):
        return _edited(plan)
    kept = list(dict.fromkeys(order))
    if plan.deleted:
        return f"Without {_some(plan.deleted, plan.n_layers)}" if order == sorted(kept) else "After surgery"
    if len(order) == len(kept):
        return _ordered(order)
    repeated = [layer for layer, n in sorted(Counter(order).items()) if n > 1]
    once = len(repeated) == 1 and order == sorted(order)
    return (
        f"With L{repeated[0]} {_TIMES.get(Counter(order)[repeated[0]], 'many times')}"
        if once
        else "With layers repeated"
    )


_TIMES = {2: "twice", 3: "three times", 4: "four times"}


def _ordered(order: list[int]) -> str:
    moved = [at for at, layer in enumerate(order) if layer != at]
    swapped = len(moved) == 2
    return f"With L{moved[0]} and L{moved[1]} swapped" if swapped else "With its layers in another order"


def _edited(plan: LayerPlan) -> str:
    """Return the beginning where one layer is changed and all others stand as they were."""
    changed = [(at, slot) for at, slot in enumerate(plan) if not slot.is_plain]
    at, slot = changed[0]
    own = [layer.index for layer in slot.layers if layer.donor is None]
    order = [*range(at), *own, *range(at + len(own), plan.n_layers)]
    stands = [*(s.layers[0].index for s in plan.slots[:at]), *own, *(s.layers[0].index for s in plan.slots[at + 1 :])]
    alone = len(changed) == 1 and len(own) == len(slot.layers) and stands == order == list(range(plan.n_layers))
    return f"With {slot.label}" if alone else "After surgery"


def _some(layers: Sequence[int], n_layers: int) -> str:
    if len(layers) <= 3:
        return names(layers)
    run = list(layers) == list(range(layers[0], layers[-1] + 1))
    return which(layers) if run else f"{len(layers)} of its {n_layers} layers"


def names(layers: Sequence[int | str], most: int = 6) -> str:
    """Return layers as a list in words: `L4`, `L4 and L5`, `L1, L2, L3 and 9 more`."""
    shown = [layer if isinstance(layer, str) else f"L{layer}" for layer in layers]
    if len(shown) > most:
        shown = [*shown[: most - 1], f"{len(shown) - most + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def which(layers: Sequence[int]) -> str:
    """Return layers in words, a run of them by its ends: `L0 to L11`, `L1, L3 and L5`."""
    if len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"L{layers[0]} to L{layers[-1]}"
    return names(layers) if layers else "no layer"


def _layers(plan: LayerPlan) -> list[int]:
    """Return the model's own layers in the order in which they run; a donor's are others, whatever their number."""
    return [slot.layers[0].index for slot in plan if len(slot.layers) == 1 and slot.layers[0].donor is None]


def _runs(plan: LayerPlan) -> str:
    kept, runs = plan.n_layers - len(plan.deleted), sum(len(slot.layers) for slot in plan)
    if runs == kept == plan.n_layers:
        return ""
    if runs == kept:
        return f"{kept} of {plan.n_layers} layers run."
    return f"{runs} layers run, from {kept} of {plan.n_layers}."


def _deleted(plan: LayerPlan) -> str:
    return f"{names(plan.deleted)} deleted." if plan.deleted else ""


def _repeated(plan: LayerPlan) -> str:
    uses = Counter(_layers(plan))
    repeated = [f"L{layer} {n} times" for layer, n in sorted(uses.items()) if n > 1]
    return f"{names(repeated, 4)} in all." if repeated else ""


def _moved(plan: LayerPlan) -> str:
    order = list(dict.fromkeys(_layers(plan)))
    steps = [(a, b) for a, b in pairwise(order) if b < a]
    if not steps:
        return ""
    where = [f"L{a} before L{b}" for a, b in steps]
    return f"Out of order: {names(where, 3)}."


def _bare(plan: LayerPlan) -> str:
    """Return which whole layers run without their adapters; others say so by their names."""
    bare = [slot.layers[0].index for slot in plan if slot.is_whole and not slot.is_plain]
    if len(bare) == len(plan) > 1:
        return "The adapter is off in every layer."
    return f"The adapter is off in {which(list(dict.fromkeys(bare)))}." if bare else ""


def _stitched(plan: LayerPlan) -> str:
    stitched = [slot.layers[0].index for slot in plan if slot.is_stitched]
    return f"Stitched behind {names(stitched, 4)}." if stitched else ""


def _changed(plan: LayerPlan) -> str:
    changed = [slot.label for slot in plan if not slot.is_whole]
    return f"Changed: {names(changed, 4)}." if changed else ""
