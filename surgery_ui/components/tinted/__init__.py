"""A text coloured token by token: rust where the operated model finds a token harder, petrol where easier."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from surgery_core.charts.style import full_colour

MAX_TOKENS = 1_500
"""Most tokens that are drawn; a browser slows down with many thousands of coloured spans."""

_HERE = Path(__file__).parent
_mount = st.components.v2.component(
    "model_surgery_tinted",
    html=(_HERE / "tinted.html").read_text(encoding="utf-8"),
    css=(_HERE / "tinted.css").read_text(encoding="utf-8"),
    js=(_HERE / "tinted.js").read_text(encoding="utf-8"),
)


def tinted_text(frame: pd.DataFrame, key: str) -> None:
    """Show tokens (`token`, `loss_before`, `loss_after`) coloured by their change of loss. Shown as plain text."""
    shown = frame.head(MAX_TOKENS)
    losses = shown[["loss_before", "loss_after"]].astype(object)
    pairs = losses.where(losses.notna(), None).to_numpy().tolist()
    tokens = [[token, *pair] for token, pair in zip(shown["token"], pairs, strict=True)]
    _mount(key=key, data={"tokens": tokens, "full": full_colour(shown)})
