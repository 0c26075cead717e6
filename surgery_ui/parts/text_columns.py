"""Columns with a text each; where there is no room for them side by side, as on a phone, they stand one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from surgery_ui.words import present

NARROWEST = 260
"""Of a column, in pixels."""
ABREAST = 3
"""Columns in a row at most."""


def text_columns(titles: Sequence[str]) -> list[Any]:
    """Return a container for each text, with its title above."""
    row = st.container().grid(min(ABREAST, len(titles)), min_column_width=NARROWEST)
    columns = [row.container(border=True, height="stretch") for _ in titles]
    for column, title in zip(columns, titles, strict=True):
        column.markdown(f"**{present.plain(title)}**")
    return columns
