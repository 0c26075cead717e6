"""A chart's specification with everything that is measured in pixels made larger: for a projector.

Streamlit's theme writes labels in a size that it takes from the page when a chart is drawn; here every size is said, so
that it does not depend on that moment.
"""

from __future__ import annotations

from typing import Any

SIZES = {
    "fontSize", "labelFontSize", "titleFontSize", "subtitleFontSize", "labelLimit", "titleLimit", "limit", "height",
    "width", "step", "dx", "dy", "offset", "gradientLength", "gradientThickness", "symbolSize",
}  # fmt: skip
"""What is a number of pixels wherever it stands in a specification, or grows like one."""
DATA = ("data", "datasets", "values")
"""What is left as it is."""
USUAL: dict[str, dict[str, float]] = {
    "axis": {"labelFontSize": 12, "titleFontSize": 13, "labelLimit": 100},
    "legend": {"labelFontSize": 13, "titleFontSize": 13},
    "header": {"labelFontSize": 12, "titleFontSize": 15},
    "title": {"fontSize": 15},
}
"""Sizes of Streamlit's theme, for a chart that does not say its own."""


def larger(spec: dict[str, Any], times: float) -> dict[str, Any]:
    """Return a Vega-Lite specification that is drawn so many times as large.

    Widths that follow the page go on doing so. Data are shared with the specification that was given.
    """
    config = spec.get("config", {})
    said = {name: usual | config.get(name, {}) for name, usual in USUAL.items()}
    done: dict[str, Any] = _larger({**spec, "config": config | said}, times)
    return done


def _larger(value: Any, times: float) -> Any:
    if isinstance(value, dict):
        return {name: one if name in DATA else _sized(name, one, times) for name, one in value.items()}
    if isinstance(value, list):
        return [_larger(one, times) for one in value]
    return value


def _sized(name: str, value: Any, times: float) -> Any:
    if name in SIZES and isinstance(value, (int, float)) and not isinstance(value, bool):
        # whole pixels stay whole: Streamlit takes no other heights
        return round(value * times) if isinstance(value, int) and name in ("height", "width") else value * times
    return _larger(value, times)
