"""A plan as a strip of cells in running order, for a button or a card: what is changed is seen at a glance."""

from __future__ import annotations

from collections.abc import Iterator

from surgery_core.charts.plan_marks import PALETTES, Axes, Box, as_it_adds, cell, escaped, member
from surgery_core.plans.changes import Use, layer_uses
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import layer_label
from surgery_core.plans.words import describe

HEIGHT = 18
_WIDEST = 12.0
"""Of a cell, in pixels."""


def plan_strip(plan: LayerPlan, *, dark: bool = False, width: int = 160) -> str:
    """Return a plan as one row of cells, as SVG: those that run in their order, deleted ones hollow where they stood.

    Args:
        plan: any plan.
        dark: whether it is drawn for a dark page.
        width: in pixels; long plans have narrow cells.

    Returns:
        An `<svg>` with a `<title>` that says the plan in words. Nothing is loaded from elsewhere.
    """
    row = list(_row(plan))
    pitch = min(_WIDEST, width / max(1, len(row)))
    palette, axes = PALETTES[dark], Axes(across=True)
    parts = []
    for at, beside in enumerate(row):
        place = Box(at * pitch + pitch * 0.09, (at + 1) * pitch - pitch * 0.09, 1.0, HEIGHT - 1.0)
        for number, use in enumerate(beside):
            if isinstance(use, int):
                parts.append(cell(axes, place, "deleted", None, _said(use), palette))
            else:
                kind = "changed" if use.kind == "kept" and use.is_changed else use.kind
                parts.append(cell(axes, member(place, use, number), kind, as_it_adds(use), _said(use), palette))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        'role="img" style="max-width:100%;display:block">'
    )
    return "".join([head, f"<title>{escaped(describe(plan))}</title>", *parts, "</svg>"])


def _said(use: Use | int) -> str:
    return f"L{use}, deleted" if isinstance(use, int) else layer_label(use.layer)


def _row(plan: LayerPlan) -> Iterator[list[Use | int]]:
    """Yield what stands in each place: the uses of a slot, or the number of a layer that is deleted there."""
    gone = list(plan.deleted)
    slots: dict[int, list[Use | int]] = {}
    for use in layer_uses(plan):
        slots.setdefault(use.position, []).append(use)
    for uses in slots.values():
        first = uses[0]
        while gone and isinstance(first, Use) and first.kind == "kept" and gone[0] < first.layer.index:
            yield [gone.pop(0)]
        yield uses
    for index in gone:
        yield [index]
