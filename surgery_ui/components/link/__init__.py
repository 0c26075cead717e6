"""Buttons that copy: a link to the present plan on the present model, or a text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

import streamlit as st

_HERE = Path(__file__).parent
_mount = st.components.v2.component(
    "model_surgery_link",
    html=(_HERE / "link.html").read_text(encoding="utf-8"),
    css=(_HERE / "link.css").read_text(encoding="utf-8"),
    js=(_HERE / "link.js").read_text(encoding="utf-8"),
)


def copy_link(parameters: Mapping[str, str]) -> None:
    """Show the button that copies a link. The browser puts its own address in front of the parameters."""
    _mount(key="link", data={"label": "Copy link", "done": "Link copied", "query": urlencode(parameters)})


def copy_text(label: str, text: str, *, key: str) -> None:
    """Show a button that copies a text."""
    _mount(key=key, data={"label": label, "done": "Copied", "text": text})
