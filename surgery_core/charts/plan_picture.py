"""A plan as a picture: the layers before and after, each run of them joined by a band.

What was done to a layer is seen without its words: a deleted one is hollow, and its band ends in the open; a moved one
crosses others; a repeated one has two bands; a scaled one is wider or narrower; of a half one only the half that runs is
filled (attention comes first); parallel ones lie side by side in one place, those of a damped block one behind the
other and narrow; a mean is a flat line; another model's comes
from outside; one without its adapter has a hole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal
from zlib import crc32

from surgery_core.charts.plan_marks import (
    PALETTES,
    Axes,
    Box,
    Palette,
    as_it_adds,
    band,
    cell,
    escaped,
    member,
    stub,
    written,
)
from surgery_core.plans.changes import Use, changes, layer_uses
from surgery_core.plans.labels import slot_labels
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Layer
from surgery_core.plans.words import describe

Orient = Literal["columns", "rows"]
WIDTH = {"columns": 420, "rows": 960}
"""Of a picture in pixels, where no other is asked for."""
_LETTER = 6.4
"""Of the small print, in pixels; wide enough for most letters."""
_MARGIN, _GUTTER, _THICK, _BETWEEN, _LINE = 6, 48, 20, 52, 17
_PITCH = {"columns": (7.0, 20.0), "rows": (0.0, 64.0)}
"""Least and most room for a layer, in pixels; where 900 would not do, less."""
_LONGEST = 900
_WAYS = {
    "deleted": "deleted", "moved": "moved", "repeated": "repeated", "half": "half", "scaled": "scaled",
    "parallel": "in parallel", "damped": "in a damped block", "mean": "as its mean", "donor": "of another model",
    "adapter off": "without its adapter", "stitched": "stitched",
}  # fmt: skip
_SAMPLES = {
    "half": (Layer(0, part="attn"),), "scaled": (Layer(0, scale=0.5),), "parallel": (Layer(0), Layer(1)),
    "damped": (Layer(0, scale=0.5),), "mean": (Layer(0, mean=True),), "adapter off": (Layer(0, adapter=False),),
    "stitched": (Layer(0, stitched=True),),
}  # fmt: skip
"""What the legend shows of each way that is no colour."""


def plan_picture(
    plan: LayerPlan, *, dark: bool = False, orient: Orient = "columns", width: int | None = None, background: bool = False
) -> str:  # fmt: skip
    """Return a plan as SVG: the base model's layers on one side, those that run on the other, bands between them.

    Args:
        plan: any plan; up to some 130 layers each has a place that can be told from its neighbours'.
        dark: whether it is drawn for a dark page.
        orient: `"columns"` has the layers one below the other, before on the left; `"rows"` beside each other, before
            at the top.
        width: in pixels, at least 240.
        background: whether the page's colour lies behind it, as for a file that is opened anywhere.

    Returns:
        An `<svg>` with a `<title>` and a `<desc>` that say in words what it shows. Nothing is loaded from elsewhere.
    """
    sheet = _Sheet(plan, PALETTES[dark], orient, max(240, WIDTH[orient] if width is None else width))
    return sheet.svg(background)


@dataclass(frozen=True)
class _Label:
    along: float
    text: str
    strong: bool


class _Sheet:
    """A picture being drawn; `along` runs with the layers, `cross` from before to after."""

    def __init__(self, plan: LayerPlan, palette: Palette, orient: Orient, width: int) -> None:
        self.plan, self.palette, self.orient, self.width = plan, palette, orient, width
        self.axes = Axes(across=orient == "rows")
        self.uses = layer_uses(plan)
        most = max(plan.n_layers, len(plan), 1)
        room = width - _GUTTER - _MARGIN if orient == "rows" else _LONGEST
        least, largest = _PITCH[orient]
        self.pitch = min(largest, max(least, room / most) if most * least <= _LONGEST else room / most)
        self.start = float(_GUTTER if orient == "rows" else _MARGIN + _LINE)
        self.before, self.after = self._columns()
        self.end = self.start + self.pitch * most

    def _columns(self) -> tuple[float, float]:
        """Return where the cells of both sides begin, across."""
        if self.orient == "rows":
            first = float(_MARGIN + _LINE)
            return first, first + _THICK + _BETWEEN
        named = max((len(label) for label in slot_labels(self.plan)), default=0)
        right = min(self.width * 0.4, max(60.0, named * _LETTER + 14))
        return float(_GUTTER), self.width - right - _THICK

    def svg(self, background: bool) -> str:
        """Return the whole picture."""
        bottom = self.after + _THICK + _LINE + _MARGIN if self.orient == "rows" else self.end + _MARGIN
        legend, height = self._legend(bottom)
        parts = [*self._bands(), *self._cells(), *self._names(), *legend]
        # several pictures may stand on one page, and ids are the page's
        name = f"plan-{crc32(''.join(parts).encode()):x}"
        edge = 12 if background else 0
        wide, high = self.width + 2 * edge, height + 2 * edge
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-edge} {-edge} {wide} {high:g}" width="{wide}" '
            f'height="{high:g}" role="img" aria-labelledby="{name}-title {name}-words" '
            'font-family="system-ui, -apple-system, Segoe UI, Roboto, sans-serif" font-size="11">'
        )
        title = f'<title id="{name}-title">The plan {escaped(str(self.plan) or "without layers")}</title>'
        words = f'<desc id="{name}-words">{escaped(describe(self.plan))}</desc>'
        behind = (
            [f'<rect x="{-edge}" y="{-edge}" width="{wide}" height="{high:g}" fill="{self.palette["paper"]}"/>']
            if background
            else []
        )
        return "\n".join([head, title, words, *behind, *parts, "</svg>"])

    def _place(self, position: int, side: float) -> Box:
        gap = min(3.0, self.pitch * 0.18)
        along = self.start + self.pitch * position
        return Box(along + gap / 2, along + self.pitch - gap / 2, side, side + _THICK)

    def _bands(self) -> Iterator[str]:
        own = [use for use in self.uses if use.kind != "donor"]
        # first what stays, so that what moves lies above it
        for run in sorted(_runs(own), key=lambda run: run[0].kind != "kept"):
            first, last = run[0], run[-1]
            left, right = self._place(first.layer.index, self.before), self._target(first)
            left = left.until(self._place(last.layer.index, self.before))
            kind = first.kind if first.kind != "kept" or not first.is_changed else "changed"
            yield band(self.axes, left, right.until(self._target(last)), kind, self.palette)
        for index in self.plan.deleted:
            yield stub(self.axes, self._place(index, self.before), (self.after - self.before) * 0.42, self.palette)
        for use in self.uses:
            if use.kind == "donor":
                yield stub(self.axes, self._target(use), (self.before - self.after) * 0.42, self.palette, donor=True)

    def _target(self, use: Use) -> Box:
        """Return where a use's band ends: its share of the slot, of that the part that runs."""
        place = self._place(use.position, self.after)
        if use.beside > 1:
            members = [other for other in self.uses if other.position == use.position]
            place = place.share(members.index(use), use.beside)
        return place.running(use.layer)

    def _cells(self) -> Iterator[str]:
        gone = set(self.plan.deleted)
        for index in range(self.plan.n_layers):
            kind = "deleted" if index in gone else "kept"
            said = f"L{index}, deleted" if index in gone else f"L{index}"
            yield cell(self.axes, self._place(index, self.before), kind, None, said, self.palette)
        labels = slot_labels(self.plan)
        for position, members in groupby(self.uses, key=lambda use: use.position):
            said = f"{labels[position]} at place {position + 1}"
            for number, use in enumerate(members):
                place = member(self._place(position, self.after), use, number)
                kind = "changed" if use.kind == "kept" and use.is_changed else use.kind
                yield cell(self.axes, place, kind, as_it_adds(use), said, self.palette)

    def _names(self) -> Iterator[str]:
        quiet = self.palette["quiet"]
        gone = set(self.plan.deleted)
        step = self._step()
        ticks = [
            _Label(self._middle(i), f"L{i}", i in gone) for i in range(self.plan.n_layers) if i in gone or i % step == 0
        ]
        yield from self._labels(ticks, self.before - 6, "end", self.palette["deleted"])
        new = {use.position for use in self.uses if use.is_changed or use.kind != "kept"}
        labels = slot_labels(self.plan)
        slots = [
            _Label(self._middle(use.position), labels[use.position], use.position in new)
            for use in self.uses if use.position in new or use.layer.index % step == 0
        ]  # fmt: skip
        yield from self._labels(slots, self.after + _THICK + 6, "start", self.palette["ink"])
        if self.orient == "rows":
            yield written(0, self.before + _THICK / 2, "before", "start", quiet)
            yield written(0, self.after + _THICK / 2, "after" if len(self.plan) else "after: no layers", "start", quiet)
        else:
            yield written(self.before, _MARGIN + 5, "before", "start", quiet)
            yield written(self.after, _MARGIN + 5, "after" if len(self.plan) else "no layers", "start", quiet)

    def _step(self) -> int:
        """Return how many layers apart plain labels stand, so that they do not touch."""
        room = self.pitch / (len(f"L{self.plan.n_layers}") * _LETTER + 4 if self.orient == "rows" else 13)
        return next((step for step in (1, 2, 5, 10, 20, 50, 100) if step * room >= 1), 200)

    def _middle(self, position: int) -> float:
        return self.start + self.pitch * (position + 0.5)

    def _labels(self, labels: list[_Label], cross: float, anchor: str, strong: str) -> Iterator[str]:
        """Write those labels that there is room for, the most telling ones first."""
        taken: list[tuple[float, float]] = []
        for label in sorted(labels, key=lambda label: (not label.strong, label.along)):
            text = label.text if len(label.text) <= 26 else label.text[:25] + "…"
            low, high = self._extent(label.along, text)
            if any(low < other_high and other_low < high for other_low, other_high in taken):
                continue
            taken.append((low, high))
            colour = strong if label.strong else self.palette["quiet"]
            if self.orient == "rows":
                down = -5.0 if anchor == "end" else 5.0
                yield written((low + high) / 2, cross + down, text, "middle", colour)
            else:
                yield written(cross, label.along, text, anchor, colour)

    def _extent(self, along: float, text: str) -> tuple[float, float]:
        """Return what a label takes along the layers; beside each other it stays within the picture."""
        half = (len(text) * _LETTER + 4) / 2 if self.orient == "rows" else 6.5
        if self.orient == "rows":
            along = max(half, min(self.width - half, along))
        return along - half, along + half

    def _swatch(self, way: str, place: Box) -> Iterator[str]:
        kind = way if way in self.palette else "changed"
        layers = _SAMPLES.get(way, (Layer(0),))
        for number, layer in enumerate(layers):
            yield cell(Axes(across=True), place.beside(number, len(layers)), kind, layer, way, self.palette)

    def _legend(self, top: float) -> tuple[list[str], float]:
        """Return the line that counts the changes, with its colours, and where it ends."""
        x, y, parts = 0.5, top + _LINE / 2, list[str]()
        for way, number in changes(self.plan).items():
            text = f"{number} {_WAYS[way]}"
            room = 17 + len(text) * _LETTER + 14
            if x + room > self.width and x:
                x, y = 0.5, y + _LINE
            parts += [
                *self._swatch(way, Box(x, x + 12, y - 5, y + 5)),
                written(x + 17, y, text, "start", self.palette["quiet"]),
            ]
            x += room
        return parts, y + _LINE / 2 if parts else top


def _runs(uses: list[Use]) -> list[list[Use]]:
    """Return uses joined where neighbours go to neighbours in the same way."""
    runs: list[list[Use]] = []
    for use in uses:
        last = runs[-1][-1] if runs else None
        if last is not None and not (last.is_changed or use.is_changed) and _follows(last, use):
            runs[-1].append(use)
        else:
            runs.append([use])
    return runs


def _follows(last: Use, use: Use) -> bool:
    step = (last.position + 1, last.layer.index + 1, last.kind)
    return step == (use.position, use.layer.index, use.kind)
