"""The plans that stand side by side: keep the present one, rename, use, remove."""

from __future__ import annotations

from base64 import b64encode

import pandas as pd
import streamlit as st

from surgery_core.charts.plan_strip import plan_strip
from surgery_core.plans.plan import LayerPlan
from surgery_ui.parts import adoption
from surgery_ui.parts.chart_specs import dark
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.tables import data_table
from surgery_ui.parts.tray import PROBLEM, keep_button
from surgery_ui.session import session, tray

CHOSEN, NAME = "tray-chosen", "tray-name"
WIDTH, COLUMN = 130, 208
"""Pixels of a picture, and of its column: a table draws it as high as a row, 1.4 times its size."""


def shelf(now: session.Experiment) -> None:
    """Show the plans as a table of pictures, and what can be done with each."""
    found = tray.kept()
    rows = [{"picture": _picture(one.plan), "name": one.name, "plan": str(one.plan) or "(no layers)"} for one in found]
    image, text = st.column_config.ImageColumn, st.column_config.TextColumn
    data_table(
        pd.DataFrame(rows), height="content", alt="The plans side by side",
        column_config={
            "picture": image("Layers", width=COLUMN), "name": text("Name", width="medium"), "plan": text("Plan"),
        },
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        name = st.selectbox(
            "Plan", [one.name for one in found], key=CHOSEN, width=260, on_change=session.touch, persist_state="session"
        )
        chosen = next(one for one in found if one.name == (name or found[0].name))
        st.button(
            "Use it", key="tray-use", icon=":material/content_cut:", on_click=adoption.take,
            args=(PROBLEM, str(chosen.plan)), disabled=chosen.plan == now.plan, help="Puts it into the strip.",
        )  # fmt: skip
        with st.popover("Rename", icon=":material/edit:"), st.form("tray-rename", border=False):
            st.text_input("New name", key=NAME, max_chars=tray.MAX_NAME, placeholder=chosen.name)
            st.form_submit_button("Rename it", on_click=_rename, args=(chosen.name,))
        st.button(
            "Remove", key="tray-remove", icon=":material/close:", on_click=_remove, args=(chosen.name,),
            help="Takes it off this page; the plan in the strip stays.",
        )  # fmt: skip
        keep_button(now, key="tray-keep-here")
    show_problem(PROBLEM)


def empty(now: session.Experiment) -> None:
    """Say what the page is for where nothing is kept yet."""
    st.info(
        "Nothing stands here yet. Change the plan in the sidebar and press **Compare** above it; do it again with another "
        "plan, and both stand side by side, with their figures, texts, layers and skills.",
        icon=":material/view_column:",
    )
    keep_button(now, key="tray-keep-here")


def _rename(name: str) -> None:
    session.touch()
    new = tray.clean(str(st.session_state[NAME] or ""))
    if new:
        tray.rename(name, new)
        st.session_state[CHOSEN] = new if any(one.name == new for one in tray.kept()) else None
    st.session_state[NAME] = ""


def _remove(name: str) -> None:
    tray.remove(name)
    st.session_state.pop(CHOSEN, None)


def _picture(plan: LayerPlan) -> str:
    drawn = plan_strip(plan, dark=dark(), width=WIDTH)
    return f"data:image/svg+xml;base64,{b64encode(drawn.encode()).decode()}"
