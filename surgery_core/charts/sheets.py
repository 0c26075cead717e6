"""Several charts one above the other, for a file.

Pure functions from DataFrames to an Altair chart, as in `charts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from surgery_core.charts.layers import block_map, layer_bars, removal_curve, similarity_map


def removal_sheet(frame: pd.DataFrame, titles: Mapping[str, str], *, width: int) -> alt.VConcatChart:
    """Draw several removal curves.

    Args:
        frame: as for `removal_curve`.
        titles: what the axes call the figures, by metric.
        width: of each curve in pixels.
    """
    return _stacked([removal_curve(frame, name, title, pick=None) for name, title in titles.items()], width)


def importance_sheet(
    frame: pd.DataFrame, titles: Mapping[str, str], similarity: pd.DataFrame, blocks: pd.DataFrame, labels: list[str], *,
    width: int,
) -> alt.VConcatChart:  # fmt: skip
    """Draw all that a reading of importance has to show.

    Args:
        frame: as for `layer_bars`.
        titles: what the estimates are called, by their columns.
        similarity: as for `similarity_map`.
        blocks: as for `block_map`.
        labels: names of the positions.
        width: of each chart in pixels.
    """
    bars = [layer_bars(frame, column, title).properties(title=title) for column, title in titles.items()]
    maps = [similarity_map(similarity), block_map(blocks, labels)]
    sheet: alt.VConcatChart = _stacked([*bars, *maps], width).resolve_scale(color="independent")
    return sheet


def _stacked(charts: Sequence[Any], width: int) -> alt.VConcatChart:
    for chart in charts:
        # the parts of a whole must not have a configuration of their own
        chart.config = alt.Undefined
    return alt.vconcat(*(chart.properties(width=width) for chart in charts))
