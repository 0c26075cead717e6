"""Words of the Gallery page. Nothing here imports Streamlit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from surgery_core.recipes.parts import HOW_READ, Paper
from surgery_core.studies.finding import Figure, Outcome
from surgery_core.studies.words import interval_text, units_text, value_text
from surgery_ui.words.present import plain
from surgery_ui.words.sweeps import lower

Colour = Literal["green", "orange", "gray"]


@dataclass(frozen=True)
class Badge:
    """How an outcome is shown: in a word, with a shape and a colour; each of them is enough to tell it."""

    word: str
    icon: str
    colour: Colour


BADGES: dict[Outcome, Badge] = {
    "seen here too": Badge("Seen here too", ":material/check_circle:", "green"),
    "not seen here": Badge("Not seen here", ":material/cancel:", "orange"),
    "too few texts to say": Badge("Too few texts to say", ":material/help:", "gray"),
}
NO_CLAIM = Badge("No claim to check", ":material/remove:", "gray")
NOT_RUN = Badge("Not run yet", ":material/hourglass_empty:", "gray")

INTERVAL = (
    "The range in brackets is a 95 % interval: where the number would lie on other texts of the same kind. Only when all of "
    "it agrees with the paper is that “seen here too”; only when all of it disagrees, “not seen here”."
)


def badge_of(outcome: Outcome | None) -> Badge:
    """Return how an outcome is shown."""
    return NO_CLAIM if outcome is None else BADGES[outcome]


def measured(figure: Figure) -> str:
    """Return a figure with its interval and what it is, as Markdown: `**81.3 %** (79.0 % to 83.5 %), top-1 kept`."""
    interval = interval_text(figure)
    ends = f" {plain(f'({interval})')}" if interval else ""
    return f"{bold(value_text(figure))}{ends}: {plain(lower(figure.name))}"


def over(figure: Figure) -> str:
    """Return what a figure is, and over what: `Top-1 kept, over 60 texts`."""
    units = units_text(figure)
    return f"{figure.name}, over {units}" if units else figure.name


def saw(paper: Paper) -> str:
    """Return what a paper saw as Markdown: its number, or its sentence where no number was read in it."""
    return bold(paper.figure) if paper.figure else plain(paper.says.rstrip("."))


def source(paper: Paper) -> str:
    """Return where it stands what a paper saw, as Markdown with a link."""
    name = f"arXiv {paper.arxiv}" if paper.arxiv else paper.url.removeprefix("https://")
    link = f"[{plain(name)}]({paper.link})" if paper.link else ""
    parts = (link, plain(paper.where), HOW_READ[paper.read])
    return ", ".join(part for part in parts if part)


def bold(text: str) -> str:
    """Return text in bold Markdown, letter for letter."""
    return f"**{plain(text)}**"
