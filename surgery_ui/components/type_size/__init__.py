"""How large the type of all pages is. Streamlit has a setting for that, but none that one person could change."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_mount = st.components.v2.component(
    "model_surgery_type_size",
    html="<div></div>",
    js=Path(__file__).with_name("type_size.js").read_text(encoding="utf-8"),
)


def type_size(times: float) -> None:
    """Show everything in type that is so many times as large as usual; the component itself shows nothing."""
    _mount(key="type-size", data={"times": times}, height=1)
