"""Facts about the open model, and the list of models that can be opened."""

from __future__ import annotations

import streamlit as st

from surgery_core.models import ModelChoice, ModelInfo, list_models
from surgery_ui import present, session


def facts_table(info: ModelInfo) -> None:
    """Show the facts of a model in two columns."""
    rows = list(present.fact_rows(info).items())
    half = (len(rows) + 1) // 2
    for column, part in zip(st.columns(2, gap="medium"), (rows[:half], rows[half:]), strict=True):
        column.table(dict(part), border="horizontal", hide_header=True)


def choices_table(info: ModelInfo) -> None:
    """Show every model that lies ready, with a button that opens it."""
    for choice in list_models():
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            with st.container(gap=None):
                st.markdown(f"**{present.plain(choice.title)}**")
                st.caption(_line(choice))
            is_open = choice.name == info.name
            st.button(
                "Open" if not is_open else "In use",
                key=f"open-{choice.name}",
                disabled=is_open or choice.n_layers is None,
                on_click=session.choose_model,
                args=(choice.name,),
            )


def _line(choice: ModelChoice) -> str:
    where = {"bundled": "in the models folder", "folder": "in a folder of yours"}[choice.kind]
    if choice.n_layers is None or choice.n_parameters is None:
        return f"{present.plain(choice.name)}, {where}; its config or weights cannot be read"
    return (
        f"{present.plain(choice.name)}, {where}, {choice.n_layers} layers, "
        f"{present.count(choice.n_parameters)} parameters"
    )
