"""One token in detail: its ten likeliest next tokens at a layer, and a statistic over all layers."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from surgery_core.charts import lens_lines as lens_line_charts
from surgery_core.charts import style as charts
from surgery_core.lenses.metrics import Metric
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.recipes.swap_choice import Side
from surgery_core.text import visible
from surgery_ui.parts import chart_specs
from surgery_ui.parts.choices import segments
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.words import present

SIDE, LAYER, AT = "cell-side", "cell-layer", "cell-token"
"""Keys of the fields that choose a cell."""
TITLES = {"before": "Before", "after": "After"}
TOKEN, TEXT = "This token", "Mean of the text"


def choose_cell(side: str, label: str, position: int) -> None:
    """Choose the cell of a side at the row with this label and at a token, counted from the first that is read."""
    state.cell = (side, label, position)


@dataclass(frozen=True)
class Chosen:
    """The cell that is looked at.

    Attributes:
        side: `"before"` or `"after"`.
        label, row: the row's label and number.
        position: of the token, counted from the first that is read.
        clicked: whether a person chose it; at first it is the last layer at the last token shown.
    """

    side: Side
    label: str
    row: int
    position: int
    clicked: bool


def chosen_cell(sides: dict[str, Trajectory], shown: range) -> Chosen:
    """Return the chosen cell.

    A cell goes by its layer's name, so that it stays where it is when rows inside the layers come and go.
    """
    side, label, position = state.cell
    of: Side = "after" if side == "after" and "after" in sides else "before"
    labels, there = sides[of].labels, label in sides[of].labels and 0 <= position < len(sides[of].tokens)
    row = labels.index(label) if label in labels else len(labels) - 1
    if not 0 <= position < len(sides[of].tokens):
        position = shown[-1]
    return Chosen(of, labels[row], row, position, there)


def show_cell(sides: dict[str, Trajectory], metric: Metric, shown: range) -> None:
    """Show the chosen cell on both sides and its token's trajectory."""
    cell = chosen_cell(sides, shown)
    side, row, position = cell.side, cell.row, cell.position
    trajectory = sides[side]
    tops, lines = st.columns([1, 1], gap="large")
    with tops:
        st.subheader("Ten likeliest next tokens", anchor=False)
        _pick(sides, side, row, position, shown)
        _top_ten(sides, trajectory, row, position)
    with lines:
        _lines(sides, metric, position)


def _pick(sides: dict[str, Trajectory], side: str, row: int, position: int, shown: range) -> None:
    """Show the chosen cell as fields, by which it can be chosen without a mouse."""
    shown_fields, trajectory = st.session_state, sides[side]
    positions = sorted({*shown, position})
    shown_fields[LAYER], shown_fields[AT] = trajectory.labels[row], position
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        if len(sides) > 1:
            shown_fields[SIDE] = side
            st.selectbox("Map", list(sides), key=SIDE, format_func=TITLES.__getitem__, width=110, on_change=_take)
        st.selectbox("Cell: layer", list(trajectory.labels)[::-1], key=LAYER, width=130, on_change=_take)
        st.selectbox(
            "Token", positions, key=AT, width=190, on_change=_take,
            format_func=lambda at: f"{trajectory.start + at}: {visible(trajectory.tokens[at])}",
        )  # fmt: skip


def _take() -> None:
    session.touch()
    chosen = st.session_state
    choose_cell(chosen.get(SIDE, "before"), chosen[LAYER], chosen[AT])


def _top_ten(sides: dict[str, Trajectory], chosen: Trajectory, row: int, position: int) -> None:
    token = present.plain(visible(chosen.tokens[position]))
    label = present.plain(chosen.labels[row])
    st.caption(
        f"After {label}, having read up to token {chosen.start + position}, “{token}”. Click a cell, or choose one here."
    )
    tops = {name: _top(other, chosen, row, position) for name, other in sides.items()}
    most = max(1e-9, *(frame["probability"].fillna(0.0).max() for frame in tops.values() if frame is not None))
    for column, (name, frame) in zip(st.columns(len(tops)), tops.items(), strict=True):
        if len(tops) > 1:
            column.markdown(f"**{TITLES[name]}**")
        if frame is None:
            column.caption(f"{label} does not run here.")
        else:
            dark = bool(st.context.theme.type == "dark")
            colour = TITLES[name] if len(tops) > 1 else "After"
            chart = charts.top_tokens(frame, most=float(most), dark=dark, side=colour)
            chart_specs.show(chart, place=column, alt=f"Ten likeliest tokens {name} surgery", key=f"top-{name}")


def _top(side: Trajectory, chosen: Trajectory, row: int, position: int) -> pd.DataFrame | None:
    """Return a side's top tokens where the chosen one's row is; last rows, the models' outputs, go together."""
    if side is chosen:
        return side.top(row, position)
    if row == len(chosen.labels) - 1:
        return side.top(len(side.labels) - 1, position)
    origin = chosen.origins[row]
    return side.top(side.origins.index(origin), position) if origin in side.origins else None


def _lines(sides: dict[str, Trajectory], metric: Metric, position: int) -> None:
    st.subheader("Over the layers", anchor=False)
    whole = segments("Of", [TOKEN, TEXT], "lens-lines", label_visibility="collapsed") == TEXT
    frames = [
        _values(read, metric.name, None if whole else position).assign(side=TITLES[side])
        for side, read in sides.items()
        if metric.name in read.statistics
    ]
    frame = pd.concat(frames, ignore_index=True).dropna(subset=["value"])
    st.caption(_settled(sides, None if whole else position))
    if frame.empty:
        st.caption("The last token of the text has no next one to compare with; click another.")
    else:
        chart = lens_line_charts.layer_lines(frame, metric.name)
        chart_specs.show(chart, alt=f"{metric.title} after each layer", key="lens-trajectory")


def _values(read: Trajectory, name: str, position: int | None) -> pd.DataFrame:
    """Return row, layer and value of one token, or of the text's mean."""
    if position is None:
        return read.averages().rename(columns={name: "value"})[["row", "layer", "value"]]
    frame = read.frame()
    return frame[frame["position"] == position].rename(columns={name: "value"})[["row", "layer", "value"]]


def _settled(sides: dict[str, Trajectory], position: int | None) -> str:
    """Return in words the prediction depth: the row from which on the likeliest token stays what it ends as."""
    if position is None:
        rows = {side: len(read.labels) - 1 for side, read in sides.items()}
        halves = any(label.endswith(" mid") for label in sides["before"].labels)
        parts = [f"{read.mean_depth:.1f} of {rows[side]}{_when(sides, side)}" for side, read in sides.items()]
        return f"Mean prediction depth, in {'half layers' if halves else 'layers'}: {', '.join(parts)}."
    parts = [
        f"from {present.plain(read.labels[int(read.prediction_depth()[position])])} on{_when(sides, side)}"
        for side, read in sides.items()
    ]
    return f"Prediction depth: the likeliest token stays the same {', '.join(parts)}."


def _when(sides: dict[str, Trajectory], side: str) -> str:
    return f" {side} surgery" if len(sides) > 1 else ""
