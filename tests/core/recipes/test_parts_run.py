"""Plans side by side, the sweep and the study of a recipe come to what they come to one by one."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from surgery_core.errors import PlanError, RecipeError, SettingsError, Stopped
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.recipes.chosen_set import ChosenSet
from surgery_core.recipes.parts import Claimed, Meaning, NamedPlan, Paper, StudyChoice, SweepChoice
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.run import run_recipe
from surgery_core.recipes.scored import swept_texts, texts_of, titles_of
from surgery_core.recipes.studied import run_study, tuned_lens
from surgery_core.text import Text, as_papers, text_sets
from tests.core.recipes.test_run import by_hand
from tests.core.support.studies import loss_of, small_studies

WORDS = (
    "The old woman had a cat.",
    "A fox ran.",
    "Rain fell all night.",
    "He went.",
    "Nobody knew it.",
    "One, two, three.",
)
TEXTS = tuple(Text(f"T{at}", text) for at, text in enumerate(WORDS))
PAPER = Paper(
    "A paper", "Texts are hard.", "abstract", "Somebody, 2024", "2406.19384", where="Table 2", figure="1 to 3"
)
MEANING = Meaning("Hard.", "Easy.", "Unclear.")


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder))


def recipe(**values: object) -> Recipe:
    return Recipe("tiny", texts=(), own_texts=TEXTS, **values)  # type: ignore[arg-type]


def test_plans_side_by_side_are_models_built_by_hand(loaded: LoadedModel) -> None:
    plans = (NamedPlan("Without L1", "0,2,3"), NamedPlan("Backwards", "3-0"))
    report = run_recipe(recipe(plans=plans), loaded=loaded)
    assert (report.comparison, report.continuations, str(report.plan)) == (None, (), "0-3")
    assert [(one.name, str(one.plan)) for one in report.plans] == [("Without L1", "0,2-3"), ("Backwards", "3-0")]
    for found, order in zip(report.plans, ([0, 2, 3], [3, 2, 1, 0]), strict=True):
        for row, text in zip(found.comparison.rows, TEXTS, strict=True):
            assert row.after.perplexity == pytest.approx(by_hand(order, text.text), rel=1e-5)
            assert row.before.perplexity == pytest.approx(by_hand([0, 1, 2, 3], text.text), rel=1e-5)
        said = found.row()
        assert said["low"] <= said["ratio"] <= said["high"]
        assert said["verdict"] == found.comparison.verdict().word
        assert (said["layers"], said["n_units"]) == (len(order), 6)


def test_a_sweep_is_of_the_recipes_plan(loaded: LoadedModel) -> None:
    report = run_recipe(recipe(plan="0,2,3", sweep=SweepChoice("delete")), loaded=loaded)
    assert report.comparison is not None
    assert report.sweep is not None
    assert [(row.number, row.plan) for row in report.sweep.rows] == [(-1, "0,2-3"), (0, "2-3"), (1, "0,3"), (2, "0,2")]
    total = sum(loss_by_hand([0, 3], text.text) for text in TEXTS)
    assert math.log(report.sweep.rows[2].perplexity) == pytest.approx(
        total / sum(len(t.text) - 1 for t in TEXTS), rel=1e-5
    )


@pytest.mark.parametrize("cut", ["each", "papers"])
def test_a_sweep_scores_those_of_the_recipes_texts_that_it_names(loaded: LoadedModel, cut: str) -> None:
    own = tuple(Text(text.title, text.text if cut == "each" else " ".join([text.text] * 12)) for text in TEXTS)
    chosen = (own[3], own[1])
    asked = Recipe(
        "tiny", "0,2,3", texts=(), own_texts=own, cut=cut,
        sweep=SweepChoice("delete", texts=tuple(text.title for text in chosen)),
    )  # fmt: skip
    report = run_recipe(asked, loaded=loaded)
    assert report.comparison is not None
    assert len(report.comparison.rows) > 2, "the rest is over all texts"
    assert report.sweep is not None
    parts, joined = [text.text for text in chosen], "\n\n".join(text.text for text in chosen)
    if cut == "papers":  # a token is a letter, and the model reads 128 at most
        parts = [joined[at : at + 128] for at in range(0, len(joined) - 127, 128)]
    total = sum(loss_by_hand([0, 3], part) for part in parts)
    assert math.log(report.sweep.rows[2].perplexity) == pytest.approx(
        total / sum(len(part) - 1 for part in parts), rel=1e-5
    )


def test_a_sweep_of_a_text_that_is_not_there_or_there_twice_says_so(loaded: LoadedModel) -> None:
    with pytest.raises(RecipeError, match="names the text 'None such', which the recipe does not score; there are: "):
        run_recipe(recipe(plan="0", sweep=SweepChoice("delete", texts=("None such",))), loaded=loaded)
    twice = (Text("Twin", "One."), Text("Twin", "Another."))
    with pytest.raises(RecipeError, match="'Twin', and the recipe has 2 of that title; give each its own"):
        swept_texts(Recipe("fable", "0", texts=(), own_texts=twice), ("Twin",))


@given(
    st.sampled_from([None, "stories"]), st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True), st.booleans(),
    st.sampled_from(["each", "papers"]),
)  # fmt: skip
def test_chosen_texts_are_found_again_by_their_titles(name: str | None, picks: list[int], own: bool, cut: str) -> None:
    text_set = None if name is None else ChosenSet(name)
    mine = (Text("Mine", "Once there was a fox."),) if own else ()
    asked = Recipe("fable", "0", text_set=text_set, own_texts=mine, cut=cut)
    known = text_sets()[name or "short"].texts
    chosen = tuple(known[at] for at in sorted(picks))
    texts = (as_papers(chosen),) if cut == "papers" else chosen
    titles = titles_of(asked, texts)
    assert swept_texts(asked, titles) == texts
    assert (titles is None) == (texts == texts_of(asked))
    if own:
        alone = (as_papers(mine),) if cut == "papers" else mine
        assert titles_of(asked, alone) == ("Mine",)
        assert swept_texts(asked, ("Mine",)) == alone
    assert titles_of(asked, (Text("Elsewhere", "Of another recipe."),)) is None


def loss_by_hand(order: list[int], text: str) -> float:
    return math.log(by_hand(order, text)) * (len(text) - 1)


@pytest.mark.parametrize(("ends", "outcome"), [((0.0, math.inf), "seen here too"), ((-1.0, 0.0), "not seen here")])
def test_a_study_has_its_figure_interval_and_outcome(
    loaded: LoadedModel, ends: tuple[float, float], outcome: str
) -> None:
    losses = np.array([3 * loss_of(loaded.model, loaded.tokenizer, text.text) for text in TEXTS])
    low, high = stats.t.interval(0.95, 5, losses.mean(), stats.sem(losses))
    with small_studies():
        asked = recipe(
            study=StudyChoice("losses", (("times", 3),)), claim=Claimed("Hard.", *ends), meaning=MEANING, paper=PAPER
        )
        seen: list[tuple[int, int]] = []
        report = run_recipe(asked, loaded=loaded, on_progress=lambda done, total: seen.append((done, total)))
        content = json.loads(json.dumps(report.to_dict()))["study"]
    assert seen == [(at, 6) for at in range(1, 7)]
    figure = content["figure"]
    assert (figure["value"], figure["low"], figure["high"]) == pytest.approx((losses.mean(), low, high), rel=1e-6)
    assert content["outcome"] == outcome
    assert content["meaning"] == {"seen here too": "Hard.", "not seen here": "Easy."}[outcome]
    assert content["paper"]["figure"] == "1 to 3"
    assert content["paper"]["link"] == "https://arxiv.org/abs/2406.19384"
    assert [row["loss"] for row in content["frame"]] == pytest.approx(losses)
    assert content["others"][0]["value"] == pytest.approx(losses.max())
    assert content["seconds"] > 0


def test_a_study_without_a_claim_has_no_outcome(loaded: LoadedModel) -> None:
    with small_studies():
        assert run_study(recipe(study=StudyChoice("losses")), loaded, TEXTS).outcome is None
    with pytest.raises(RecipeError, match="has no study to run"):
        run_study(recipe(plan="0"), loaded, TEXTS)


def test_all_parts_share_one_progress(loaded: LoadedModel) -> None:
    calls: list[tuple[int, int]] = []
    with small_studies():
        whole = recipe(
            plan="0,3", prompts=("A",), max_new_tokens=2, plans=(NamedPlan("One", "0"),), sweep=SweepChoice("delete"),
            study=StudyChoice("losses"),
        )  # fmt: skip
        report = run_recipe(whole, loaded=loaded, on_progress=lambda done, total: calls.append((done, total)))
    assert None not in (report.comparison, report.sweep, report.study)
    assert len(report.continuations) == len(report.plans) == 1
    assert calls == sorted(calls)
    assert {total for _, total in calls} == {4000}
    assert calls[-1] == (4000, 4000)


def test_what_cannot_be_answered_is_one_sentence(loaded: LoadedModel) -> None:
    stop = threading.Event()
    stop.set()
    with small_studies():
        with pytest.raises(SettingsError, match="needs a tuned lens|reads through a tuned lens and there is none"):
            run_recipe(recipe(study=StudyChoice("lensed")), loaded=loaded)
        with pytest.raises(Stopped):
            run_recipe(recipe(study=StudyChoice("losses")), loaded=loaded, stop=stop)
    with pytest.raises(PlanError, match="layer 9"):
        run_recipe(recipe(plans=(NamedPlan("Deep", "0-9"),)), loaded=loaded)
    with pytest.raises(SettingsError, match="needs at least"):
        run_recipe(recipe(plan="0", sweep=SweepChoice("reverse-middle")), loaded=loaded)


def test_the_lens_of_the_bundled_model_is_found_and_none_is_made_up(loaded: LoadedModel) -> None:
    assert tuned_lens(loaded) is None
    fable = load_model("fable")
    lens = tuned_lens(fable)
    assert lens is not None
    assert lens.translators.n_layers == fable.info.n_layers
