"""Colours that mean two things are told apart by eyes that lack a kind of cone, and where hue is all, by lightness.

The matrices are those of Machado, Oliveira and Fernandes (IEEE TVCG 15(6), 2009, table 1, severity 1.0), in linear RGB.
"""

from __future__ import annotations

import tomllib
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surgery_core.charts.sweeps import VARIANT_COLOURS

CONFIG = tomllib.loads((Path(__file__).resolve().parents[3] / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
KINDS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = XYZ.sum(axis=1)
APART = 20
"""Distance in CIELAB from which two patches are two colours at a glance; a just noticeable one is 2.3."""


def seen(colour: str, kind: str) -> Any:
    """Return a colour in CIELAB as eyes of a kind see it."""
    rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = XYZ @ np.clip(np.array(KINDS[kind]) @ linear, 0, 1) / WHITE
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def distance(one: str, other: str, kind: str) -> float:
    return float(np.linalg.norm(seen(one, kind) - seen(other, kind)))


def theme(dark: bool) -> dict[str, Any]:
    return dict(CONFIG["theme"]["dark" if dark else "light"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dark", [False, True])
def test_pairs_of_meanings_are_two_colours_to_everybody(dark: bool, kind: str) -> None:
    colours = theme(dark)
    ends = colours["chartDivergingColors"]
    after, before = colours["chartCategoricalColors"][:2]
    pairs = {
        "better and worse": (colours["greenColor"], colours["redColor"]),
        "ends of a difference": (ends[1], ends[-2]),
        "after and before": (after, before),
        "two series of bars": tuple(VARIANT_COLOURS[dark][:2]),
    }
    near = {name: round(distance(*pair, kind), 1) for name, pair in pairs.items() if distance(*pair, kind) < APART}
    assert not near


@pytest.mark.parametrize("dark", [False, True])
def test_the_ramp_of_one_hue_grows_in_lightness_for_everybody(dark: bool) -> None:
    for kind in KINDS:
        light = [seen(colour, kind)[0] for colour in theme(dark)["chartSequentialColors"]]
        steps = np.diff(light) * (1 if dark else -1)
        assert (steps > 0).all(), kind


def test_the_measure_knows_red_from_green_and_whom_it_fails() -> None:
    """A check of the check: pure red and green of like lightness are near for red-green blind eyes only."""
    red, green = "#c80000", "#6e7a00"
    assert distance(red, green, "tritanopia") > 2 * distance(red, green, "protanopia")
    assert all(distance("#000000", "#ffffff", kind) > 99 for kind in KINDS)
    assert all(
        distance(a, a, kind) == 0 for (a, _), kind in zip(combinations(("#123456", "#654321"), 2), KINDS, strict=False)
    )
