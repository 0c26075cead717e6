"""A row of buttons, each with a small drawing above its words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__).parent
_mount = st.components.v2.component(
    "model_surgery_pictured",
    html='<div class="pictured"></div>',
    css=(_HERE / "pictured.css").read_text(encoding="utf-8"),
    js=(_HERE / "pictured.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True)
class Choice:
    """One button.

    Attributes:
        name: what is sent when it is clicked.
        label: what it says, in two or three words.
        help: what a pointer that rests on it is told.
        picture: an SVG of this program's own, such as a plan's strip; it goes into the page as it is.
    """

    name: str
    label: str
    help: str
    picture: str


def pictured_buttons(choices: Sequence[Choice], key: str, on_click: Callable[[str], None]) -> None:
    """Show the buttons; `on_click` is called with the name of the one that was clicked, if it is one of them."""
    names = {choice.name for choice in choices}

    def clicked() -> None:
        sent: Any = st.session_state.get(key)
        name = sent.get("chosen") if sent else None
        if isinstance(name, str) and name in names:
            on_click(name)

    _mount(key=key, data={"choices": [asdict(choice) for choice in choices]}, on_chosen_change=clicked)
