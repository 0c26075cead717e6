"""Recipes: what is written is read back, and what is wrong is named."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import RecipeError
from surgery_core.recipes.recipe import Recipe
from surgery_core.text import Text

SMALLEST = 'version = 1\nmodel = "fable"\nplan = "0-4"\n'

# TOML is UTF-8, so half a surrogate pair cannot be written; a NUL byte is refused
any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
some_text = any_text.filter(lambda text: bool(text.strip()))
plans = st.lists(st.sampled_from(["7", "0-4", "7-3", "5x3", "(1-3)x2", "5.attn*0.5", "(4|5)", "mean(2)"])).map(",".join)
recipes = st.builds(
    Recipe,
    model=some_text,
    plan=plans,
    title=any_text,
    note=any_text,
    revision=st.none() | any_text,
    texts=st.none() | st.lists(any_text).map(tuple),
    own_texts=st.lists(st.builds(Text, some_text, some_text), max_size=3).map(tuple),
    prompts=st.lists(any_text).map(tuple),
    lens=any_text,
    max_new_tokens=st.integers(1, 4096),
    temperature=st.floats(0, 10),
    top_k=st.integers(0, 1000),
    top_p=st.floats(0, 1, exclude_min=True),
    seed=st.integers(0, 2**63 - 1),
    margin=st.floats(0, 1, exclude_min=True, exclude_max=True),
)


@given(recipes)
def test_a_recipe_reads_back_equal(recipe: Recipe) -> None:
    assert Recipe.loads(recipe.dumps()) == recipe


@given(recipes)
def test_what_is_written_is_toml_with_a_version(recipe: Recipe) -> None:
    table = tomllib.loads(recipe.dumps())
    assert table["version"] == 1
    assert table["plan"] == recipe.plan


@given(st.text(max_size=200))
def test_any_text_is_a_recipe_or_a_recipe_error(text: str) -> None:
    for source in (text, SMALLEST + text):
        message = "."
        try:
            Recipe.loads(source)
        except RecipeError as error:
            message = str(error)
        assert message.endswith(".")


def test_the_smallest_recipe_has_the_defaults() -> None:
    assert Recipe.loads(SMALLEST) == Recipe("fable", "0-4")
    assert Recipe.loads(Recipe("fable", "0-4").dumps()).texts is None


def test_a_whole_recipe_is_read_field_by_field() -> None:
    recipe = Recipe.loads("""
        version = 1
        title = "Without the middle"
        note = "Watch the verse."
        model = "org/name"
        revision = "v2"
        plan = "0-4,7-11"
        seed = 3
        texts = ["A story"]
        prompts = ["Once", "Twice"]
        [generation]
        max_new_tokens = 12
        temperature = 1
        top_k = 40
        top_p = 0.9
        [[own_texts]]
        title = "Mine"
        text = "One two three."
    """)
    assert recipe == Recipe(
        model="org/name",
        plan="0-4,7-11",
        title="Without the middle",
        note="Watch the verse.",
        revision="v2",
        texts=("A story",),
        own_texts=(Text("Mine", "One two three."),),
        prompts=("Once", "Twice"),
        max_new_tokens=12,
        temperature=1.0,
        top_k=40,
        top_p=0.9,
        seed=3,
    )
    assert recipe.settings.temperature == 1.0
    assert recipe.settings.seed == 3


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("", "'version'"),
        ("version = 3\nmodel = 'fable'\nplan = ''", "'version' must be 1 or 2"),
        ("version = true\nmodel = 'fable'\nplan = ''", "'version'"),
        ("version = 1\nplan = ''", "'model' is missing"),
        ("version = 1\nmodel = 'fable'", "'plan' is missing"),
        ("version = 1\nmodel = ' '\nplan = ''", "'model' is empty"),
        ("version = 1\nmodel = 7\nplan = ''", "'model' must be a text, not 7"),
        ("version = 1\nmodel = 'fable'\nplan = '0-'", "'plan' does not parse. At the end"),
        (SMALLEST + "heat = 1", "unknown field 'heat'; allowed: version, title"),
        (SMALLEST + "seed = 1.5", "'seed' must be a whole number"),
        (SMALLEST + "seed = -1", "'generation' is out of range"),
        (SMALLEST + "texts = 'all'", "'texts' must be a list"),
        (SMALLEST + "texts = ['a', 3]", r"'texts\[1\]' must be a text, not 3"),
        (SMALLEST + "prompts = [['a']]", r"'prompts\[0\]'"),
        (SMALLEST + "generation = 3", "'generation' must be a table"),
        (SMALLEST + "[generation]\nheat = 1", "'generation.heat'; allowed: max_new_tokens"),
        (SMALLEST + "[generation]\ntop_k = true", "'generation.top_k' must be a whole number"),
        (SMALLEST + "[generation]\ntemperature = 'hot'", "'generation.temperature' must be a number"),
        (SMALLEST + "[generation]\ntemperature = nan", "'generation' is out of range"),
        (SMALLEST + "[generation]\nmax_new_tokens = 0", "'generation' is out of range"),
        (SMALLEST + "[generation]\ntop_p = 0", "'generation' is out of range"),
        (SMALLEST + "own_texts = ['a']", r"'own_texts\[0\]' must be a table"),
        (SMALLEST + "[[own_texts]]\ntitle = 'a'", r"'own_texts\[0\]' needs a title and a text"),
        (SMALLEST + "[[own_texts]]\ntitle = 'a'\ntext = ''", "'own_texts' has a text that cannot be read"),
        (SMALLEST + "[[own_texts]]\ntitle = 'a'\ntext = 'b'\nkind = 'c'", r"'own_texts\[0\].kind'"),
        (SMALLEST + "model = 'twice'", "not valid TOML"),
        ("version = 1\x00", "not valid TOML"),
        ("a = " + "[" * 5000, "nested more than 32 levels"),
        ("a = " + "9" * 5000, "not valid TOML"),
        (SMALLEST + "seed = 1979-05-27", "'seed' must be a whole number"),
    ],
)
def test_a_wrong_recipe_names_the_field(toml: str, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        Recipe.loads(toml)


def test_a_recipe_survives_a_file(tmp_path: Path) -> None:
    recipe = Recipe("fable", "0-4", note="é ↵ 語", own_texts=(Text("Mine", "One\r\ntwo\tthree\n"),))
    recipe.dump(tmp_path / "a.toml")
    assert Recipe.load(tmp_path / "a.toml") == recipe
    assert b"\r" not in (tmp_path / "a.toml").read_bytes()


@pytest.mark.parametrize(
    ("content", "expected"), [(None, "cannot be read"), (b"\xff", "not UTF-8"), (b"#" * 5_000_001, "larger than")]
)
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=rf"a\.toml.*{expected}"):
        Recipe.load(path)


def test_a_recipe_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be written"):
        Recipe("fable", "").dump(tmp_path / "no folder" / "a.toml")
    with pytest.raises(RecipeError, match="cannot be written"):
        Recipe("fable", "", note="\ud800").dump(tmp_path / "a.toml")
