"""The tour: what each step says, which control it points at, and what it waits for. Nothing here imports Streamlit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Until = Literal["open", "changed", "unchanged", "sweep", "swept", "cell", "statistic", "next"]
"""What ends a step: a layer's menu is open, the plan differs from the unchanged model's or is that one again, a sweep was
started since the chapter began or at all, another cell or statistic was chosen, or the person says so."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        title: in two to four words.
        text: one or two sentences.
        at: selectors of the control, of which the first that can be seen is pointed at; behind `>>>` stands what is
            within a component.
        until: what ends it.
        page: path of the page where it is made; None where it can be made on each.
        sidebar: whether the control is in the sidebar.
    """

    title: str
    text: str
    at: tuple[str, ...]
    until: Until
    page: str | None = None
    sidebar: bool = False


_STRIP = ".st-key-strip >>> .list"
_MATTER = ".st-key-sweep-questions >>> [data-name='Which layers matter?']"
_START = ".st-key-sweep-start button"

CHAPTERS: dict[str, tuple[Step, ...]] = {
    "": (
        Step(
            "Pick a layer", "The chips are the model's layers, in the order in which they run. Click one.",
            (_STRIP,), "open", sidebar=True,
        ),
        Step(
            "Take it out", "Press Delete in its menu. The model then runs without that layer.",
            (".st-key-strip >>> .panel .delete", ".st-key-strip >>> .selection .delete", _STRIP), "changed", sidebar=True,
        ),
        Step(
            "See what it did",
            "This sentence says what changed. The more a text surprises the model, the worse it foretells its words.",
            (".st-key-said",), "next", page="",
        ),
        Step(
            "Undo it", "Nothing is lost: press Undo, and the layer is back.", (".st-key-undo button",), "unchanged",
            sidebar=True,
        ),
        Step(
            "Ask about all layers", "Leave out each layer once: ask this, or press Start.", (_MATTER, _START), "sweep",
            page="sweep",
        ),
    ),
    "lens": (
        Step(
            "Look into a cell", "Rows are layers, columns are tokens. A cell has the word that its layer would say next. "
            "Click one.",
            (".st-key-map",), "cell", page="lens",
        ),
        Step(
            "Change the colours", "Under More they can say something else, such as Entropy: how undecided the layer is.",
            (".st-key-lens-metric", ".st-key-lens-more"), "statistic", page="lens",
        ),
        Step(
            "Compare", "Delete a layer here, and a second map shows the model without it.", (_STRIP,), "changed",
            sidebar=True,
        ),
    ),
    "sweep": (
        Step(
            "Ask a question", "Leave out each layer once: ask this, or press Start.", (_MATTER, _START), "swept",
            page="sweep",
        ),
        Step(
            "Take a plan over", "Each bar is the model without that layer. Click one, and the strip has that plan.",
            ("[class*='st-key-sweep-chart-']",), "changed", page="sweep",
        ),
        Step(
            "Go on from here", "Importance ranks layers from a single run. Removal takes out one after the other.",
            ("[data-testid='stTabs'] [role='tablist']",), "next", page="sweep",
        ),
    ),
}  # fmt: skip
"""The steps of each chapter, by the path of its page; the first is the tour itself."""
PAGES = {"": "Surgery", "lens": "Lens", "sweep": "Sweep"}
"""Titles of the pages that steps are made on, by their paths."""
END = {
    "": ("That is all it takes", "Change, read, undo. Words are explained at the end of the sidebar, where this tour is, too."),
    "lens": ("That is this page", "Words are explained at the end of the sidebar, where this tour is, too."),
    "sweep": ("That is this page", "Words are explained at the end of the sidebar, where this tour is, too."),
}  # fmt: skip
"""What is said at the end of each chapter."""
OFFER = ("New here?", "Three steps show what this page can do.")
"""What is said once on a page with a chapter of its own."""
GO = "Go to the {} page."
"""What is said on another page than a step's."""
OPEN = "First open the sidebar: the layers are there."
CLOSE = "Close the sidebar to see the page."
"""What is said where the sidebar is in the way, or is not there."""
