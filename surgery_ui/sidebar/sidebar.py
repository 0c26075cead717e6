"""The sidebar: model, layer strip, tools, presets, notation, undo and the link. The same on every page."""

from __future__ import annotations

import streamlit as st

from surgery_core.errors import NotationError, PlanError, SurgeryError
from surgery_core.plans.cuts import stitched
from surgery_core.plans.labels import slot_labels
from surgery_core.plans.plan import LayerPlan
from surgery_ui.components.link import copy_link
from surgery_ui.components.strip import layer_strip, looked_at, read_edit, sent_edit, wants_stitches
from surgery_ui.components.tab import browser_tab, new_steps, sent
from surgery_ui.parts import sweep_shelf
from surgery_ui.parts.places import go_to
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.tray import keep_button
from surgery_ui.session import echo, recalling, session, switching
from surgery_ui.session.memory import is_token
from surgery_ui.session.state import State, state
from surgery_ui.sidebar.keep import keep
from surgery_ui.sidebar.tools import tools
from surgery_ui.words import labels, present
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.healed import HEALED
from surgery_ui.work.limits import limits


def sidebar() -> None:
    """Show the sidebar."""
    with st.container(gap=None):  # the component has no height, and shall not have a gap either
        browser_tab(state.tab_token is not None, _take_token, _take_steps)
        _take_known_token()
        with st.container():
            _model_picker()
    _left()
    _refused()
    if state.comment:
        st.info(present.plain(state.comment), icon=":material/chat_bubble:")
    show_problem("address")
    now = session.experiment()
    if now is None:
        return
    _strip(now)
    _steps(now)
    tools(now)
    _notation()


def model_labels() -> dict[str, str]:
    """Return what each model that can be chosen is called, by its name; no two alike."""
    titles = {choice.name: choice.title for choice in cached.choices()}
    if State.owner.is_set:
        titles |= {one.name: one.title for one in HEALED.of(state.owner)}
    return labels.unique(titles, {name: name for name in titles})


def _take_token() -> None:
    recalling.recall(sent("token"))


def _take_known_token() -> None:
    """Take the token of a browser that has shown it before: to a server that was started anew it is no change."""
    if state.tab_token is None and is_token(sent("token")):
        _take_token()
        st.rerun()


def _take_steps() -> None:
    """Undo and redo as the keyboard asked for."""
    steps, state.steps_seen = new_steps(sent("steps"), state.steps_seen)
    for step in steps if session.experiment() is not None else ():
        session.undo() if step == "undo" else session.redo()


def _model_picker() -> None:
    choices = model_labels()
    current, others = state.loaded_name, _others()
    if current is not None:
        choices.setdefault(current, current)
    echo.put(State.picker.key, current)
    st.selectbox(
        "Model",
        list(choices),
        key=State.picker.key,
        format_func=lambda name: choices.get(name, name),
        accept_new_options=bool(others),
        placeholder=f"Choose, or type a {others}" if others else "Choose a model",
        help=_explained(others),
        on_change=_take_model,
    )
    echo.drawn(State.picker.key)
    show_problem("model")
    now = session.experiment()
    if now is not None:
        st.caption(present.facts(now.loaded.info))


def _others() -> str:
    """Return what can be typed where a model is chosen: an id on the hub, a path, or nothing."""
    allowed = limits()
    if allowed.allowed:
        return ""
    return " or a ".join(["hub id"] * allowed.hub + ["path"] * allowed.paths)


def _explained(others: str) -> str:
    typed = {
        "hub id": "You can also type a Hugging Face id such as org/name, or org/name:file.gguf.",
        "path": "You can also type the path of a model on the server.",
        "hub id or a path": "You can also type a Hugging Face id such as org/name, or a path on the server.",
    }.get(others, "")
    return f"Models in the models folder are listed. {typed} An adapter opens with its base model.".replace("  ", " ")


def _take_model() -> None:
    if not echo.is_echo(State.picker.key):
        switching.choose(state.picker)


def _left() -> None:
    """Say what became of the plan when another model was opened, and offer the way back."""
    before, now = switching.left(), session.experiment()
    if before is None or now is None:
        return
    named = model_labels().get(before.name, before.title)
    here = "with its own plan" if not now.plan.is_identity else "unchanged"
    st.caption(present.plain(f"This model is open {here}. The plan and undo steps of {named} are kept."))
    with st.container(horizontal=True, gap="xsmall"):
        st.button(
            present.plain(f"Back to {named}"), key="back-to-model", icon=":material/undo:",
            on_click=switching.choose, args=(before.name,),
        )  # fmt: skip
        if before.history.plan != now.plan and before.fits(now.plan.n_layers):
            st.button(
                "Use its plan here", key="take-along", on_click=session.take_along,
                help=present.plain(str(before.history.plan) or "no layers"),
            )  # fmt: skip


def _refused() -> None:
    """Show a link's plan that was not applied, because the link's model is not open."""
    found, now = switching.refused(), session.experiment()
    if found is None:
        return
    said = f"The link's plan is for “{found.model:.200}”, which could not be opened, so it was not applied"
    st.warning(present.plain(f"{said}{f' to {now.loaded.info.title}' if now is not None else ''}. It reads:"))
    st.code(found.plan or "(no layers)", language=None, wrap_lines=True)
    with st.container(horizontal=True, gap="xsmall"):
        if now is not None:
            st.button("Use it here", key="use-refused", on_click=session.use_refused)
        st.button("Dismiss", key="dismiss-refused", type="tertiary", on_click=session.dismiss_refused)
    show_problem("refused")


def _strip(now: session.Experiment) -> None:
    adapter = now.loaded.info.adapter
    layers = () if adapter is None else adapter.layers
    layer_strip(now.plan, state.strip_edit, _take_edit, _take_look, _take_seam, layers, _damage(now))
    show_problem("strip")


def _damage(now: session.Experiment) -> dict[int, tuple[float, str]]:
    """Return what deleting each layer cost in the newest sweep that tried it, for the chips."""
    changes = sweep_shelf.deletion_costs(now)
    return {layer: (labels.strength(change), labels.cost(change)) for layer, change in changes.items()}


def _take_edit() -> None:
    """Validate and adopt what the strip sent."""
    try:
        plan, state.strip_edit = read_edit(sent_edit(), session.history().plan.n_layers)
    except SurgeryError as error:
        return session.set_problem("strip", error)
    session.change("strip", lambda _: plan)


def _take_look() -> None:
    """Show the row of a layer on the Lens page."""
    plan = session.history().plan
    if (at := looked_at(plan)) is not None:
        state.cell = ("after", slot_labels(plan)[at], -1)
        go_to("lens")


def _take_seam() -> None:
    """Stitch the plan's cuts, or take its stitches out, as the switch in the tray says."""
    if (wanted := wants_stitches()) is not None:
        session.change("strip", stitched if wanted else lambda plan: plan.unstitched)


def _steps(now: session.Experiment) -> None:
    history = session.history()
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        st.button("", icon=":material/undo:", help="Undo", key="undo", on_click=session.undo, disabled=not history.past)
        st.button(
            "", icon=":material/redo:", help="Redo", key="redo", on_click=session.redo, disabled=not history.undone
        )
        st.button("Reset", key="reset", on_click=session.reset, disabled=history.plan.is_identity)
        keep_button(now, key="tray-keep")
    with st.container(horizontal=True, gap="xsmall"):
        with st.container():
            link = session.link()
            copy_link(link.parameters())
        with st.container():
            keep(now)
    if state.text_set in state.own_sets:
        st.caption("The link finds your set of texts on this server only. A recipe, under Keep, has it.")
    if link.left_out:
        st.caption(
            f"Too long for a link: {' and '.join(LONG[name] for name in link.left_out)}. A recipe, under Keep, has it."
        )


def _notation() -> None:
    if not State.notation.is_set:
        # a run that went on to another page has not drawn the field, and Streamlit has let go of its text
        echo.put(State.notation.key, str(session.history().plan))
    st.text_input(
        "Notation",
        # A browser that draws the field late begins with this, and must not send back an empty text instead.
        state.notation,
        key=State.notation.key,
        on_change=_take_notation,
    )
    echo.drawn(State.notation.key)
    error = session.problem("notation")
    if isinstance(error, NotationError):
        st.code(error.pointer(), language=None)
        st.error(present.plain(error.reason[:1].upper() + error.reason[1:]))
    else:
        show_problem("notation")
    with st.container(horizontal=True, gap="xsmall"):
        with st.popover("How to write it", type="tertiary", key="notation-help"):
            st.markdown(NOTATION_HELP)
        with st.popover("Keys", type="tertiary", key="keys-help"):
            st.markdown(KEYS_HELP)


def _take_notation() -> None:
    """Adopt the plan that was typed. An empty field is no plan: it is cleared too easily for deleting every layer."""
    if echo.is_echo(State.notation.key):
        state.notation = str(session.history().plan)
        return
    typed = state.notation

    def edit(plan: LayerPlan) -> LayerPlan:
        if len(typed) > MAX_NOTATION:
            raise PlanError(f"The notation is {len(typed):,} characters long; at most {MAX_NOTATION:,} are read.")
        if not typed.strip() and len(plan):
            raise PlanError(
                f"The field is empty, so the plan stays {plan}. Write the layers that run; to run none at all, delete "
                "them in the strip or with Delete."
            )
        return LayerPlan.parse(typed, plan.n_layers)

    if not session.change("notation", edit) and not typed.strip():
        echo.put(State.notation.key, str(session.history().plan))


MAX_NOTATION = 20_000
LONG = {
    "prompt": "the prompt",
    "lens": "the Lens page's text",
    "system": "the system prompt",
    "text": "your own text",
    "tray": "the plans side by side",
}
"""What texts are called that a link may be too short for."""


KEYS_HELP = """
| key | what it does |
| --- | --- |
| ? | shows these keys, and hides them |
| Ctrl+Z, Ctrl+Y | undo and redo, anywhere on the page; ⌘ on a Mac |
| Tab | goes to the layers; then arrows choose one |
| Shift and arrows | move the chosen layer |
| Space | lifts it: arrows move it, Space puts it down, Escape puts it back |
| Shift+Space, Shift-click | select a range of layers |
| Delete | deletes what is chosen |
| Enter | opens its menu: repeat, scale, one half, another layer |
| Ctrl+A on a layer | selects all of them |
| arrows in a coloured text | go from token to token |

The field below a chart does by keys what a click on it does.
"""


NOTATION_HELP = """
The layers in the order in which they run. A layer that is not named is deleted.

| written | means |
| --- | --- |
| `0-4,6,5,7-11` | a new order |
| `7-3` | layers 7 to 3, backwards |
| `5x3`, `(4-6)x2` | repeated |
| `7.attn`, `7.mlp` | only one half of layer 7 |
| `7.bare` | without its adapter, where the model has one |
| `7*0.5` | its contribution scaled |
| `(4\\|5)` | both read the same input |
| `[4-6]*0.5` | the block of layers 4 to 6, and half of what it adds; `([4-6]*0.5)x2` loops it in half steps |
| `0-3,~,7-11` | stitched: a projection before the cut makes up for what it can |
| `mean(7)` | replaced by its mean contribution |
| `other:7`, `"my model+x":7` | layer 7 of another open model; in quotes where its name has spaces or signs |
"""
