"""The perplexity table: a line a text, its ratio coloured on both sides of ×1, each opening its text below."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from surgery_ui.parts import waiting
from surgery_ui.parts.tables import data_table
from surgery_ui.session import session
from surgery_ui.session.state import State, state

MOST_ROWS = 16
"""Rows of the table that are shown at once."""
KEY = "scores"
"""Key of the table, by how many jobs' lines it has."""
TINTS = ("31, 111, 139", "180, 83, 42")
"""Petrol and rust, for a ratio below and above ×1."""
DEEPEST = 0.5
"""How opaque the strongest colour is; on either theme's paper the figures can be read on it."""
RATIOS = ("ratio_cut", "ratio")
LEAST = math.log(1.1)
"""Change of the loss in nats that the strongest colour stands for at least, so that a trifle stays pale."""


def show_table(place: Any, frame: pd.DataFrame, opens: Sequence[int], drawn: int) -> Any:
    """Draw the table and return its element.

    Args:
        place: what it replaces.
        frame: the lines of a score table, of a comparison, or of one beside that of the plain cut (`suture.sides.by_text`).
        opens: by line, the number of its text among those that can be looked at below; empty where none can.
        drawn: how many jobs are done, which tells two tables of one run apart.
    """
    if "ratio" not in frame:
        return _draw(place, frame[list(_ALONE)], _ALONE)
    key = f"{KEY}-{drawn}"
    picks: dict[str, Any] = {}
    if opens:
        picks = {"key": key, "on_select": lambda: _open(key, opens), "selection_mode": "single-row"}
    columns = _STITCHED if "ratio_cut" in frame else _COMPARED
    # an infinite ratio has no place on a scale
    ratios = {name: frame[name].where(frame[name].abs() < math.inf) for name in RATIOS if name in frame}
    words = frame["verdict"].where(frame["verdict"] != "too few to say", "–")
    shown = frame.assign(**ratios, top1=100 * frame["top1"], verdict=words)[list(columns)]
    return _draw(place, tinted(shown), columns, **picks)


def tinted(frame: pd.DataFrame) -> Any:
    """Return the lines with their ratios coloured: rust above ×1, petrol below, pale near it."""
    there: list[Hashable] = [name for name in RATIOS if name in frame]
    full = max([LEAST, *(abs(math.log(ratio)) for name in there for ratio in frame[name] if ratio > 0)])
    styled = frame.style.map(lambda ratio: ratio_tint(ratio, full), subset=there)
    return styled.format({name: how for name, how in _WRITTEN.items() if name in frame}, na_rep="")


def ratio_tint(ratio: float, full: float) -> str:
    """Return the colour of a cell, as CSS; empty where there is nothing to tell apart.

    Args:
        ratio: perplexity after over before.
        full: the absolute logarithm of the ratio that gets the strongest colour.
    """
    if math.isnan(ratio) or ratio <= 0:
        return ""
    strength = min(1.0, abs(math.log(ratio)) / full)
    return f"background-color: rgba({TINTS[ratio > 1]}, {DEEPEST * strength:.3f})" if strength > 0 else ""


def _draw(place: Any, lines: Any, columns: dict[str, Any], **picks: Any) -> Any:
    n_rows = len(lines.index)
    return data_table(
        lines,
        height="content" if n_rows <= MOST_ROWS else waiting.table_height(MOST_ROWS),
        column_config=columns,
        place=place,
        alt="Perplexity of every text, before and after",
        **picks,
    )


def _open(key: str, opens: Sequence[int]) -> None:
    """Look at the text of the line that was ticked."""
    session.touch()
    rows = st.session_state[key]["selection"]["rows"]
    if rows and rows[0] < len(opens):
        st.session_state[State.detail.key] = opens[rows[0]]
        state.opened += 1


_NUMBER = st.column_config.NumberColumn
_ALONE: dict[str, Any] = {
    "title": "Text",
    "tokens": _NUMBER("Tokens", width="small", format="localized"),
    "perplexity": _NUMBER("Perplexity", width="small", format="%.2f"),
    "bits_per_byte": _NUMBER("Bits per byte", format="%.3f"),
}
_COMPARED: dict[str, Any] = {
    "title": "Text",
    "tokens": _NUMBER("Tokens", width="small", format="localized"),
    "perplexity_before": _NUMBER("Before", width="small", format="%.2f", help="Perplexity of the unchanged model."),
    "perplexity_after": _NUMBER("After", width="small", format="%.2f", help="Perplexity after surgery."),
    "ratio": _NUMBER(
        "Ratio", width="small", format="×%.2f",
        help="Perplexity after over before. Rust where the text became harder, petrol where easier, pale near ×1.",
    ),
    "kl": _NUMBER("KL, nats", width="small", format="%.3f", help="Mean KL(base || operated) over the tokens."),
    "top1": _NUMBER("Top-1 kept", format="%.1f%%", help="How often both models think the same token likeliest."),
    "verdict": st.column_config.TextColumn(
        "Verdict", width=140, help="Over runs of 16 tokens of this text. “–” where the text is too short to say."
    ),
}  # fmt: skip
_RATIO = "Perplexity over that before. Rust where the text became harder, petrol where easier, pale near ×1."
_STITCHED: dict[str, Any] = {
    "title": "Text",
    "tokens": _COMPARED["tokens"],
    "perplexity_before": _COMPARED["perplexity_before"],
    "perplexity_cut": _NUMBER("Cut", width="small", format="%.2f", help="Perplexity of the plan without its stitches."),
    "perplexity_after": _NUMBER("Stitched", width="small", format="%.2f", help="Perplexity of the plan with them."),
    "ratio_cut": _NUMBER("Ratio cut", width=84, format="×%.2f", help=_RATIO),
    "ratio": _NUMBER("Ratio stitched", width=108, format="×%.2f", help=_RATIO),
    "kl": _COMPARED["kl"],
    "top1": _COMPARED["top1"],
    "verdict": st.column_config.TextColumn(
        "Verdict", width=140,
        help="The stitched plan against before, over runs of 16 tokens of this text. “–” where the text is too short to say.",
    ),
}  # fmt: skip
_WRITTEN: dict[Any, Any] = {
    "tokens": "{:,.0f}", "perplexity_before": "{:.2f}", "perplexity_cut": "{:.2f}", "perplexity_after": "{:.2f}",
    "ratio_cut": "×{:.2f}", "ratio": "×{:.2f}", "kl": "{:.3f}", "top1": "{:.1f}%",
}  # fmt: skip
