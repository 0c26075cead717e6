"""A text coloured token by token: rust where the operated model finds a token harder, petrol where easier."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

MAX_TOKENS = 1_500
"""Most tokens that are drawn; a browser slows down with many thousands of coloured spans."""
SCALES = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Changes of loss, in nats, that the full colour may stand for; the smallest that covers most tokens is taken."""

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


def full_colour(frame: pd.DataFrame) -> float:
    """Return the change of loss in nats that gets the full colour: 19 of 20 tokens lie within it."""
    changes = (frame["loss_after"] - frame["loss_before"]).abs().dropna()
    most = float(changes.quantile(0.95)) if len(changes) else 0.0
    return next((scale for scale in SCALES if scale >= most), SCALES[-1])
