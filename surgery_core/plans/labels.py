"""What slots and positions of a plan are called."""

from __future__ import annotations

from surgery_core.plans.plan import LayerPlan


def slot_labels(plan: LayerPlan) -> list[str]:
    """Return a label for each slot; the second run of a layer is `"L5 (2)"`."""
    labels: list[str] = []
    counts: dict[str, int] = {}
    for slot in plan:
        counts[slot.label] = counts.get(slot.label, 0) + 1
        labels.append(slot.label if counts[slot.label] == 1 else f"{slot.label} ({counts[slot.label]})")
    return labels
