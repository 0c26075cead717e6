"""What is said of measured plans whose figures are no numbers, or are not known to be right."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from surgery_core.sweeps.rows import SweepRow
from surgery_ui.parts.tables import data_table
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words

MOST = 200
"""Plans that are listed at most."""


def show(rows: Sequence[SweepRow]) -> None:
    """Say which rows have figures that are no numbers, or that are not known to be right."""
    for title, said in (
        ("no numbers", [(row, row.not_finite) for row in rows if row.not_finite]),
        ("not proved: their figures may be wrong", [(row, row.unproved) for row in rows if row.unproved]),
    ):
        if said:
            st.warning(f"{sweep_words.counted(len(said), 'plan')} {title}. {present.plain(said[0][1])}")
            with st.expander("Which plans, and why", icon=":material/warning:"):
                lines = [{"Plan": row.plan, "Why": why} for row, why in said[:MOST]]
                data_table(lines, height="content", alt="Plans whose figures cannot be trusted")
