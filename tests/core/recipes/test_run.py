"""Running a recipe gives what its parts give one by one."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch

from surgery_core.errors import ModelLoadError, PlanError, RecipeError, Stopped
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.run import operated_model, run_recipe
from surgery_core.recipes.scored import texts_of
from surgery_core.text import Text, bundled_texts
from tests.tiny import build_model, build_tokenizer

STORY = Text("A story", "The old woman had a cat, and the cat had a hat.")
PROMPT = "Once upon"


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder))


def recipe(plan: str, **changes: object) -> Recipe:
    values = {"texts": (), "own_texts": (STORY,), "prompts": (PROMPT,), "max_new_tokens": 8, **changes}
    return Recipe("tiny", plan, **values)  # type: ignore[arg-type]


def by_hand(order: list[int], text: str) -> float:
    """Return the perplexity of a text under a model rebuilt by hand with these layers."""
    base = build_model("llama")
    rebuilt = build_model("llama", num_hidden_layers=len(order))
    state = {key: value for key, value in base.state_dict().items() if ".layers." not in key}
    for at, layer in enumerate(order):
        old, new = f"model.layers.{layer}.", f"model.layers.{at}."
        state |= {key.replace(old, new): value for key, value in base.state_dict().items() if key.startswith(old)}
    rebuilt.load_state_dict(state)
    ids = torch.tensor([build_tokenizer()(text).input_ids])
    return float(rebuilt(ids, labels=ids).loss.double().exp())


def test_the_scores_are_those_of_models_built_by_hand(loaded: LoadedModel) -> None:
    frame = run_recipe(recipe("0,2,1,3x2"), loaded=loaded).frame()
    assert list(frame["title"]) == ["A story"]
    assert frame["perplexity_before"][0] == pytest.approx(by_hand([0, 1, 2, 3], STORY.text), rel=1e-5)
    assert frame["perplexity_after"][0] == pytest.approx(by_hand([0, 2, 1, 3, 3], STORY.text), rel=1e-5)


def test_prompts_are_continued_greedily_by_both_sides(loaded: LoadedModel) -> None:
    report = run_recipe(recipe("0,3", own_texts=()), loaded=loaded)
    (continuation,) = report.continuations
    ids = torch.tensor([loaded.tokenizer(PROMPT).input_ids])
    expected = loaded.model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    assert continuation.before.text == loaded.tokenizer.decode(expected, skip_special_tokens=True)
    assert continuation.before.text != continuation.after.text
    assert report.comparison is None
    assert report.frame().empty


def test_the_identity_changes_nothing(loaded: LoadedModel) -> None:
    report = run_recipe(recipe("0-3", temperature=1.0, seed=5), loaded=loaded)
    assert report.comparison is not None
    assert report.comparison.kl == pytest.approx(0, abs=1e-7)
    assert report.comparison.top1 == 1
    assert report.continuations[0].before.text == report.continuations[0].after.text


def test_a_report_says_what_ran_and_is_plain_json(loaded: LoadedModel) -> None:
    content = json.loads(json.dumps(run_recipe(recipe("0, 1, 2"), loaded=loaded).to_dict()))
    assert content["plan"] == "0-2"
    assert content["model"]["revision"] == loaded.info.revision
    assert Recipe.loads(content["recipe"]) == recipe("0, 1, 2")
    assert content["texts"][0]["title"] == "A story"
    assert content["total"]["perplexity_after"] == pytest.approx(content["texts"][0]["perplexity_after"])


def test_a_recipe_opens_its_own_model(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(tiny_folder.parent))
    assert run_recipe(recipe("3", prompts=()), device="cpu", dtype="bfloat16").model.dtype == "bfloat16"


def test_a_plan_that_does_not_fit_the_model_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(PlanError, match="no layer 4"):
        run_recipe(recipe("0-4"), loaded=loaded)


def test_donors_are_opened_by_name(loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    donor = build_model("llama", seed=1)
    donor.save_pretrained(tmp_path / "other")
    build_tokenizer().save_pretrained(tmp_path / "other")
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(tmp_path))
    ids = torch.tensor([loaded.tokenizer(STORY.text).input_ids])

    donated = operated_model(loaded, LayerPlan.parse("0,other:1,2-3", 4))
    by_hand = build_model("llama")
    by_hand.model.layers[1].load_state_dict(donor.model.layers[1].state_dict())
    assert torch.allclose(donated(ids).logits, by_hand(ids).logits, atol=1e-5)


def test_a_mean_is_taken_over_the_bundled_texts(loaded: LoadedModel) -> None:
    model, tokenizer = loaded.model, loaded.tokenizer
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    handle = model.model.layers[3].register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    for text in (STORY, *bundled_texts()):
        model(torch.tensor([tokenizer(text.text).input_ids[: loaded.info.context_length]]))
    handle.remove()
    (entering, _), *rest = seen
    mean = torch.cat([(after - before)[0] for before, after in rest]).mean(0)
    expected = model.lm_head(model.model.norm(entering + mean))

    averaged = operated_model(loaded, LayerPlan.parse("0-2,mean(3)", 4))
    ids = torch.tensor([tokenizer(STORY.text).input_ids])
    torch.testing.assert_close(averaged(ids).logits, expected, rtol=1e-3, atol=1e-4)


def test_a_donor_that_is_not_there_is_named(loaded: LoadedModel) -> None:
    with pytest.raises(ModelLoadError, match="'nobody'"):
        run_recipe(recipe("0,nobody:1"), loaded=loaded)


def test_progress_ends_complete_and_stop_stops(loaded: LoadedModel) -> None:
    calls: list[tuple[int, int]] = []
    run_recipe(recipe("0-2"), loaded=loaded, on_progress=lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] == len(STORY.text) - 1
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        run_recipe(recipe("0-2", prompts=()), loaded=loaded, stop=stop)


def test_texts_are_the_bundled_ones_that_are_named_then_ones_own() -> None:
    titles = tuple(text.title for text in bundled_texts())
    assert texts_of(recipe("", texts=None)) == (*bundled_texts(), STORY)
    assert texts_of(recipe("", texts=titles[1::-1])) == (bundled_texts()[1], bundled_texts()[0], STORY)
    with pytest.raises(RecipeError, match=f"'Nothing', which is not bundled; there are: {titles[0]}"):
        texts_of(recipe("", texts=("Nothing",)))
