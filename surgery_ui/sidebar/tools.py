"""Delete, permute, replace, presets and the adapter's switch: small forms over the plan."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import streamlit as st

from surgery_core.errors import PlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.presets import Preset, all_presets
from surgery_core.plans.presets import preset as find_preset
from surgery_ui.session import session
from surgery_ui.sidebar.heal import heal_standing, offer_heal
from surgery_ui.sidebar.looked_at import looked_at
from surgery_ui.words import labels, present

DELETED, ORDER, REPLACED, BY, SWITCHED, LAYER, SEED = (
    "delete-which", "permute-order", "replace-which", "replace-by", "adapter-which", "preset-layer", "preset-seed",
)  # fmt: skip
"""Keys of the fields."""


def tools(now: session.Experiment) -> None:
    """Show the tools and the presets as buttons that open; one more where the model has an adapter."""
    row, below = (st.container(horizontal=True, gap="xsmall") for _ in range(2))
    shown = [
        (row, "Delete", _delete),
        (row, "Permute", _permute),
        (row, "Replace", _replace),
        (below, "Presets", _presets),
    ]
    if now.loaded.info.adapter is not None:
        shown.append((below, "Adapter", _adapter))
    for place, label, body in shown:
        with place.popover(label, key=_key(label), on_change=session.touch, width="stretch"):
            body(now.plan)
            # Here and not below the buttons, where the open tool would lie over it.
            _problem(label)
    with below:
        looked_at(now)
    offer_heal(now)
    heal_standing()


def _key(tool: str) -> str:
    """Return the key of a tool's button, beside which its problem is said."""
    return f"tool-{tool}"


def _problem(tool: str) -> None:
    error = session.problem(_key(tool))
    if error is not None:
        st.error(present.plain(str(error)))


def _delete(plan: LayerPlan) -> None:
    named = _labels(plan)
    with st.form("delete", border=False):
        st.multiselect("Layers to delete", range(len(plan)), format_func=named.__getitem__, key=DELETED)
        if len(plan):
            st.caption(f"Positions 0 to {len(plan) - 1}, in running order.")
        st.form_submit_button("Delete them", on_click=_apply, args=("Delete", _deletion))


def _deletion(plan: LayerPlan) -> LayerPlan:
    chosen = st.session_state[DELETED]
    if not chosen:
        raise PlanError("Choose at least one layer to delete.")
    return plan.delete(chosen)


def _permute(plan: LayerPlan) -> None:
    with st.form("permute", border=False):
        st.text_input("New order of the positions", key=ORDER, placeholder=_example(len(plan)))
        where = f"Positions 0 to {len(plan) - 1}. " if len(plan) else ""
        st.caption(f"{where}Leave one out to drop it, write it twice to run it twice.")
        st.form_submit_button("Permute", on_click=_apply, args=("Permute", _permutation))


def _permutation(plan: LayerPlan) -> LayerPlan:
    return plan.permute(read_order(st.session_state[ORDER]))


def read_order(text: str) -> list[int]:
    """Read an order that a person typed: whole numbers and ranges with commas or spaces between.

    Raises:
        PlanError: for anything else, naming it.
    """
    order: list[int] = []
    for item in re.split(r"[,\s]+", text.strip()) if text.strip() else []:
        match = re.fullmatch(r"(-?\d{1,6})(?:-(\d{1,6}))?", item)
        if match is None:
            raise PlanError(f"{item!r} is not a position; write whole numbers such as 0, 2, 1 or ranges such as 3-7.")
        order.extend(_range(match))
        if len(order) > 10_000:
            raise PlanError("The order is too long; a plan has at most 1,024 slots.")
    if not order:
        raise PlanError("Write the positions in their new order, such as 0, 2, 1.")
    return order


def _range(match: re.Match[str]) -> range | list[int]:
    first = int(match[1])
    if match[2] is None:
        return [first]
    last = int(match[2])
    if abs(last - first) > 10_000:
        raise PlanError(f"{match[0]} is too long a range; a plan has at most 1,024 slots.")
    return range(first, last + 1) if first <= last else range(first, last - 1, -1)


def _replace(plan: LayerPlan) -> None:
    named = _labels(plan)
    with st.form("replace", border=False):
        st.selectbox("Replace", range(len(plan)), format_func=named.__getitem__, key=REPLACED)
        st.selectbox("by layer", range(plan.n_layers), format_func=lambda layer: f"L{layer}", key=BY)
        st.form_submit_button("Replace it", on_click=_apply, args=("Replace", _replacement))


def _replacement(plan: LayerPlan) -> LayerPlan:
    if st.session_state[REPLACED] is None:
        raise PlanError("There is no layer left to replace.")
    return plan.replace(st.session_state[REPLACED], st.session_state[BY])


def _adapter(plan: LayerPlan) -> None:
    named = _labels(plan)
    with st.form("adapter", border=False):
        st.multiselect(
            "Layers", range(len(plan)), format_func=named.__getitem__, key=SWITCHED, placeholder="All of them"
        )
        with st.container(horizontal=True, gap="xsmall"):
            for label, on in (("Switch off", False), ("Switch on", True)):
                st.form_submit_button(label, on_click=_apply, args=("Adapter", partial(_switched, on=on)))
        st.caption("A layer whose adapter is off runs as in the model that the adapter was trained on.")


def _switched(plan: LayerPlan, *, on: bool) -> LayerPlan:
    return plan.switch_adapter(st.session_state[SWITCHED] or range(len(plan)), on=on)


def _presets(plan: LayerPlan) -> None:
    titles = {preset.key: preset.title for preset in all_presets()}
    key = st.selectbox(
        "Preset", list(titles), format_func=lambda key: titles.get(key, key), key="preset", on_change=session.touch
    )
    preset = find_preset(key)
    st.caption(preset.help)
    if "layer" in preset.needs:
        last = plan.n_layers - (2 if preset.key == "swap-neighbours" else 1)
        st.number_input("Layer", 0, max(last, 0), min(plan.n_layers // 2, max(last, 0)), key=LAYER, on_change="ignore")
    if "seed" in preset.needs:
        st.number_input("Seed", 0, 2**31 - 1, 0, key=SEED, on_change="ignore")
    st.button("Apply", key="preset-apply", on_click=_apply, args=("Presets", lambda plan: _preset(preset, plan)))


def _preset(preset: Preset, plan: LayerPlan) -> LayerPlan:
    chosen = st.session_state
    layer = chosen[LAYER] if "layer" in preset.needs else None
    return preset.apply(plan.n_layers, layer=layer, seed=chosen[SEED] if "seed" in preset.needs else 0)


def _apply(tool: str, edit: Callable[[LayerPlan], LayerPlan]) -> None:
    """Make the tool's edit; a tool that worked closes, one that did not says why."""
    if session.change(_key(tool), edit):
        st.session_state[_key(tool)] = False
        for chosen in (DELETED, SWITCHED):
            st.session_state.pop(chosen, None)


def _labels(plan: LayerPlan) -> list[str]:
    """Return a name for each position, counted from 0; only where layers stand at their own numbers, without it."""
    names = [slot.label for slot in plan]
    if plan.is_identity:
        return names
    return list(labels.unique({at: f"{at}: {name}" for at, name in enumerate(names)}).values())


def _example(length: int) -> str:
    order = list(range(length))
    if length > 2:
        order[1], order[2] = order[2], order[1]
    return ", ".join(map(str, order))
