"""Recipes of the gallery on the real model: a few on few texts, and all of them where that is asked for (`-m gallery`)."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest

from surgery_core.recipes.gallery import Card, card_of, gallery
from surgery_core.recipes.measuring import measure
from surgery_core.recipes.outcomes import KeptOutcome
from surgery_core.studies.finding import Outcome

FEW = ("keep-the-last", "turning-block")
"""Recipes whose studies run few plans."""


def outcome_of(card: Card, loaded: Any, texts: int) -> KeptOutcome | str:
    found = measure([card], loaded, most_texts=texts)
    return found.by_key[card.key] if card.key in found.by_key else found.refused[card.key]


@pytest.mark.parametrize("key", FEW)
def test_a_recipe_runs_on_thirty_layers(loaded: Any, key: str) -> None:
    found = outcome_of(card_of(key), loaded, 6)
    assert isinstance(found, KeptOutcome), found
    figure = found.finding.figure
    assert figure.low <= figure.value <= figure.high
    assert found.texts == 6
    assert found.outcome in get_args(Outcome)


@pytest.mark.gallery
@pytest.mark.parametrize("card", gallery(), ids=lambda card: card.key)
def test_every_recipe_has_an_outcome_or_says_why_not(loaded: Any, card: Card) -> None:
    found = outcome_of(card, loaded, 8)
    if isinstance(found, str):
        assert "lens" in found, found  # this model comes without a tuned one
        assert found.endswith(".")
    else:
        assert math.isfinite(found.finding.figure.value)
        assert found.outcome in get_args(Outcome)
