"""What the page shows: the recipes that come along, those that were dropped on it, and what is known of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import streamlit as st

from surgery_core.errors import RecipeError, SurgeryError
from surgery_core.models.offered import DEFAULT_MODEL
from surgery_core.recipes.gallery import Card, gallery
from surgery_core.recipes.outcomes import Outcomes, asked, read_outcomes
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.results import StudyResult
from surgery_core.studies.finding import Finding, Outcome
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.words import present
from surgery_ui.work.study_jobs import study_outcome

OWN = "own-"
"""How the keys of a person's own recipes begin."""


@dataclass(frozen=True, eq=False)
class Known:
    """What a recipe came to.

    Attributes:
        finding: its figures and picture.
        outcome: whether its claim holds; None where it has none.
        where: on which model and when, in words.
        here: whether that is the open model.
    """

    finding: Finding
    outcome: Outcome | None
    where: str
    here: bool


def entries() -> tuple[Card, ...]:
    """Return all recipes, the person's own last; says so where one that comes along cannot be read."""
    try:
        found = gallery()
    except RecipeError as error:
        st.error(present.plain(str(error)))
        found = ()
    own = (_own(key, text) for key, text in state.own_recipes.items())
    return (*found, *(card for card in own if card is not None))


@lru_cache(maxsize=128)
def _own(key: str, text: str) -> Card | None:
    """Return a person's own recipe; None where this program can no longer read it."""
    try:
        return Card(key, Recipe.loads(text), text)
    except RecipeError:
        return None


def open_entry(found: Sequence[Card]) -> Card | None:
    """Return the card that is open; says so where there is none of the key that a link names."""
    if state.recipe_open is None:
        return None
    for card in found:
        if card.key == state.recipe_open:
            return card
    st.info(
        f"There is no experiment {present.plain(state.recipe_open)} here. If it is somebody's own, ask for its file and drop "
        "it below."
    )
    state.recipe_open = None
    return None


def open_card(key: str) -> None:
    """Open a card; a callback."""
    session.touch()
    state.recipe_open = key


def close() -> None:
    """Go back to all cards; a callback."""
    session.touch()
    state.recipe_open = None


def known(now: session.Experiment, card: Card) -> Known | None:
    """Return what a recipe came to: on the open model in this process, or as it is kept; None where nothing is known."""
    ran = study_outcome(now.loaded, card.recipe)
    if isinstance(ran, StudyResult):
        return Known(ran.finding, ran.outcome, f"measured on {now.loaded.info.title} just now", here=True)
    return _kept(now, card, now.loaded.info.name) or _kept(now, card, DEFAULT_MODEL)


def kept_seconds(now: session.Experiment, card: Card) -> float | None:
    """Return how long the recipe takes, roughly: as long as where it was measured, for the parameters of this model."""
    for model in (now.loaded.info.name, DEFAULT_MODEL):
        outcomes = _outcomes(model)
        one = None if outcomes is None else outcomes.by_key.get(card.key)
        if outcomes is not None and one is not None and one.digest == asked(card.recipe):
            measured = int(outcomes.made.get("parameters", 0)) or now.loaded.info.n_parameters
            return one.seconds * now.loaded.info.n_parameters / measured
    return None


def _kept(now: session.Experiment, card: Card, model: str) -> Known | None:
    outcomes = _outcomes(model)
    one = None if outcomes is None else outcomes.by_key.get(card.key)
    if outcomes is None or one is None or one.digest != asked(card.recipe):
        return None
    here = outcomes.made["revision"] == now.loaded.info.revision
    return Known(one.finding, one.outcome, f"measured on {outcomes.model}, {one.measured}", here)


def _outcomes(model: str) -> Outcomes | None:
    try:
        return read_outcomes(model)
    except SurgeryError:
        # the page has cards without it; `gallery --write` and the tests say what is wrong with the file
        return None
