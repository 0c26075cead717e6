"""Sets of texts in recipes: by name, by digest with the texts themselves, and by digest alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import RecipeError
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.recipes import chosen_set
from surgery_core.recipes.chosen_set import ChosenSet
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.run import run_recipe
from surgery_core.recipes.scored import texts_of
from surgery_core.text import Text, as_papers, bundled_texts, text_sets
from surgery_core.text_sources.found import own_set

SMALLEST = "version = 1\nmodel = 'tiny'\nplan = '0,2'\n"
ROWS = (
    Text("One", "The old woman had a cat. " * 12),
    Text("Gap", ""),
    Text("Two", "The fox went over the hill. " * 12),
)
MINE = own_set("Mine", ROWS)
plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder))


@given(st.lists(st.builds(Text, plain, plain), min_size=1, max_size=5), plain, st.sampled_from(["each", "papers"]))
def test_a_set_reads_back_equal(texts: list[Text], title: str, cut: str) -> None:
    recipe = Recipe("tiny", "0", text_set=ChosenSet.of(own_set(title, texts)), cut=cut)
    back = Recipe.loads(recipe.dumps())
    assert back == recipe
    assert back.text_set is not None
    assert back.text_set.found().texts == tuple(texts)


def test_a_set_of_the_package_is_its_name() -> None:
    recipe = Recipe("tiny", "0", text_set=ChosenSet.of(text_sets()["stories"]))
    assert '[text_set]\nname = "stories"\n' in recipe.dumps()
    assert texts_of(recipe) == text_sets()["stories"].texts
    assert texts_of(Recipe.loads(recipe.dumps())) == text_sets()["stories"].texts


def test_the_digest_in_the_file_is_that_of_the_texts() -> None:
    by_hand = "".join(json.dumps([text.title, text.text]) + "\n" for text in ROWS)
    digest = hashlib.sha256(by_hand.encode()).hexdigest()
    written = Recipe("tiny", "0", text_set=ChosenSet.of(MINE)).dumps()
    assert f'digest = "{digest}"' in written
    assert "number = 3" in written
    with pytest.raises(RecipeError, match="'text_set.texts' was changed"):
        Recipe.loads(written.replace("The fox", "The cat"))


def test_large_texts_stay_out_and_are_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_set, "KEPT_CHARACTERS", 100)
    recipe = Recipe.loads(Recipe("tiny", "0", text_set=ChosenSet.of(MINE)).dumps())
    assert recipe.text_set is not None
    assert recipe.text_set.texts == ()
    with pytest.raises(RecipeError, match=r"scores Mine \(3 texts, digest .*does not hold the texts.*--texts"):
        texts_of(recipe)
    with pytest.raises(RecipeError, match="those given have the digest"):
        texts_of(recipe, own_set("Mine", ROWS[:1]))
    assert texts_of(recipe, own_set("Other name", ROWS)) == (ROWS[0], ROWS[2])


def test_a_recipe_of_before_reads_as_it_did() -> None:
    old = Recipe.loads(SMALLEST + f"texts = [{bundled_texts()[0].title!r}]\n[[own_texts]]\ntitle = 'A'\ntext = 'b c'\n")
    assert texts_of(old) == (bundled_texts()[0], Text("A", "b c"))
    assert (old.text_set, old.cut) == (None, "each")
    assert "cut" not in old.dumps()


def test_what_is_joined(loaded: LoadedModel) -> None:
    """The set with its empty rows, the bundled texts, or one's own where there is nothing else."""
    mine = Recipe("tiny", "0,2", text_set=ChosenSet.of(MINE), cut="papers", own_texts=(Text("A", "b c"),))
    assert texts_of(mine) == (as_papers(ROWS), Text("A", "b c"))
    assert texts_of(Recipe("tiny", "0", cut="papers")) == (as_papers(bundled_texts()),)
    assert texts_of(Recipe("tiny", "0", cut="papers", texts=(), own_texts=(ROWS[0],))) == (as_papers(ROWS[0]),)


def test_a_report_says_how_the_texts_were_cut(loaded: LoadedModel) -> None:
    """A token a byte, 128 of them a window."""
    report = run_recipe(Recipe("tiny", "0,2", text_set=ChosenSet.of(MINE), cut="papers"), loaded=loaded)
    windows, rest = divmod(len("\n\n".join(text.text for text in ROWS)), 128)
    said = report.to_dict()["cut"]
    assert isinstance(said, dict)
    assert (said["window"], said["n_windows"], said["left_out"]) == (128, windows, rest)
    assert f"{windows} windows of 128 tokens without overlap" in said["sentence"]
    assert run_recipe(Recipe("tiny", "0,2", text_set=ChosenSet.of(MINE)), loaded=loaded).to_dict()["cut"] is None


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("cut = 'lines'", "'cut' is 'lines'; there are each and papers"),
        ("texts = []\n[text_set]\nname = 'stories'", "'text_set' stands beside texts"),
        ("[text_set]\nname = 'poems'", "'text_set.name' is 'poems'; there are short, stories"),
        ("[text_set]\ntitle = 'x'", "'text_set.digest' is ''; it must be a SHA-256"),
        ("[text_set]\ndigest = 'xyz'", "'text_set.digest' is 'xyz'"),
        ("[text_set]\nnumber = '3'", "'text_set.number' must be a whole number"),
        ("[text_set]\nheat = 1", "unknown field 'text_set.heat'"),
        (f"[text_set]\ndigest = '{'0' * 64}'\ntexts = ['a']", r"'text_set.texts\[0\]' must be a table"),
        (f"[text_set]\ndigest = '{'0' * 64}'\ntexts = [{{title = 'a'}}]", r"'text_set.texts\[0\]' needs a title"),
        (f"[text_set]\ndigest = '{'0' * 64}'\ntexts = [{{title = 'a', text = \"\\u0000b\"}}]", "NUL byte"),
        (f"[text_set]\ndigest = '{'0' * 64}'\ntexts = [{{title = 'a', text = 'b'}}]", "was changed"),
        ("text_set = 'stories'", "'text_set' must be a table"),
    ],
)
def test_a_wrong_set_names_the_field(toml: str, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        Recipe.loads(SMALLEST + toml)
