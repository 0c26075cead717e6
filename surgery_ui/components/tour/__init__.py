"""The tour: a small card that points at real controls, one after the other, and goes on as soon as they were used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import streamlit as st

from surgery_ui.words.tour import CHAPTERS, CLOSE, END, GO, OFFER, OPEN, PAGES

_HERE = Path(__file__).parent
_SCRIPTS = ("tour.js", "card.js", "places.js")
"""One module for the browser, in files by subject."""
_mount = st.components.v2.component(
    "model_surgery_tour",
    html='<div class="tour"></div>',
    js="\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS),
)
_WORDS: dict[str, Any] = {
    "chapters": {name: [asdict(step) for step in steps] for name, steps in CHAPTERS.items()},
    "pages": PAGES, "end": END, "offer": OFFER, "go": GO, "open": OPEN, "close": CLOSE,
    "css": (_HERE / "tour.css").read_text(encoding="utf-8"),
}  # fmt: skip


def show_tour(facts: Mapping[str, Any], *, asked: int, chapter: str, invited: bool) -> None:
    """Hand the browser what the tour goes by. It keeps the step itself, and whether the tour was seen.

    Args:
        facts: of this run: the page's path as `page`, and what steps wait for (`words.tour.Until`).
        asked: how often the tour was asked for.
        chapter: the chapter that was asked for last.
        invited: whether the tour may begin by itself, if this browser has not seen it.
    """
    data = _WORDS | {"facts": dict(facts), "asked": asked, "chapter": chapter, "invited": invited}
    _mount(key="tour", data=data, height=1)
