"""How a study's figures read."""

from __future__ import annotations

import math

from surgery_core.studies.finding import Figure


def number_text(value: float, *, percent: bool = False) -> str:
    """Return a number in about three digits, `81.3 %`, `0.412`, `1,234`; what is none as a dash."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if percent:
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def value_text(figure: Figure) -> str:
    """Return a figure's number."""
    return number_text(figure.value, percent=figure.percent)


def interval_text(figure: Figure) -> str:
    """Return a figure's 95 % interval, as `79.0 % to 83.5 %`; empty where it has none."""
    ends = (figure.low, figure.high)
    if any(math.isnan(end) for end in ends):
        return ""
    return " to ".join(number_text(end, percent=figure.percent) for end in ends)


def units_text(figure: Figure) -> str:
    """Return what a figure is over, as `60 texts`; empty where that is not known."""
    if not figure.n_units:
        return ""
    return f"{figure.n_units:,} {figure.unit}{'' if figure.n_units == 1 else 's'}"
