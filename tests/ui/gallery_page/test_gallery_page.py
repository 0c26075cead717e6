"""The Gallery page: cards, one experiment run on the open model, own recipes, links."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from surgery_core.recipes import gallery as shipped
from surgery_core.recipes.gallery import Card, gallery
from surgery_core.recipes.measuring import measure
from surgery_core.recipes.outcomes import write_outcomes
from surgery_core.recipes.recipe import Recipe
from surgery_core.stopping import raise_if_stopped
from surgery_core.studies import every
from surgery_core.studies.finding import Finding
from surgery_core.studies.study import Study, StudySetup
from surgery_ui.work.study_jobs import study_job
from surgery_ui.work.sweep_jobs import SWEEPS
from tests.core.support.recipes import EASY, HARD, HARD_AS_WRITTEN, write_gallery
from tests.core.support.studies import LOSSES, SMALL, loss_of
from tests.ui.conftest import Open
from tests.ui.support.reading import charts, errors, said, wait


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Show two recipes of small studies, and nothing that was measured before."""
    monkeypatch.setattr(shipped, "RECIPES_FOLDER", write_gallery(tmp_path / "recipes"))
    SWEEPS._jobs.clear()
    # with the same patch as tests use: it is undone in the order in which it was done
    monkeypatch.setattr(every, "STUDIES", SMALL)
    return tmp_path / "recipes"


def opened(open_app: Open, key: str) -> AppTest:
    app = open_app("gallery")
    app.button(key=f"open-{key}").click().run()
    assert not app.exception
    return app


def badges(app: AppTest) -> str:
    return " ".join(element.value for element in app.markdown if "badge" in element.value)


def run_it(app: AppTest) -> AppTest:
    app.button(key="gallery-run").click().run()
    return wait(app, lambda: not [button for button in app.button if button.key in ("gallery-run", "cancel-study")])


def expected() -> float:
    """Return what the study of `hard` comes to, with plain torch."""
    from surgery_core.models.opening import load_model

    loaded, recipe = load_model("fable"), Recipe.loads(HARD)
    return float(np.mean([2 * loss_of(loaded.model, loaded.tokenizer, text.text) for text in recipe.own_texts]))


def test_cards_ask_their_questions_and_say_that_nothing_was_run(open_app: Open) -> None:
    app = open_app("gallery")
    assert not app.exception
    assert {button.label for button in app.button if str(button.key).startswith("open-")} == {
        "**Are texts easy?**",
        "**How hard texts are**",
    }
    assert "Is any text easy?" in said(app)
    assert (
        "**1 to 3 nats** ([arXiv 2406.19384](https://arxiv.org/abs/2406.19384), Table 2, read in its abstract)"
        in said(app)
    )
    # of a source that was read second hand there is a sentence and no number
    assert "Texts are easy, somebody wrote ([example.org/easy](https://example.org/easy), read second hand)" in said(
        app
    )
    assert "Not run yet" in badges(app)
    assert not charts(app)


def test_a_card_is_run_on_the_open_model(open_app: Open) -> None:
    app = opened(open_app, "hard")
    assert app.query_params["recipe"] in ("hard", ["hard"])
    run_it(app)
    assert not app.exception
    value = expected()
    assert f"### {value:.3g}".replace(".", "\\.") in " ".join(one.value for one in app.markdown)
    assert "Seen here too" in badges(app)
    assert "Texts are hard here too. The model is often surprised." in said(app)
    assert "just now" in said(app)
    assert "1 to 3 nats" in said(app)
    table = app.dataframe[0].value
    assert list(table["Figure"]) == ["Nats a token", "The hardest text"]
    assert table["Value"][0] == f"{value:.3g}"
    assert " to " in table["95 % interval"][0]
    assert len(charts(app)) == 1
    # back among the cards it has its picture, and the sentence counts it
    app.button(key="gallery-back").click().run()
    assert "1 seen here too" in said(app)
    assert len(charts(app)) == 1
    assert "recipe" not in app.query_params


def test_a_link_opens_a_card_and_an_unknown_key_is_explained(open_app: Open) -> None:
    app = open_app("gallery", recipe="easy")
    assert [header.value for header in app.header] == ["Are texts easy?"]
    other = open_app("gallery", recipe="soft")
    assert not other.exception
    assert "There is no experiment soft here" in said(other)
    assert len([button for button in other.button if str(button.key).startswith("open-")]) == 2


def test_what_was_measured_before_is_shown_with_its_day(open_app: Open, folder: Path) -> None:
    from surgery_core.models.opening import load_model

    open_app()  # has the folder of models in the environment
    write_outcomes(measure(gallery(), load_model("fable")), folder / "outcomes")
    held = json.loads((folder / "outcomes" / "fable.json").read_text(encoding="utf-8"))
    day = held["recipes"]["hard"]["measured"]
    app = open_app("gallery")
    assert f"measured on fable, {day}" in said(app)
    assert "1 seen here too, 1 too few texts to say" in said(app)
    assert len(charts(app)) == 2
    # what is asked has changed since: the old number is of another question
    (folder / "hard.toml").write_text(HARD.replace("times = 2", "times = 3"), encoding="utf-8")
    app.run()
    assert len(charts(app)) == 1


def test_cards_are_found_by_outcome_and_by_words(open_app: Open) -> None:
    app = open_app("gallery")

    def keys() -> list[str]:
        return [str(button.key).removeprefix("open-") for button in app.button if str(button.key).startswith("open-")]

    app.text_input(key="gallery-search").set_value("2406.19384").run()
    assert keys() == ["hard"]
    app.text_input(key="gallery-search").set_value("nothing like it").run()
    assert keys() == []
    assert "No experiment is left by this search." in said(app)


def test_a_study_is_cancelled_and_run_again(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gate = threading.Event(), threading.Event()

    def slow(setup: StudySetup) -> Finding:
        begun.set()
        while not gate.wait(0.01):
            raise_if_stopped(setup.stop, "The study was stopped.")
        return LOSSES.run(setup)

    monkeypatch.setattr(every, "STUDIES", (Study("losses", "Slow", "Slow.", slow, LOSSES.options),))
    app = opened(open_app, "hard")
    owner, loaded = app.session_state["owner"], app.session_state["loaded"]
    # as by the button, without a page that waits for it
    job = study_job(owner, loaded, Recipe.loads(HARD_AS_WRITTEN))
    assert begun.wait(20)
    SWEEPS.cancel(owner, job)
    assert job.wait(20)
    app.session_state["recipes-run"] = frozenset({(loaded.info.key, "hard")})
    app.run()
    assert "Cancelled before it was done." in said(app)
    gate.set()
    app.button(key="retry-study").click().run()
    wait(app, lambda: "Seen here too" in badges(app))


def test_what_a_model_cannot_answer_is_one_sentence_with_the_next_step(open_app: Open, folder: Path) -> None:
    (folder / "lens.toml").write_text(HARD.replace('name = "losses"\ntimes = 2', 'name = "lensed"'), encoding="utf-8")
    app = opened(open_app, "lens")
    app.button(key="gallery-run").click().run()
    wait(app, lambda: bool(app.error))
    assert "reads through a tuned lens and there is none; train one with train-lens" in errors(app)


def test_set_up_fills_in_the_sweep_page_and_keeps_the_prompt(open_app: Open) -> None:
    app = open_app("gallery", prompt="My own words")
    app.session_state["sweep-family"] = "Repeat"
    app.button(key="open-easy").click().run()
    assert "Set it up on the Sweep page" in [button.label for button in app.button]
    app.button(key="gallery-do").click().run()
    assert not app.exception
    assert app.session_state["sweep-family"] == "Delete"
    assert app.session_state["sweep-kind-Delete"] == "delete"
    assert app.session_state["prompt"] == "My own words"
    assert [header.value for header in app.header] == ["Every layer tried"]


def test_a_plan_that_does_not_fit_is_said_beside_the_button(open_app: Open, folder: Path) -> None:
    (folder / "deep.toml").write_text(
        HARD.replace("[study]", "[[plans]]\nname = 'Deep'\nplan = '0-30'\n\n[study]"), encoding="utf-8"
    )
    app = opened(open_app, "deep")
    app.button(key="gallery-do").click().run()
    assert "30" in errors(app)
    assert [header.value for header in app.header] == ["How hard texts are"]


def test_the_recipe_and_the_command_are_there(open_app: Open) -> None:
    app = opened(open_app, "hard")
    codes = [code.value for code in app.code]
    assert "python -m surgery_core run hard" in codes
    assert any("[study]" in code for code in codes)


def draft(app: AppTest, text: str) -> AppTest:
    """Drop a recipe's text on the page: AppTest has no file uploader, so its callback's other half is driven."""
    app.session_state["recipe-draft"] = text
    app.run()
    next(button for button in app.button if button.label == "Open it").click().run()
    assert not app.exception
    return app


def test_a_broken_recipe_is_named_with_its_line_and_mended_there(open_app: Open) -> None:
    app = draft(open_app("gallery"), EASY.replace("at_most = 1", "at_mots = 1"))
    line = EASY.splitlines().index("at_most = 1") + 1
    assert f"Line {line}: The recipe has an unknown field 'claim.at_mots'" in errors(app)
    assert app.text_area(key="recipe-draft").value.count("at_mots") == 1
    app.text_area(key="recipe-draft").set_value(EASY.replace("Are texts easy?", "Mine"))
    next(button for button in app.button if button.label == "Open it").click().run()
    assert not app.error
    assert [header.value for header in app.header] == ["Mine"]
    app.button(key="gallery-back").click().run()
    mine = [button for button in app.button if str(button.key).startswith("open-own-")]
    assert [button.label for button in mine] == ["**Mine**"]


def test_a_recipe_without_a_study_runs_with_all_that_it_has(open_app: Open) -> None:
    text = "version = 2\ntitle = 'Plans'\nmodel = 'fable'\ntexts = []\n"
    text += "[[plans]]\nname = 'First'\nplan = '0-2'\n[[plans]]\nname = 'Second'\nplan = '0,2-3'\n"
    text += "[[own_texts]]\ntitle = 'A'\ntext = 'The old woman had a cat.'\n"
    app = draft(open_app("gallery"), text)
    run_it(app)
    table = app.dataframe[0].value
    assert list(table["name"]) == ["First", "Second"]
    assert (table["ratio"] > 0).all()


def test_a_broken_file_that_comes_along_is_named_and_the_page_stands(open_app: Open, folder: Path) -> None:
    (folder / "hard.toml").write_text("version = 2", encoding="utf-8")
    app = open_app("gallery")
    assert not app.exception
    assert "hard.toml: The recipe's field 'model' is missing" in errors(app)


def test_figures_and_picture_can_be_kept(open_app: Open) -> None:
    app = opened(open_app, "hard")
    run_it(app)
    app.session_state["keep"] = True
    app.run()
    assert not app.exception
    assert {"Figures", "The picture"} <= set(app.selectbox(key="keep-table").options)


def test_the_experiment_is_offered_as_a_script_a_report_and_a_recipe(
    open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened(open_app, "hard")
    run_it(app)
    app.session_state["keep"] = True
    app.run()
    offered = {one.label for one in app.get("download_button")}
    assert {"Script", "Notebook", "Recipe"} <= offered
    assert app.pills(key="keep-report-parts-gallery").value == ["study"]
    monkeypatch.setattr(
        "surgery_core.keeping.report.findings.run_study", lambda *given, **more: pytest.fail("run again")
    )
    app.button(key="keep-report-gallery").click().run()
    app = wait(app, lambda: any(one.label == "Report" for one in app.run().get("download_button")))
    assert not app.exception


def test_an_experiment_whose_plan_the_open_model_is_too_short_for_keeps_the_page_standing(open_app: Open) -> None:
    text = HARD.replace('model = "fable"', 'model = "fable"\nplan = "0-11"', 1)
    app = draft(open_app("gallery"), text)
    app.session_state["keep"] = True
    app.run()
    assert not app.exception
    assert "Script" not in {one.label for one in app.get("download_button")}


def test_cards_are_hashable_as_keys_of_jobs() -> None:
    assert len({Card("a", Recipe.loads(HARD), ""), Card("a", Recipe.loads(HARD), "")}) == 1


def test_an_experiment_that_is_opened_under_keep_is_of_the_unchanged_model(open_app: Open) -> None:
    app = open_app(plan="0,3")
    app.session_state["keep"] = True
    app.run()
    app.text_area(key="keep-pasted").set_value(EASY).run()
    assert not app.exception
    assert app.query_params["plan"] in ("0-3", ["0-3"])
    # the Sweep page scores a set of texts or one of one's own, not six of them
    assert "The recipe has a sweep and a study; drop it on the Gallery page to run that." in errors(app)
