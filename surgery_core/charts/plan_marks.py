"""What a plan's picture is made of: cells for layers, bands between them, small print."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from surgery_core.charts.style import INK, PAPER, QUIET
from surgery_core.plans.changes import Use
from surgery_core.plans.slots import Layer

Palette = Mapping[str, str]
PALETTES: Mapping[bool, Palette] = {
    False: {
        "kept": "#b9c6cc", "changed": "#1f6f8b", "moved": "#1f6f8b", "repeated": "#a58a3c", "deleted": "#b4532a",
        "donor": "#6b5b95", "ink": INK[False], "quiet": QUIET[False], "paper": PAPER[False],
    },
    True: {
        "kept": "#46555b", "changed": "#5aa9c2", "moved": "#5aa9c2", "repeated": "#c9b06a", "deleted": "#d98a5f",
        "donor": "#a797cf", "ink": INK[True], "quiet": QUIET[True], "paper": PAPER[True],
    },
}  # fmt: skip
"""Colours by what they say, by whether the page is dark: those of the app's charts."""
_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Box:
    """A rectangle: from `low` to `high` along the layers, from `near` to `far` across them."""

    low: float
    high: float
    near: float
    far: float

    def until(self, last: Box) -> Box:
        """Return the box from this one's beginning to another's end."""
        return replace(self, high=last.high)

    def share(self, number: int, count: int) -> Box:
        """Return one of `count` equal parts along the layers."""
        part = (self.high - self.low) / count
        return replace(self, low=self.low + part * number, high=self.low + part * (number + 1))

    def beside(self, number: int, count: int) -> Box:
        """Return one of `count` equal parts across the layers, with a little room between them."""
        part = (self.far - self.near) / count
        gap = min(1.5, part * 0.2) if number + 1 < count else 0.0
        return replace(self, near=self.near + part * number, far=self.near + part * (number + 1) - gap)

    def running(self, layer: Layer) -> Box:
        """Return the part along the layers that runs: all of it, or the half of the attention or of the MLP."""
        if layer.part == "both":
            return self
        return self.share(0 if layer.part == "attn" else 1, 2)

    def scaled(self, factor: float) -> Box:
        """Return the box as wide across as a factor says, at most half as wide again."""
        share, middle = min(abs(factor), 1.5), (self.near + self.far) / 2
        half = (self.far - self.near) / 2 * share
        return replace(self, near=middle - half, far=middle + half)


@dataclass(frozen=True)
class Axes:
    """Which way the layers run: down, or across the page."""

    across: bool

    def point(self, along: float, cross: float) -> str:
        """Return a point as SVG has it."""
        x, y = (along, cross) if self.across else (cross, along)
        return f"{round(x, 2):g} {round(y, 2):g}"

    def rectangle(self, box: Box) -> str:
        """Return a box's place as the attributes of a `<rect>`."""
        x, y = (box.low, box.near) if self.across else (box.near, box.low)
        long, wide = box.high - box.low, box.far - box.near
        width, height = (long, wide) if self.across else (wide, long)
        return f'x="{round(x, 2):g}" y="{round(y, 2):g}" width="{round(width, 2):g}" height="{round(height, 2):g}"'


def cell(axes: Axes, place: Box, kind: str, layer: Layer | None, said: str, palette: Palette) -> str:
    """Return a layer: filled as far as it runs, with an outline where that is not all of it.

    Args:
        axes: which way layers run.
        place: where.
        kind: a name of the palette.
        layer: how it runs; None for one of the base as it is.
        said: what a pointer that rests on it is told.
        palette: the colours.
    """
    colour, radius = palette[kind], f'rx="{min(3.0, (place.high - place.low) / 3):.2g}"'
    outline = f'<rect {axes.rectangle(place)} {radius} fill="{palette["paper"]}" stroke="{colour}"'
    title = f'<g class="cell {kind}"><title>{escaped(said)}</title>'
    if kind == "deleted":
        return f'{title}{outline} stroke-dasharray="3 2"/></g>'
    if layer is None or layer.is_plain:
        return f'{title}<rect {axes.rectangle(place)} {radius} fill="{colour}"/></g>'
    fill = palette["deleted"] if layer.scale < 0 else colour
    marks = _hole(axes, place, layer, palette) + _seam(axes, place, layer, palette)
    return f"{title}{outline}/>{_inside(axes, place, layer, radius, fill)}{marks}</g>"


def _inside(axes: Axes, place: Box, layer: Layer, radius: str, colour: str) -> str:
    runs = place.running(layer).scaled(layer.scale)
    if layer.mean:
        middle, half = (runs.low + runs.high) / 2, min(1.0, (runs.high - runs.low) / 4)
        runs = replace(runs, low=middle - half, high=middle + half)
    return f'<rect {axes.rectangle(runs)} {radius} fill="{colour}"/>'


def _hole(axes: Axes, place: Box, layer: Layer, palette: Palette) -> str:
    if layer.adapter:
        return ""
    middle = axes.point((place.low + place.high) / 2, (place.near + place.far) / 2).split()
    radius = min(3.5, (place.high - place.low) / 4)
    return f'<circle cx="{middle[0]}" cy="{middle[1]}" r="{radius:.3g}" fill="{palette["paper"]}"/>'


def _seam(axes: Axes, place: Box, layer: Layer, palette: Palette) -> str:
    """Return a line across the end of a layer behind which the plan is stitched."""
    if not layer.stitched:
        return ""
    thick = min(2.0, (place.high - place.low) / 4)
    edge = replace(place, low=place.high - 2 * thick, high=place.high - thick)
    return f'<rect {axes.rectangle(edge)} fill="{palette["paper"]}"/>'


def member(place: Box, use: Use, number: int) -> Box:
    """Return the place of one of the layers of a slot: beside the others, or in a damped block behind those before it."""
    if use.damping is not None:
        return place.share(number, use.beside)
    return place.beside(number, use.beside)


def as_it_adds(use: Use) -> Layer:
    """Return a use's layer with the factor that its whole damped block has."""
    return use.layer if use.damping is None else replace(use.layer, scale=use.layer.scale * use.damping)


def band(axes: Axes, left: Box, right: Box, kind: str, palette: Palette) -> str:
    """Return a band from the far side of one box to the near side of another."""
    start, end = left.far, right.near
    middle = (start + end) / 2
    path = (
        f"M{axes.point(left.low, start)}C{axes.point(left.low, middle)} {axes.point(right.low, middle)} "
        f"{axes.point(right.low, end)}L{axes.point(right.high, end)}C{axes.point(right.high, middle)} "
        f"{axes.point(left.high, middle)} {axes.point(left.high, start)}Z"
    )
    opacity = 0.32 if kind == "kept" else 0.42
    return f'<path class="band {kind}" d="{path}" fill="{palette[kind]}" fill-opacity="{opacity}"/>'


def stub(axes: Axes, place: Box, length: float, palette: Palette, *, donor: bool = False) -> str:
    """Return a band that ends in the open: behind a deleted layer, or before one of another model."""
    kind, edge = ("donor", place.near) if donor else ("deleted", place.far)
    tip = axes.point((place.low + place.high) / 2, edge + length)
    path = f"M{axes.point(place.low, edge)}L{tip}L{axes.point(place.high, edge)}Z"
    return f'<path class="stub {kind}" d="{path}" fill="{palette[kind]}" fill-opacity="0.3"/>'


def written(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    """Return small print whose middle line is at `y`."""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{round(x, 2):g}" y="{round(y + 3.8, 2):g}"{where} fill="{colour}">{escaped(text)}</text>'


def escaped(text: str) -> str:
    """Return text for XML, which has no form for some characters: those are shown as unknown."""
    return html.escape(_NO_XML.sub("\ufffd", text))
