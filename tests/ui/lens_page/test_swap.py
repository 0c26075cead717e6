"""A word swapped on the Lens page: what is written is that of a model with the two coordinates exchanged by hand."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from surgery_core.lenses.jacobian import Jacobians
from surgery_core.lenses.jacobian_files import save_jacobians
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.swap_choice import SwapChoice
from surgery_ui.lens_page.swap import EVERYWHERE, HERE
from surgery_ui.work import plan_jobs
from surgery_ui.work.study_jobs import study_job
from tests.swap_by_hand import written_by_hand
from tests.ui.conftest import Open
from tests.ui.lens_page.test_lens_page import choose, take
from tests.ui.support.reading import errors, said, wait, written
from tests.ui.test_keep import kept as kept

TEXT = "The old woman had a"
MATRICES = {
    at: torch.eye(32) + 0.1 * torch.randn((32, 32), generator=torch.Generator().manual_seed(at)) for at in range(3)
}


@pytest.fixture(scope="module")
def models_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two models, of which the first has a Jacobian lens beside it."""
    folder = tmp_path_factory.mktemp("with-lens")
    for name in ("fable", "other"):
        # with times of its own: else it counts as the model that other tests have open, which has no lens beside it
        shutil.copytree(tiny_folder, folder / name, copy_function=shutil.copy)
    save_jacobians(Jacobians(MATRICES, 7, target=3, n_layers=4), folder / "fable" / "jacobian-lens")
    return folder


def page(open_app: Open, plan: str = "0-3", **more: str) -> AppTest:
    app = open_app("lens", **({"plan": plan, "lens": TEXT, "reading": "jacobian", "length": "6"} | more))
    assert not app.exception
    return app


def swap(
    app: AppTest, label: str = "L1", token: int = 3, typed: str = "t", where: str = EVERYWHERE, side: str = "before"
) -> None:
    app.session_state["cell"] = (side, label, token)
    app.run()
    app.text_input(key="swap-target").set_value(typed).run()
    choose(app, "swap-where", where)
    app.button(key="swap-start").click().run()
    assert not app.exception


def strong(app: AppTest, strength: float) -> None:
    app.slider(key="swap-strength").set_value(strength).run()
    assert not app.exception


def by_hand(
    folder: Path, order: list[int], slot: int, source: str, target: str, strength: float, where: list[int] | None = None
) -> str:
    matrix = MATRICES[order[slot]]
    return written_by_hand(folder / "fable", order, slot, matrix, (source, target), TEXT, 6, strength, where)


def same(shown: str, expected: str) -> bool:
    """Whether a page shows a text; bytes that are no letters it shows as pictures."""
    return [one for one in shown if one.isalnum()] == [one for one in expected if one.isalnum()]


def test_before_a_swap_the_page_says_what_is_missing(open_app: Open) -> None:
    app = page(open_app, reading="logit")
    assert "Read with a Jacobian lens to swap a word: choose it above the maps." in said(app)
    app = page(open_app)
    assert "Click a cell of the map, or choose one above, to swap a word there." in said(app)
    for label, why in (
        ("input", "this cell is of the input; click one of a whole layer"),
        ("L3", "The lens has no matrix for what leaves L3"),
    ):
        app.session_state["cell"] = ("before", label, 3)
        app.run()
        assert why in said(app)
        assert not [button for button in app.button if button.key == "swap-start"]
    app = page(open_app, model="other")
    assert "Read with a Jacobian lens to swap a word: fit one below." in said(app)


def test_the_text_is_written_again_beside_the_others(open_app: Open, models_folder: Path) -> None:
    app = page(open_app, "0,2-3")
    swap(app, "L2", side="after")
    source = app.selectbox(key="swap-source").value
    strong(app, 4.0)
    before, after, swapped = written(app)
    assert "In what leaves L2 after surgery, at every token" in said(app)
    assert same(swapped, by_hand(models_folder, [0, 2, 3], 1, source, "t", 4.0))
    assert same(after, by_hand(models_folder, [0, 2, 3], 0, "c", "t", 0.0))
    assert same(before, by_hand(models_folder, [0, 1, 2, 3], 0, "c", "t", 0.0))
    assert swapped != after
    # the same word on the side of the unchanged model
    swap(app, "L2")
    before, after, other = written(app)
    assert same(other, by_hand(models_folder, [0, 1, 2, 3], 2, app.selectbox(key="swap-source").value, "t", 4.0))


def test_one_token_alone_is_swapped(open_app: Open, models_folder: Path) -> None:
    app = page(open_app)
    swap(app, "L1", 18, where=HERE)
    source = app.selectbox(key="swap-source").value
    app.session_state["swap"] = type(app.session_state["swap"])(
        **(vars(app.session_state["swap"]) | {"strength": 10.0})
    )
    app.run()
    assert "In what leaves L1, at token 18" in said(app)
    before, swapped = written(app)
    assert same(swapped, by_hand(models_folder, [0, 1, 2, 3], 1, source, "t", 10.0, [18]))
    assert swapped != before


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "There is no word to put in its place; type one, such as wolf."),
        ("two words", "'two words' is not one token here"),
        ("\u4e16", "is not one token here"),
    ],
)
def test_a_word_that_cannot_take_the_place_is_said_beside_the_button(open_app: Open, typed: str, why: str) -> None:
    app = page(open_app)
    swap(app, typed=typed)
    assert why in errors(app)
    assert not written(app)


def test_a_word_cannot_take_its_own_place(open_app: Open) -> None:
    app = page(open_app)
    app.session_state["cell"] = ("before", "L1", 3)
    app.run()
    source = next(one for one in app.selectbox(key="swap-source").options if one.isalnum())
    app.selectbox(key="swap-source").set_value(source).run()
    swap(app, typed=source)
    assert "are the same token; choose another one to put in its place" in errors(app)


def test_an_edit_keeps_the_swap_where_its_layer_runs_and_says_where_it_does_not(
    open_app: Open, models_folder: Path
) -> None:
    app = page(open_app, "0,2-3")
    swap(app, "L2", side="after")
    source = app.selectbox(key="swap-source").value
    strong(app, 4.0)
    app.text_input(key="notation").set_value("0,1,2,3,3").run()
    assert not app.exception
    assert same(written(app)[-1], by_hand(models_folder, [0, 1, 2, 3, 3], 2, source, "t", 4.0))
    app.text_input(key="notation").set_value("0-1,3").run()
    assert (
        "L2 does not run in this plan, so no word can be swapped behind it; click a cell of another layer."
        in errors(app)
    )
    assert not written(app)
    app.button(key="swap-end").click().run()
    assert not errors(app)
    assert app.session_state["swap"] is None


def test_a_text_that_is_too_short_for_the_swap_is_said(open_app: Open) -> None:
    app = page(open_app)
    swap(app, "L1", 18, where=HERE)
    app.text_area(key="lens").set_value("The old").run()
    assert not app.exception
    assert "The swap is at token 18, and the text has 7, counted from 0; click a cell of this text." in errors(app)


def test_another_lens_lets_the_swap_rest_and_another_model_forgets_it(open_app: Open) -> None:
    app = page(open_app)
    swap(app)
    assert len(written(app)) == 2
    choose(app, "lens-kind", "logit")
    assert not written(app)
    choose(app, "lens-kind", "jacobian")
    assert len(written(app)) == 2


def test_what_is_kept_is_the_swap_and_a_recipe_brings_it_back(
    open_app: Open, kept: dict[str, Any], models_folder: Path
) -> None:
    app = page(open_app, "0,2-3")
    swap(app, "L2", side="after")
    strong(app, 4.0)
    source = app.selectbox(key="swap-source").value
    (text,) = [one for name, one in kept.items() if name.endswith(".toml")]
    recipe = Recipe.loads(text)
    assert recipe.swap == SwapChoice(1, source, "t", strength=4.0)
    assert recipe.lens == TEXT
    assert "run_swap" in kept["fable-lens.py"]
    other = page(open_app)
    (pasted,) = [one for one in other.text_area if one.key == "keep-pasted"]
    pasted.set_value(text).run()
    wait(other, lambda: len(written(other)) == 3)
    assert not other.exception
    assert not other.error
    assert same(written(other)[-1], by_hand(models_folder, [0, 2, 3], 1, source, "t", 4.0))


def test_a_lens_of_ones_own_is_named_as_the_folder_that_is_saved_and_a_page_opens_none(
    open_app: Open, kept: dict[str, Any]
) -> None:
    app = page(open_app)
    take(app, Jacobians({at: 2 * matrix for at, matrix in MATRICES.items()}, 3, target=3, n_layers=4))
    swap(app)
    (text,) = [one for name, one in kept.items() if name.endswith(".toml")]
    named = Recipe.loads(text).swap
    assert named is not None
    assert named.lens == "fable-lens"
    other = page(open_app)
    (pasted,) = [one for one in other.text_area if one.key == "keep-pasted"]
    pasted.set_value(text).run()
    assert "reads with the lens 'fable-lens'; open that lens on the Lens page and swap there" in errors(other)
    assert other.session_state["swap"] is None
    (loaded,) = (one for one in plan_jobs.open_models() if one.info.name == "fable")
    job = study_job("somebody", loaded, Recipe.loads(text))
    wait(other, lambda: job.done)
    assert "reads with the lens 'fable-lens'" in str(job.error)


def test_a_report_of_the_page_has_the_swap(open_app: Open, kept: dict[str, Any]) -> None:
    app = page(open_app, "0,2-3")
    swap(app, "L2", side="after")
    strong(app, 4.0)
    swapped = written(app)[-1]
    before = set(kept)
    app.button(key="keep-report-lens").click().run()
    app = wait(app, lambda: set(kept) - before)
    (name,) = set(kept) - before
    text = kept[name]().decode("utf-8")
    assert "A word swapped" in text
    letters = "".join(one for one in swapped if one.isalnum())
    assert letters in "".join(one for one in text if one.isalnum())
