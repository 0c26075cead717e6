"""The layer strip: the plan as chips that a person drags, deletes and changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import streamlit as st

from surgery_core.errors import PlanError
from surgery_core.plans.cuts import cuts
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import MAX_SLOTS, Slot

KEY = "strip"
_HERE = Path(__file__).parent
_SCRIPTS = ("strip.js", "keys.js", "selection.js", "drag.js", "menu.js", "slots.js")
"""One module for the browser, in files by subject; the first has the class that the next four add to."""
MAX_TEXT = 200_000
"""Longest plan, in characters, that the strip may send."""
_mount = st.components.v2.component(
    "model_surgery_strip",
    html=(_HERE / "strip.html").read_text(encoding="utf-8"),
    css=(_HERE / "strip.css").read_text(encoding="utf-8"),
    js="\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS),
)


def layer_strip(
    plan: LayerPlan, edit: int, on_edit: Callable[[], None], on_look: Callable[[], None], on_seam: Callable[[], None],
    adapted: Sequence[int] = (), damage: Mapping[int, tuple[float, str]] = MappingProxyType({}),
) -> None:  # fmt: skip
    """Show the plan as chips.

    Args:
        plan: what is shown.
        edit: number of the newest edit from the browser that was handled.
        on_edit: called when there is a newer one.
        on_look: called when a layer is to be seen in the lens; `looked_at` says which.
        on_seam: called when the cuts are to be stitched, or stitches taken out; `wants_stitches` says which.
        adapted: layers of the model that have an adapter to be switched.
        damage: by layer, how strongly its chip is tinted (0 to 1) for what deleting it cost, and that in words.
    """
    data: dict[str, Any] = {
        "slots": [str(slot) for slot in plan],
        "depth": plan.n_layers,
        "edit": edit,
        "adapted": list(adapted),
    }
    data["seam"] = _seam(plan)
    data["damage"] = {str(layer): list(cost) for layer, cost in damage.items()}
    _mount(key=KEY, data=data, on_edit_change=on_edit, on_look_change=on_look, on_seam_change=on_seam)


def sent_edit() -> Any:
    """Return the newest edit that the browser sent, as it sent it."""
    return st.session_state[KEY].get("edit")


def looked_at(plan: LayerPlan) -> int | None:
    """Return the position of the layer that is to be seen in the lens; None where there is no such position."""
    value = st.session_state[KEY].get("look")
    at = value.get("position") if isinstance(value, Mapping) else None
    return at if isinstance(at, int) and not isinstance(at, bool) and 0 <= at < len(plan) else None


def wants_stitches() -> bool | None:
    """Return whether the plan's cuts are to be stitched; None where the browser sent nothing that says so."""
    value = st.session_state[KEY].get("seam")
    wanted = value.get("stitched") if isinstance(value, Mapping) else None
    return wanted if isinstance(wanted, bool) else None


def _seam(plan: LayerPlan) -> dict[str, Any] | None:
    """Return the switch beside the deleted layers: whether it is on, and what it says; None where nothing can be stitched."""
    if not cuts(plan):
        return None
    return {"on": plan != plan.unstitched, "label": "Stitch the cut", "help": SEAM_HELP}


SEAM_HELP = "Makes up for deleted layers by a projection before them, fitted on the bundled stories: ~ in the plan."


def read_edit(value: Any, n_layers: int) -> tuple[LayerPlan, int]:
    """Return the plan and the number of an edit that a browser sent.

    Raises:
        PlanError: when it is not an edit of a plan of this depth.
    """
    slots = value.get("slots") if isinstance(value, Mapping) else None
    edit = value.get("edit") if isinstance(value, Mapping) else None
    if not isinstance(slots, list) or len(slots) > MAX_SLOTS or not all(isinstance(slot, str) for slot in slots):
        raise PlanError(f"The layer strip sent something that is not a plan of at most {MAX_SLOTS:,} slots.")
    if isinstance(edit, bool) or not isinstance(edit, (int, float)) or not 0 <= edit < 2**53:
        raise PlanError("The layer strip sent an edit without its number.")
    if sum(map(len, slots)) > MAX_TEXT:
        raise PlanError(f"The layer strip sent a plan of more than {MAX_TEXT:,} characters.")
    # One at a time: a comma may stand in a donor's name, and two halves of a name must not make one.
    return LayerPlan(tuple(_slot(text, n_layers) for text in slots), n_layers), int(edit)


def _slot(text: str, n_layers: int) -> Slot:
    slots = LayerPlan.parse(text, n_layers).slots
    if len(slots) != 1:
        raise PlanError(f"The layer strip sent {text[:60]!r} for one slot, but it stands for {len(slots):,}.")
    return slots[0]
