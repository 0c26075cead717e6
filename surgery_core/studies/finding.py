"""What a study came to, and whether that is what was claimed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from surgery_core.statistics.paired import LEAST_UNITS, estimates
from surgery_core.statistics.units import Array

Outcome = Literal["seen here too", "not seen here", "too few texts to say"]

Form = Literal["bars", "lines", "heat", "dots"]
"""How a study's picture is drawn: bars over x, lines over x with one a series, a map of x and y, dots of x and y."""


@dataclass(frozen=True)
class Figure:
    """One number of a study, with its 95 % interval.

    Attributes:
        name: in a few words, as "Top-1 kept without a middle layer".
        value: the number; NaN where there is none.
        low, high: its interval; NaN where it has none.
        n_units: how many texts, items or layers it is over.
        unit: what one of those is, `"text"`, `"item"`, `"layer"`, ...
        percent: whether the number is a share that reads as percent.
    """

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    n_units: int = 0
    unit: str = "text"
    percent: bool = False


@dataclass(frozen=True)
class Claim:
    """Where a figure lies if what the paper saw holds here too.

    Attributes:
        at_least, at_most: the ends of that region; infinite where it has none.
    """

    at_least: float = -math.inf
    at_most: float = math.inf

    def outcome(self, figure: Figure) -> Outcome:
        """Return whether the figure's whole interval lies in the region, or outside, or neither."""
        known = not any(math.isnan(end) for end in (figure.value, figure.low, figure.high))
        if not known or figure.n_units < LEAST_UNITS:
            return "too few texts to say"
        if figure.low >= self.at_least and figure.high <= self.at_most:
            return "seen here too"
        if figure.high < self.at_least or figure.low > self.at_most:
            return "not seen here"
        return "too few texts to say"


@dataclass(frozen=True)
class Picture:
    """What a study draws.

    Attributes:
        form: how.
        x, y: columns of the frame.
        series: the column that says which line or bar; empty for one of them.
        value: the column that a map colours; empty for other forms.
        x_title, y_title, value_title: what axes and legend say.
        low, high: columns with whiskers; empty for none.
    """

    form: Form
    x: str
    y: str
    series: str = ""
    value: str = ""
    x_title: str = ""
    y_title: str = ""
    value_title: str = ""
    low: str = ""
    high: str = ""


@dataclass(frozen=True, eq=False)
class Finding:
    """What a study came to on one model.

    Attributes:
        figure: the number that a claim is about.
        others: numbers beside it.
        frame: what the picture draws, one line a mark.
        picture: how.
        note: what a reader must know to read the figures rightly; empty where nothing.
    """

    figure: Figure
    others: tuple[Figure, ...]
    frame: pd.DataFrame
    picture: Picture
    note: str = field(default="")


def mean_figure(
    name: str, values: Array, sizes: Array | None = None, *, unit: str = "text", percent: bool = False
) -> Figure:
    """Return the mean of what units came to, with Student's interval over them.

    Args:
        name: of the figure.
        values: `[n]`, what each unit came to a token (or the like).
        sizes: `[n]`, how many tokens each has; by default all count alike.
        unit: what one is.
        percent: whether it is a share.
    """
    values = np.asarray(values, float)
    weights = np.ones(len(values)) if sizes is None else np.asarray(sizes, float)
    found = estimates(values * weights, weights)
    return Figure(name, float(found.value), float(found.low), float(found.high), len(values), unit, percent)
