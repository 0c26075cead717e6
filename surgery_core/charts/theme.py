"""The colours of the app's charts as Vega-Lite's configuration, for charts that are drawn outside the app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from surgery_core.charts.style import INK, QUIET

GRID = {False: "#dbe2e5", True: "#2e3a3f"}
"""Lines behind figures, by whether the page is dark."""
_LIGHT = {
    "Categorical": ("#1f6f8b", "#93a1a7", "#b4532a", "#a58a3c", "#6b5b95"),
    "Sequential": (
        "#f4f8fa", "#deebf0", "#c4dbe4", "#a4c8d5", "#81b3c4", "#5c9cb2", "#3d849d", "#276c86", "#18546b", "#0d3b4e",
    ),
    "Diverging": (
        "#0d4f66", "#276c86", "#5c9cb2", "#a3c8d5", "#e3eef2", "#f8e8df", "#edbfa8", "#de946f", "#c96a3d", "#a04a1f",
    ),
}  # fmt: skip
_DARK = {
    "Categorical": ("#5aa9c2", "#6a797f", "#d98a5f", "#c9b06a", "#a797cf"),
    "Sequential": (
        "#182227", "#1b3139", "#20434e", "#275766", "#2f6c7e", "#3c8397", "#559bae", "#78b3c3", "#a1cbd7", "#cfe6ed",
    ),
    "Diverging": (
        "#8ccfe3", "#5ba6bb", "#3c7f92", "#2a5a68", "#1f353c", "#3a2a22", "#6b4129", "#9c5a34", "#cc7a4b", "#f2a67c",
    ),
}  # fmt: skip
COLOURS: Mapping[bool, Mapping[str, Sequence[str]]] = MappingProxyType({False: _LIGHT, True: _DARK})
"""Those of `.streamlit/config.toml`, by whether the page is dark; a test holds them together."""


def vega_config(*, dark: bool = False, colours: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """Return colours and type as Vega-Lite's configuration.

    Args:
        dark: whether the page is dark.
        colours: `Categorical`, `Sequential` and `Diverging`; those of the app where there are none.
    """
    chosen = {name: list((colours or {}).get(name) or own) for name, own in COLOURS[dark].items()}
    ramp = chosen["Sequential"]
    text = {"labelColor": QUIET[dark], "titleColor": INK[dark], "titleFontWeight": 500}
    return {
        "font": "sans-serif",
        "range": {"category": chosen["Categorical"], "heatmap": ramp, "ramp": ramp, "diverging": chosen["Diverging"]},
        "mark": {"color": chosen["Categorical"][0]},
        "axis": text | {"gridColor": GRID[dark]},
        "legend": text,
        "title": {"anchor": "start", "color": INK[dark], "fontWeight": 600},
        "view": {"stroke": None},
    }
