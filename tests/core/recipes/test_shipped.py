"""The recipes that come along: whole, in the wheel, up to date with what they came to, and run on the bundled model."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest

from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.recipes import gallery as coming_along
from surgery_core.recipes.document import document
from surgery_core.recipes.gallery import Card, gallery
from surgery_core.recipes.outcomes import KeptOutcome, all_outcomes, asked, read_outcomes
from surgery_core.recipes.scored import texts_of
from surgery_core.recipes.studied import run_study

ROOT = Path(__file__).resolve().parents[3]
CARDS = gallery()
AGAIN = "Run `python -m surgery_core gallery --write recipes/outcomes --only {key} --document docs/gallery.md`"
LONGEST = 300
"""Seconds that a recipe may take on the bundled model, on one busy core; written down are one to two minutes."""


def by_key(card: Card) -> str:
    return card.key


def kept(card: Card) -> KeptOutcome:
    outcomes = read_outcomes("fable")
    assert outcomes is not None, "recipes/outcomes/fable.json is missing. " + AGAIN.format(key=card.key)
    assert card.key in outcomes.by_key, f"{card.key} was never run. {AGAIN.format(key=card.key)}"
    return outcomes.by_key[card.key]


@pytest.mark.parametrize("card", CARDS, ids=by_key)
def test_a_card_has_all_that_the_page_shows(card: Card) -> None:
    recipe = card.recipe
    assert recipe.model == "fable"
    assert all((recipe.title, recipe.question, recipe.do, recipe.note, recipe.study, recipe.paper, recipe.meaning))
    assert recipe.claim is not None
    assert "fable" in dict(recipe.expected)
    assert recipe.paper is not None
    assert recipe.paper.link
    assert texts_of(recipe)


@pytest.mark.parametrize("card", CARDS, ids=by_key)
def test_what_is_kept_is_of_what_is_asked_and_is_what_is_expected(card: Card) -> None:
    one = kept(card)
    assert one.digest == asked(card.recipe), (
        f"{card.key} asks something else than when it was run. {AGAIN.format(key=card.key)}"
    )
    assert one.outcome == dict(card.recipe.expected)["fable"], flipped(card, one.outcome)


def test_what_is_kept_is_of_the_model_that_comes_along() -> None:
    outcomes = read_outcomes("fable")
    assert outcomes is not None
    assert outcomes.made["revision"] == load_model("fable").info.revision, (
        "fable is another one than was measured: run `python -m surgery_core gallery --write recipes/outcomes`"
    )


def flipped(card: Card, outcome: object) -> str:
    return (
        f"{card.key} is {outcome!r} on fable and {dict(card.recipe.expected)['fable']!r} was expected. Where that is right, "
        f"write the new outcome below [expected] in recipes/{card.key}.toml and a line about it into CHANGELOG.md. "
        + AGAIN.format(key=card.key)
    )


def test_the_page_of_all_outcomes_is_up_to_date() -> None:
    written = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert written == document(CARDS, all_outcomes()), (
        "docs/gallery.md is stale: write it with `python -m surgery_core gallery --document docs/gallery.md`"
    )


def test_the_wheel_has_the_recipes_where_the_package_looks_for_them() -> None:
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert hatch["wheel"]["hooks"]["custom"]["shipped"]["recipes"] == "surgery_core/shipped/recipes"
    assert "recipes" in hatch["sdist"]["only-include"]
    package = Path(coming_along.__file__).resolve().parents[1]
    assert package / "shipped" / "recipes" == coming_along._SHIPPED
    assert coming_along.RECIPES_FOLDER == ROOT / "recipes"


@pytest.fixture(scope="module")
def fable() -> LoadedModel:
    return load_model("fable")


@pytest.mark.gallery
@pytest.mark.parametrize("card", CARDS, ids=by_key)
def test_a_recipe_comes_to_the_same_again(card: Card, fable: LoadedModel) -> None:
    """The outcome is the same, and the figure within a tenth of its interval's width, or one percent of it."""
    result, one = run_study(card.recipe, fable, texts_of(card.recipe)), kept(card)
    assert result.outcome == dict(card.recipe.expected)["fable"], flipped(card, result.outcome)
    then, now = one.finding.figure, result.finding.figure
    width = then.high - then.low if then.high > then.low else 0.0
    slack = 0.0 if math.isnan(then.value) else max(0.1 * width, 0.01 * abs(then.value))
    assert now.value == pytest.approx(then.value, abs=slack, nan_ok=True), AGAIN.format(key=card.key)
    assert (now.n_units, now.unit) == (then.n_units, then.unit)
    assert result.seconds < LONGEST
