"""A sweep as files: its rows as CSV and JSON, its chart as SVG, PNG and a page of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from surgery_core.charts.sweep_marks import Sheet
from surgery_core.charts.sweeps import sweep_chart
from surgery_core.sweeps.frames import sweep_frame
from surgery_core.sweeps.rows import METRICS
from surgery_ui.parts.files import CHARTS, WIDTH, buttons, palette, rendered, stem

if TYPE_CHECKING:
    from surgery_ui.session.sweep_entry import Entry


def save(entry: Entry, drawn: Mapping[str, Any]) -> None:
    """Show the buttons that save a sweep.

    Args:
        entry: the sweep.
        drawn: of its charts, by the kind of file: what makes them.
    """
    result = entry.result
    if result is not None:
        buttons(stem(entry.name), {"csv": result.to_csv, "json": result.to_json, **drawn}, "save")


def charts(entry: Entry, metric: str) -> dict[str, Any]:
    """Return what makes each file of a sweep's chart."""
    theme = palette()
    return {kind: partial(chart_file, entry, metric, kind, theme) for kind in CHARTS}


def chart_file(entry: Entry, metric: str, kind: str, theme: dict[str, Any]) -> bytes:
    """Return a sweep's chart as SVG, PNG or HTML with everything inside; light, as for a paper."""
    return rendered(drawn(entry, metric), kind, theme)


def drawn(entry: Entry, metric: str) -> Any:
    """Return a sweep's chart as it is saved."""
    frame = sweep_frame(entry.kind, entry.labels, entry.planned, entry.rows, metric)
    first = entry.first
    value = float(getattr(first, metric)) if first is not None else None
    sheet = Sheet(metric, METRICS[metric], entry.kind.x_title, entry.kind.y_title, value, pick=None, title=entry.name)
    chart = sweep_chart(entry.kind.form, frame, sheet)
    # maps side by side have widths of their own
    return chart if entry.kind.form == "maps" else chart.properties(width=WIDTH)
