"""The sidebar: model, layer strip, tools, presets, notation, undo and the link. The same on every page."""

from __future__ import annotations

import streamlit as st

from surgery_core.errors import NotationError, PlanError, SurgeryError
from surgery_core.models import list_models
from surgery_core.plan import LayerPlan
from surgery_ui import present, session
from surgery_ui.link import copy_link
from surgery_ui.strip import KEY as STRIP
from surgery_ui.strip import layer_strip, read_edit
from surgery_ui.tools import tools


def sidebar() -> None:
    """Show the sidebar."""
    _model_picker()
    show_problem("address")
    now = session.experiment()
    if now is None:
        return
    _strip(now)
    _steps()
    tools(now)
    _notation()


def show_problem(control: str) -> None:
    """Show what is wrong beside a control, if anything is."""
    error = session.problem(control)
    if error is not None:
        st.error(present.plain(str(error)))


def _model_picker() -> None:
    state = st.session_state
    choices = {choice.name: choice.title for choice in list_models()}
    current = state.get("loaded_name")
    if current is not None:
        choices.setdefault(current, current)
    state["picker"] = current
    st.selectbox(
        "Model",
        list(choices),
        key="picker",
        format_func=lambda name: choices.get(name, name),
        accept_new_options=True,
        placeholder="Choose, or type a hub id",
        help="Models in the models folder are listed. You can also type a Hugging Face id such as org/name.",
        on_change=lambda: session.choose_model(state["picker"]),
    )
    show_problem("model")
    now = session.experiment()
    if now is not None:
        st.caption(present.facts(now.loaded.info))


def _strip(now: session.Experiment) -> None:
    st.session_state.setdefault("edit", 0)
    layer_strip(now.plan, st.session_state["edit"], _take_edit)
    show_problem("strip")


def _take_edit() -> None:
    """Validate and adopt what the strip sent."""
    state = st.session_state
    try:
        plan, state["edit"] = read_edit(state[STRIP].get("edit"), session.history().plan.n_layers)
    except SurgeryError as error:
        return session.set_problem("strip", error)
    session.change("strip", lambda _: plan)


def _steps() -> None:
    history = session.history()
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        st.button("", icon=":material/undo:", help="Undo", key="undo", on_click=session.undo, disabled=not history.past)
        st.button(
            "", icon=":material/redo:", help="Redo", key="redo", on_click=session.redo, disabled=not history.undone
        )
        st.button("Reset", key="reset", on_click=session.reset, disabled=history.plan.is_identity)
        copy_link(session.address().parameters())


def _notation() -> None:
    st.text_input(
        "Notation",
        key="notation",
        on_change=_take_notation,
        help=NOTATION_HELP,
    )
    error = session.problem("notation")
    if isinstance(error, NotationError):
        st.code(error.pointer(), language=None)
        st.error(present.plain(error.reason[:1].upper() + error.reason[1:]))
    else:
        show_problem("notation")


def _take_notation() -> None:
    typed = st.session_state["notation"]

    def edit(plan: LayerPlan) -> LayerPlan:
        if len(typed) > MAX_NOTATION:
            raise PlanError(f"The notation is {len(typed):,} characters long; at most {MAX_NOTATION:,} are read.")
        return LayerPlan.parse(typed, plan.n_layers)

    session.change("notation", edit)


MAX_NOTATION = 20_000
NOTATION_HELP = """
The layers in the order in which they run. A layer that is not named is deleted.

| written | means |
| --- | --- |
| `0-4,6,5,7-11` | a new order |
| `7-3` | layers 7 to 3, backwards |
| `5x3`, `(4-6)x2` | repeated |
| `7.attn`, `7.mlp` | only one half of layer 7 |
| `7*0.5` | its contribution scaled |
| `(4\\|5)` | both read the same input |
| `mean(7)` | replaced by its mean contribution |
| `other:7` | layer 7 of another open model |
"""
