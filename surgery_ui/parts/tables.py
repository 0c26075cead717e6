"""One way to show a table: without an index, with a dash where there is no figure, and with words for who cannot see it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from surgery_ui.words.present import NOTHING


def data_table(rows: Any, *, alt: str, place: Any = None, **options: Any) -> Any:
    """Show a table and return what Streamlit's `dataframe` returns.

    Args:
        rows: whatever `st.dataframe` takes.
        alt: what the table is, for a screen reader.
        place: where it stands; None for here.
        options: of `st.dataframe`.
    """
    shown = st if place is None else place
    return shown.dataframe(rows, hide_index=True, placeholder=NOTHING, alt=alt, **options)
