"""The recipes that come along, what they came to, and the page of both."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from surgery_core.cli.options import main
from surgery_core.errors import RecipeError
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.recipes import gallery as shipped
from surgery_core.recipes.document import document
from surgery_core.recipes.gallery import TOPICS, by_topic, card_of, find_recipe, gallery
from surgery_core.recipes.measuring import measure
from surgery_core.recipes.outcomes import (
    MOST_MARKS,
    KeptOutcome,
    Outcomes,
    all_outcomes,
    asked,
    read_outcomes,
    write_outcomes,
)
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.results import StudyResult
from surgery_core.studies.finding import Figure, Finding, Picture
from tests.core.support.recipes import HARD, write_gallery
from tests.core.support.studies import loss_of, small_studies


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(shipped, "RECIPES_FOLDER", write_gallery(tmp_path / "recipes"))
    with small_studies():
        yield tmp_path / "recipes"


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder))


def test_cards_are_the_recipes_by_their_files_names(folder: Path) -> None:
    assert [(card.key, card.recipe.title) for card in gallery()] == [
        ("easy", "Are texts easy?"),
        ("hard", "How hard texts are"),
    ]
    assert card_of("easy").text == (folder / "easy.toml").read_text(encoding="utf-8")
    with pytest.raises(RecipeError, match="There is no recipe 'soft'; there are easy, hard; or give a file"):
        card_of("soft")


def test_what_is_easy_to_grasp_comes_first(folder: Path) -> None:
    (folder / "delete-each.toml").write_text(HARD.replace("How hard", "Zoo of"), encoding="utf-8")
    assert [card.key for card in gallery()] == ["delete-each", "easy", "hard"]


def test_cards_stand_by_topic(folder: Path) -> None:
    for name, topic in (("b", "Mine"), ("c", TOPICS[1]), ("d", TOPICS[0])):
        (folder / f"{name}.toml").write_text(
            HARD.replace("question = ", f'topic = "{topic}"\nquestion = '), encoding="utf-8"
        )
    assert [card.key for card in gallery()] == ["d", "c", "b", "easy", "hard"]
    found = by_topic(gallery())
    assert {topic: [card.key for card in cards] for topic, cards in found.items()} == {
        TOPICS[0]: ["d"], TOPICS[1]: ["c"], "Mine": ["b"], "": ["easy", "hard"],
    }  # fmt: skip
    assert list(found) == [TOPICS[0], TOPICS[1], "Mine", ""]


def test_a_file_that_changed_is_read_again_and_a_broken_one_is_named(folder: Path) -> None:
    gallery()
    (folder / "hard.toml").write_text(HARD.replace("times = 2", "tims = 2"), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"hard\.toml: Line 34: .*'study\.tims' is wrong") as error:
        gallery()
    assert error.value.line == 34


def test_a_recipe_is_found_by_key_and_by_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_recipe("hard") == Recipe.load(folder / "hard.toml") == find_recipe(str(folder / "hard.toml"))
    monkeypatch.chdir(tmp_path)
    Recipe("tiny", "0").dump("hard")
    assert find_recipe("hard") == Recipe("tiny", "0")
    with pytest.raises(RecipeError, match="cannot be read"):
        find_recipe("nowhere.toml")


def test_the_store_has_what_was_measured(loaded: LoadedModel, folder: Path) -> None:
    keys: list[str] = []
    found = measure(gallery(), loaded, on_done=lambda outcomes, key: keys.append(key))
    assert keys == ["easy", "hard"]
    back = read_outcomes("tiny", write_outcomes(found, folder / "outcomes").parent)
    assert back is not None
    assert back.made == found.made
    kept, recipe = back.by_key["hard"], card_of("hard").recipe
    losses = [2 * loss_of(loaded.model, loaded.tokenizer, text.text) for text in recipe.own_texts]
    assert kept.finding.figure.value == pytest.approx(np.mean(losses), rel=1e-5)
    assert list(kept.finding.frame["loss"]) == pytest.approx(losses, rel=1e-3)
    assert (kept.outcome, kept.texts, kept.digest) == ("seen here too", 6, asked(recipe))
    assert kept.finding.picture == Picture(
        "bars", "text", "loss", x_title="Text", y_title="Nats a token", low="low", high="high"
    )
    assert back.by_key["easy"].outcome == "too few texts to say"
    assert math.isnan(back.by_key["easy"].finding.figure.low)
    # written by line: a change of one recipe is a change of one line
    text = (folder / "outcomes" / f"{found.model}.json").read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if '"hard"' in line]) == 1
    assert "NaN" not in text


def test_others_stay_and_what_a_model_cannot_answer_is_a_sentence(loaded: LoadedModel, folder: Path) -> None:
    (folder / "seen.toml").write_text(HARD.replace('name = "losses"\ntimes = 2', 'name = "lensed"'), encoding="utf-8")
    first = measure([card_of("hard")], loaded)
    found = measure([card_of("seen")], loaded, first)
    assert found.by_key.keys() == {"hard"}
    assert "there is none; train one" in found.refused["seen"]
    cured = replace(card_of("seen"), recipe=replace(card_of("hard").recipe, title="Now it can be answered"))
    assert measure([cured], loaded, found).refused == {}


def test_fewer_texts_are_the_first_ones(loaded: LoadedModel) -> None:
    kept = measure([card_of("hard")], loaded, most_texts=2).by_key["hard"]
    assert (kept.texts, kept.finding.figure.n_units, kept.outcome) == (2, 2, "too few texts to say")


def test_what_is_asked_has_a_digest_and_words_have_none() -> None:
    recipe = card_of("hard").recipe
    assert asked(replace(recipe, title="Another", question="?", note="", paper=None)) == asked(recipe)
    others = [replace(recipe, seed=1), replace(recipe, own_texts=()), replace(recipe, cut="papers")]
    others += [
        Recipe.loads(HARD.replace("times = 2", "times = 3")),
        Recipe.loads(HARD.replace("at_least = 1", "at_least = 2")),
    ]
    assert len({asked(one) for one in [recipe, *others]}) == 6


def test_pictures_and_numbers_are_bounded() -> None:
    n = 4 * MOST_MARKS + 1
    frame = pd.DataFrame({"x": range(n), "y": np.linspace(0, 1, n) / 3, "unused": ["text"] * n})
    finding = Finding(Figure("F", 1 / 3, -math.inf, math.nan), (), frame, Picture("dots", "x", "y"))
    kept = KeptOutcome.of(card_of("hard").recipe, StudyResult("losses", finding, None, 1.26), 3)
    held = json.loads(json.dumps(kept.plain(), allow_nan=False))
    assert list(held["frame"]) == ["x", "y"]
    assert len(held["frame"]["x"]) <= MOST_MARKS
    assert held["figure"]["value"] == 0.333333
    assert held["figure"]["low"] is None
    assert KeptOutcome.read(held).plain() == held


@pytest.mark.parametrize("text", ["", "{}", '{"made": {}, "recipes": {"a": {}}}', "[1]"])
def test_a_broken_store_is_named(folder: Path, text: str) -> None:
    (folder / "outcomes").mkdir()
    (folder / "outcomes" / "fable.json").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"fable\.json is no file of outcomes .*gallery --write"):
        read_outcomes("fable")
    assert read_outcomes("other") is None


def test_the_page_puts_models_side_by_side(loaded: LoadedModel, folder: Path) -> None:
    found = measure(gallery(), loaded)
    other = Outcomes({**found.made, "model": "wide"}, {}, {"hard": "It has | one layer."})
    page = document(gallery(), [found, other])
    lines = page.splitlines()
    assert "| Experiment | The paper | " + f"{found.model} | wide |" in lines
    (row,) = [line for line in lines if line.startswith("| [How hard")]
    assert "| 1 to 3 nats |" in row
    assert "seen here too: " in row
    assert row.endswith("| not possible |")
    assert "(#hard)" in row
    assert '<a id="hard"></a>' in lines
    assert "([arXiv 2406.19384](https://arxiv.org/abs/2406.19384), Table 2, read in its abstract)" in page
    assert "([A blog](https://example.org/easy), read second hand)" in page
    assert "It has \\| one layer." in page


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(arguments) == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out


def test_the_command_lists_runs_and_writes(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path, folder: Path
) -> None:
    listed = run(capsys, "gallery")
    assert "hard  How hard texts are  Is any text easy?" in listed
    where, page = str(folder / "outcomes"), str(tmp_path / "gallery.md")
    said = run(capsys, "gallery", "--write", where, "--model", str(tiny_folder), "--only", "hard", "--document", page)
    assert said.splitlines() == [f"Saved {where}/tiny.json", f"Saved {page}"]
    assert Path(page).read_text(encoding="utf-8") == document(gallery(), all_outcomes(folder / "outcomes"))
    assert "not run" in Path(page).read_text(encoding="utf-8")
    run(capsys, "gallery", "--write", where, "--model", str(tiny_folder), "--only", "easy")
    back = read_outcomes("tiny", folder / "outcomes")
    assert back is not None
    assert back.by_key.keys() == {"hard", "easy"}
    assert "There is no recipe 'soft'" in run(capsys, "gallery", "--write", where, "--only", "soft", code=2)
    assert "--most-texts is 0" in run(capsys, "gallery", "--write", where, "--most-texts", "0", code=2)
    assert "add --write FOLDER" in run(capsys, "gallery", "--only", "hard", code=2)


def test_run_takes_a_key_and_another_model(capsys: pytest.CaptureFixture[str], tiny_folder: Path) -> None:
    model = str(tiny_folder)
    said = run(capsys, "run", "hard", "--model", model)
    assert "Is any text easy?" in said
    assert "  1 to 3 nats. Texts cost between one and three nats a token. (Somebody, 2024; On hard texts;" in said
    assert "seen here too. The claim: A token costs at least one nat." in " ".join(said.split())
    assert "Texts are hard here too." in said
    content = json.loads(run(capsys, "run", "hard", "--model", model, "--json"))
    assert content["study"]["outcome"] == "seen here too"
    assert f"{content['study']['figure']['value']:.3g} (95 % interval" in said
    assert run(capsys, "run", "hard", "--model", model, "--csv").startswith("name,value,low,high")
    swept = json.loads(run(capsys, "run", "easy", "--model", model, "--json"))
    assert len(swept["sweep"]["rows"]) == 5
    assert "delete: 4 plans" in run(capsys, "run", "easy", "--model", model)
    assert "There is no recipe 'soft'" in run(capsys, "run", "soft", code=2)
    assert "Give the recipe once" in run(capsys, "run", "hard", "--recipe", "easy", code=2)
    assert "--revision goes with --model" in run(capsys, "run", "hard", "--revision", "v2", code=2)
    assert "leave out --prompt" in run(capsys, "run", "hard", "--prompt", "A", code=2)
    assert "needs --plan" in run(capsys, "run", code=2)
