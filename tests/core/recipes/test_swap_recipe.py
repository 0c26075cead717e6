"""A recipe's swap: what is written is that of plain transformers with the two coordinates exchanged by hand."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from surgery_core.cli.options import main
from surgery_core.errors import LensError, RecipeError, SettingsError, TextError
from surgery_core.keeping.report.asked import Asked
from surgery_core.keeping.report.findings import find
from surgery_core.keeping.report.page import report_page
from surgery_core.keeping.report.verify import verify
from surgery_core.lenses.jacobian import Jacobians
from surgery_core.lenses.jacobian_files import save_jacobians
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.run import run_recipe
from surgery_core.recipes.swap_choice import SwapChoice
from surgery_core.recipes.swapped import run_swap
from surgery_core.surgery.view import operate
from tests.swap_by_hand import written_by_hand

LENS_TEXT = "The old woman had a"
NEW = 6


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder), device="cpu")


@pytest.fixture(scope="module")
def fitted(loaded: LoadedModel) -> Jacobians:
    """Return matrices near the unit matrix, each layer's another one."""
    generator, width = torch.Generator().manual_seed(3), loaded.info.d_model
    matrices = {at: torch.eye(width) + 0.1 * torch.randn((width, width), generator=generator) for at in range(3)}
    return Jacobians(matrices, 7, target=3, n_layers=4)


@pytest.fixture(scope="module")
def folder(fitted: Jacobians, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_jacobians(fitted, tmp_path_factory.mktemp("lens") / "lens"))


@pytest.fixture(scope="module")
def words() -> tuple[str, str]:
    """Return two tokens of the tiny model, whose tokens are bytes."""
    return "c", "t"


def recipe(words: tuple[str, str], lens: str, plan: str | None = "0,2-3", **more: Any) -> Recipe:
    choice = SwapChoice(**({"slot": 1, "source": words[0], "target": words[1], "lens": lens} | more))
    return Recipe("tiny", plan, texts=(), lens=LENS_TEXT, max_new_tokens=NEW, swap=choice)


def by_hand(
    folder: Path, order: list[int], slot: int, matrix: torch.Tensor, words: tuple[str, str], strength: float = 1.0,
    where: list[int] | None = None,
) -> str:  # fmt: skip
    return written_by_hand(folder, order, slot, matrix, words, LENS_TEXT, NEW, strength, where)


@pytest.mark.parametrize(
    ("more", "order", "slot", "matrix", "strength", "where"),
    [
        ({}, [0, 2, 3], 1, 2, 1.0, None),
        ({"strength": 3.0}, [0, 2, 3], 1, 2, 3.0, None),
        ({"positions": (17, 18), "strength": 10.0}, [0, 2, 3], 1, 2, 10.0, [17, 18]),
        ({"follow": "position", "strength": 4.0}, [0, 2, 3], 1, 1, 4.0, None),
        ({"side": "before", "slot": 2, "strength": 4.0}, [0, 1, 2, 3], 2, 2, 4.0, None),
    ],
)
def test_the_swapped_text_is_that_of_a_model_built_by_hand(
    loaded: LoadedModel, fitted: Jacobians, folder: str, words: tuple[str, str], tiny_folder: Path,
    more: dict[str, Any], order: list[int], slot: int, matrix: int, strength: float, where: list[int] | None,
) -> None:  # fmt: skip
    report = run_recipe(recipe(words, folder, **more), loaded=loaded)
    assert report.swap is not None
    expected = by_hand(tiny_folder, order, slot, fitted.matrices[matrix], words, strength, where)
    assert report.swap.swapped.text == expected
    plain = [by_hand(tiny_folder, layers, 0, fitted.matrices[0], words, 0.0) for layers in ([0, 1, 2, 3], [0, 2, 3])]
    assert report.swap.after is not None
    assert [report.swap.before.text, report.swap.after.text] == plain
    if strength > 2:
        assert expected not in plain


def test_the_unchanged_model_has_no_text_after(loaded: LoadedModel, folder: str, words: tuple[str, str]) -> None:
    found = run_recipe(recipe(words, folder, plan=None), loaded=loaded)
    assert found.swap is not None
    assert list(found.swap.written) == ["before", "swapped"]
    assert (found.comparison, found.swap.side) == (None, "before")
    assert json.loads(json.dumps(found.to_dict()))["swap"]["choice"]["slot"] == 1


def test_the_shared_model_stays_as_it_was(loaded: LoadedModel, folder: str, words: tuple[str, str]) -> None:
    ids = torch.tensor([loaded.tokenizer(LENS_TEXT)["input_ids"]])
    before = loaded.model(ids).logits.clone()
    run_recipe(recipe(words, folder, side="before", strength=5.0), loaded=loaded)
    assert torch.equal(loaded.model(ids).logits, before)


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"slot": 7}, SettingsError, "There is no slot 7; they are 0 to 2"),
        ({"slot": 2}, LensError, "no matrix for what leaves slot 2; choose one of 0, 1"),
        ({"target": "no such word here"}, TextError, "is not one token here"),
        ({"lens": ""}, LensError, "came without a Jacobian lens; name the file of one, or fit one"),
    ],
)
def test_what_cannot_be_swapped_is_said(
    loaded: LoadedModel, folder: str, words: tuple[str, str], more: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        run_recipe(recipe(words, folder, **more) if "lens" not in more else recipe(words, ""), loaded=loaded)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("slot = -1", "'swap.slot' is -1; slots are counted from 0"),
        ('slot = "L5"', "'swap.slot' must be a whole number"),
        ('slot = 1\nsource = ""', "'swap.source' is empty; write one token"),
        ('slot = 1\nsource = "b"', "'swap.target' is 'b', as the source"),
        ("slot = 1\nstrength = 11", "'swap.strength' is 11.0; it must be from -10 to 10"),
        ("slot = 1\nstrength = nan", "'swap.strength' is nan; it must be from -10 to 10"),
        ("slot = 1\npositions = []", "'swap.positions' is []; give some from 0 on"),
        ("slot = 1\npositions = [1, -2]", "'swap.positions' is [1, -2]; give some from 0 on"),
        ("slot = 1\npositions = [1, true]", "'swap.positions[1]' must be a whole number"),
        ('slot = 1\nside = "left"', "'swap.side' is 'left'; there are before and after"),
        ('slot = 1\nfollow = "me"', "'swap.follow' is 'me'; there are layer and position"),
        ("slot = 1\nstrenght = 1", "unknown field 'swap.strenght'; allowed: slot, source"),
        ("strength = 1", "'swap.slot' is missing; add it"),
    ],
)
def test_a_wrong_swap_names_its_field_and_line(line: str, said: str) -> None:
    own = "\n".join(one for one in ('source = "a"', 'target = "b"') if one.split(" ")[0] not in line)
    with pytest.raises(RecipeError) as caught:
        Recipe.loads(f'version = 2\nmodel = "m"\nplan = "0"\nlens = "Once"\n\n[swap]\n{own}\n{line}\n')
    assert said in str(caught.value)
    assert str(caught.value).startswith("Line ")


def test_a_swap_needs_a_text_and_version_2() -> None:
    with pytest.raises(RecipeError, match="continues a text and there is none; give lens, or prompts"):
        Recipe("m", "0", swap=SwapChoice(0, "a", "b"))
    table = '[swap]\nslot = 0\nsource = "a"\ntarget = "b"\n'
    with pytest.raises(RecipeError, match="needs version = 2"):
        Recipe.loads(f'version = 1\nmodel = "m"\nplan = "0"\nlens = "x"\n{table}')
    with pytest.raises(RecipeError, match="has no swap to run"):
        run_swap(Recipe("m", "0"), None, None)  # type: ignore[arg-type]


def test_a_report_shows_the_texts_and_verify_writes_them_again(
    loaded: LoadedModel, folder: str, words: tuple[str, str], tmp_path: Path
) -> None:
    asked = recipe(words, folder, strength=4.0)
    found = find(asked, Asked(("swap",)), loaded=loaded)
    assert found.swap is not None
    page = tmp_path / "report.html"
    page.write_text(report_page(found), encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    assert "A word swapped" in text
    assert "change places, strength 4" in text
    result = verify(page, loaded=loaded)
    assert result.holds
    assert {"swap: text before", "swap: text after", "swap: text swapped"} <= {line.name for line in result.lines}
    # another text in its place is seen
    other = text.replace('data-says="swap: text swapped">', 'data-says="swap: text swapped">never ')
    page.write_text(other, encoding="utf-8")
    wrong = {line.name: line.outcome for line in verify(page, loaded=loaded).lines if not line.holds}
    assert wrong["swap: text swapped"] == "shown otherwise"


def test_the_command_line_runs_it_and_checks_it(
    folder: str, words: tuple[str, str], tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    loaded: LoadedModel,
) -> None:  # fmt: skip
    file = tmp_path / "swap.toml"
    asked = recipe(words, folder, strength=4.0)
    Recipe(**(vars(asked) | {"model": str(tiny_folder)})).dump(file)
    assert main(["run", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["swap"]
    expected = run_recipe(asked, loaded=loaded).swap
    assert expected is not None
    assert [said[side]["text"] for side in ("before", "after", "swapped")] == [
        text.text for text in expected.written.values()
    ]
    assert main(["run", str(file)]) == 0
    assert "change places, strength 4" in capsys.readouterr().out
    report = tmp_path / "swap.html"
    assert main(["report", "--recipe", str(file), "--to", str(report)]) == 0
    capsys.readouterr()
    assert main(["verify", str(report)]) == 0
    assert "swap: text swapped" in capsys.readouterr().out


def test_progress_counts_the_texts_and_a_stop_ends_them(
    loaded: LoadedModel, fitted: Jacobians, folder: str, words: tuple[str, str]
) -> None:
    seen: list[tuple[int, int]] = []
    asked = recipe(words, folder)
    view = operate(loaded.model, "0,2-3")
    run_swap(asked, loaded, view, fitted, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    stop = threading.Event()
    stop.set()
    assert {text.ended for text in run_swap(asked, loaded, view, fitted, stop=stop).written.values()} == {"stopped"}
