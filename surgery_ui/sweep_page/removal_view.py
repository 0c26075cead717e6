"""One greedy removal on the page: its curve as it grows, any of its plans for the strip, its table and its files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from surgery_core.charts import layers as layer_charts
from surgery_core.charts import sheets
from surgery_core.errors import InputError
from surgery_core.sweeps.frames import figure
from surgery_core.sweeps.removal import Removal, removal_frame
from surgery_core.sweeps.request import RemovalRequest
from surgery_core.sweeps.rows import METRICS, SweepRow
from surgery_ui.parts import adoption, chart_specs, doubts, sweep_chart
from surgery_ui.parts import files as saved
from surgery_ui.parts.estimate import Estimate
from surgery_ui.parts.sweep_shelf import MAX_LAYERS
from surgery_ui.parts.tables import data_table
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.sweep_page import saving, view
from surgery_ui.words import present
from surgery_ui.words.sweeps import counted, removed
from surgery_ui.work.kinds import Lane

CHOSEN = "Which layer goes is chosen on these same texts, so on others it may cost a little more."
COLUMNS = {"layers_left": "Layers left", "removed": "Removed", "plan": "Plan"}


def steps_frame(entry: Entry) -> pd.DataFrame:
    """Return one line a step of a removal, as of `removal_frame`; a line of a file whose plan is none is left out."""
    found = (_step(row, entry.n_layers or MAX_LAYERS) for row in sorted(entry.rows, key=lambda row: row.number))
    return removal_frame([step for step in found if step is not None])


def _step(row: SweepRow, n_layers: int) -> Removal | None:
    try:
        return Removal.of(row, n_layers)
    except InputError:
        return None


def draw(entry: Entry, now: session.Experiment, estimate: Estimate) -> None:
    """Show one removal."""
    view.head(entry)
    view.trouble(entry, now, estimate)
    frame = steps_frame(entry)
    if frame.empty:
        return
    if entry.state != "running":
        view.say(removed(entry.rows, state.margin), f"{CHOSEN} {present.interval_help(state.margin)}")
    metrics = shown_metrics(frame)
    sweep_chart.log_switch("perplexity", list(frame["perplexity"]))
    plans = dict(zip(frame["number"], frame["plan"], strict=True))
    grid = st.container().grid(len(metrics), min_column_width=330)
    for metric in metrics:
        with grid.container():
            _curve(entry, frame, metric, plans, str(now.plan))
    st.caption("A label names the layer that went last.")
    if entry.state != "running":
        adoption.field("sweep", plans, _said(frame), "point")
    _below(entry, frame, metrics)


def shown_metrics(frame: pd.DataFrame) -> list[str]:
    """Return the figures of which a removal has a curve."""
    return ["perplexity", *(["skill_accuracy"] if frame["skill_accuracy"].notna().any() else [])]


def _curve(entry: Entry, frame: pd.DataFrame, metric: str, plans: dict[int, str], chosen: str) -> None:
    """Draw a figure against the layers left; a click takes a plan over."""
    dark, log = chart_specs.dark(), sweep_chart.log_of(metric)
    ends = entry.request.least if isinstance(entry.request, RemovalRequest) else None

    def make() -> object:
        return layer_charts.removal_curve(
            frame, metric, METRICS[metric], dark=dark, chosen=chosen, ends_at=ends, log=log
        )  # fmt: skip

    key = f"removal-{entry.number}-{metric}-{adoption.clicks()}"
    chart_specs.draw(
        entry.specs, f"removal-{metric}", (len(frame), chosen, dark, log), make, key=key,
        on_select=adoption.on_click("sweep", plans, key), alt=f"{METRICS[metric]} against layers left",
    )  # fmt: skip


def _said(frame: pd.DataFrame) -> dict[int, str]:
    """Return what each step is called, with its figure."""
    columns = (frame[name] for name in ("number", "layers_left", "removed", "perplexity"))
    return {
        int(number): f"{counted(left, 'layer')}{', without ' if gone else ''}{gone}: {figure(value, 'perplexity')}"
        for number, left, gone, value in zip(*columns, strict=True)
    }


def _below(entry: Entry, frame: pd.DataFrame, metrics: Sequence[str]) -> None:
    """Show what cannot be trusted, the table and the files."""
    doubts.show(entry.rows)
    with st.expander("Table", icon=":material/table_rows:"):
        data_table(_titled(frame), alt="All steps of the removal")
    theme = saved.palette()
    saving.save(entry, {kind: partial(curve_file, frame, metrics, kind, theme) for kind in saved.CHARTS})


def curve_file(frame: pd.DataFrame, metrics: Sequence[str], kind: str, theme: dict[str, Any]) -> bytes:
    """Return the removal curves as SVG, PNG or HTML with everything inside; light, as for a paper."""
    sheet = sheets.removal_sheet(frame, {name: METRICS[name] for name in metrics}, width=saved.WIDTH)
    return saved.rendered(sheet, kind, theme)


def _titled(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the steps as a person reads them: what is known, under names in words."""
    known = frame.drop(columns="number").dropna(axis="columns", how="all")
    return known.rename(columns=COLUMNS | METRICS)


REMOVALS = view.Board(Lane.SEARCH, draw, "No removal yet. Press Start to see how perplexity grows as layers go.")
