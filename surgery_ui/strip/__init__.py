"""The layer strip: the plan as chips that a person drags, deletes and changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from surgery_core.errors import PlanError
from surgery_core.plan import MAX_SLOTS, LayerPlan

KEY = "strip"
_HERE = Path(__file__).parent
_SCRIPTS = ("strip.js", "drag.js", "menu.js", "slots.js")
"""One module for the browser, in files by subject; the first has the class that the next two add to."""
_mount = st.components.v2.component(
    "model_surgery_strip",
    html=(_HERE / "strip.html").read_text(encoding="utf-8"),
    css=(_HERE / "strip.css").read_text(encoding="utf-8"),
    js="\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS),
)


def layer_strip(plan: LayerPlan, edit: int, on_edit: Callable[[], None]) -> None:
    """Show the plan as chips. `edit` is the number of the newest edit from the browser that was handled."""
    data = {"slots": [str(slot) for slot in plan], "depth": plan.n_layers, "edit": edit}
    _mount(key=KEY, data=data, on_edit_change=on_edit)


def read_edit(value: Any, n_layers: int) -> tuple[LayerPlan, int]:
    """Return the plan and the number of an edit that a browser sent.

    Raises:
        PlanError: when it is not an edit of a plan of this depth.
    """
    slots = value.get("slots") if isinstance(value, Mapping) else None
    edit = value.get("edit") if isinstance(value, Mapping) else None
    if not isinstance(slots, list) or len(slots) > MAX_SLOTS or not all(_is_item(slot) for slot in slots):
        raise PlanError(f"The layer strip sent something that is not a plan of at most {MAX_SLOTS:,} slots.")
    if isinstance(edit, bool) or not isinstance(edit, (int, float)) or not 0 <= edit < 2**53:
        raise PlanError("The layer strip sent an edit without its number.")
    return LayerPlan.parse(",".join(slots), n_layers), int(edit)


def _is_item(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= 200
