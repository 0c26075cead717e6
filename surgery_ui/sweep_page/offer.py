"""What can be kept of what the open tab shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd

from surgery_core.charts import layers as layer_charts
from surgery_core.charts import sheets
from surgery_core.sweeps.file import model_name
from surgery_core.sweeps.request import SweepRequest
from surgery_core.sweeps.rows import METRICS
from surgery_core.sweeps.rows import frame as rows_frame
from surgery_ui.parts import asked_sweep, keeping, sweep_chart, sweep_shelf
from surgery_ui.parts.files import WIDTH
from surgery_ui.session import session
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.sweep_page import importance_view, removal_view, saving
from surgery_ui.work.kinds import Lane


def offer(now: session.Experiment) -> None:
    """Offer the sweep that is shown as a script and in a report, and what there is as tables and charts."""
    entry = sweep_shelf.shown(asked_sweep.open_lane())
    asked = entry.request if entry is not None and isinstance(entry.request, SweepRequest) else None
    mine = entry is not None and entry.state == "finished" and entry.model == model_name(now.loaded.info)
    keeping.offer_script(now, "sweep", sweep=asked, rows=entry.rows if entry is not None and mine else ())
    if entry is not None and entry.result is not None and keeping.wants_results():
        table = _table(entry)
        keeping.offer_results({entry.name: table}, _charts(entry, table))


def _table(entry: Entry) -> pd.DataFrame:
    if entry.importance is not None:
        return entry.importance.frame()
    return removal_view.steps_frame(entry) if entry.lane is Lane.SEARCH else rows_frame(entry.rows)


def _charts(entry: Entry, table: pd.DataFrame) -> dict[str, Callable[[str], bytes]]:
    """Return what makes the files of each chart, by its title."""
    if (read := entry.importance) is not None:
        drawn: dict[str, Callable[[], Any]] = {
            title: partial(layer_charts.layer_bars, table, column, title)
            for column, title in importance_view.ESTIMATES.items()
        }
        drawn["Similarity of the residual stream"] = lambda: layer_charts.similarity_map(read.similarities())
        drawn["Angular distance of blocks"] = lambda: layer_charts.block_map(read.blocks(), list(read.labels))
        return {title: keeping.chart_file(partial(_titled, make, title)) for title, make in drawn.items()}
    if entry.lane is Lane.SEARCH:
        if table.empty:
            return {}
        names = {name: METRICS[name] for name in removal_view.shown_metrics(table)}
        return {entry.name: keeping.chart_file(partial(sheets.removal_sheet, table, names, width=WIDTH))}
    return {
        METRICS[metric]: keeping.chart_file(partial(saving.drawn, entry, metric))
        for metric in sweep_chart.known_metrics([entry])
    }


def _titled(make: Callable[[], Any], title: str) -> Any:
    """Return a chart whose title stands above it on the page, with that title in it."""
    return make().properties(title=title, width=WIDTH)
