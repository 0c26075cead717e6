"""The Lens page: how the maps stand, where lenses come from, and what a training or a download leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from surgery_core.errors import LensError
from surgery_core.lenses.jacobian import Jacobians
from surgery_core.lenses.jacobian_fit import FitProgress, JacobianFit
from surgery_core.lenses.metrics import METRICS
from surgery_core.lenses.tuned import Translators, untrained
from surgery_core.models.opening import load_model
from surgery_core.plans.plan import LayerPlan
from surgery_ui.components.room import read_width
from surgery_ui.work import lens_jobs
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.job import Job
from tests.ui.conftest import Open
from tests.ui.support.reading import charts, said


def lens(models_folder: Path, model: str = "fable") -> Translators:
    return untrained(load_model(str(models_folder / model)).model, model)


def done(work: Callable[[Any], Translators]) -> Job[Translators]:
    job: Job[Translators] = Job(("lens", "test"), work)
    job.run()
    return job


def maps(app: AppTest) -> dict[str, Any]:
    found = (json.loads(chart.proto.spec) for chart in charts(app))
    return next(one for one in found if "hconcat" in one or "vconcat" in one)


def choose(app: AppTest, key: str, value: str) -> None:
    app.session_state[key] = value
    app.run()
    assert not app.exception


def test_the_maps_stand_beside_or_below_each_other_or_are_one_difference(open_app: Open) -> None:
    app = open_app("lens", plan="0-2")
    assert len(maps(app)["hconcat"]) == 2
    choose(app, "lens-view", "Stacked")
    assert len(maps(app)["vconcat"]) == 2
    choose(app, "lens-view", "Difference")
    assert len(maps(app)["hconcat"]) == 1
    assert "the same layer before surgery" in said(app)


def test_maps_fit_the_page_of_a_small_laptop(open_app: Open) -> None:
    app = open_app("lens", plan="0-2")
    app.text_area(key="lens").set_value("word " * 10).run()
    beside = app.select_slider(key="lens-start").options[0]
    choose(app, "lens-view", "Stacked")
    below = app.select_slider(key="lens-start").options[0]
    assert (beside, below) == ("0 to 6", "0 to 15")


def test_the_page_says_what_the_colour_and_the_prediction_depth_are(open_app: Open) -> None:
    app = open_app("lens", plan="0-2")
    assert "**Colour:** Probability of the word" in said(app)
    assert "Prediction depth: the likeliest token stays the same from" in said(app)
    choose(app, "lens-lines", "Mean of the text")
    assert "Mean prediction depth, in layers:" in said(app)
    choose(app, "lens-sublayers", True)  # type: ignore[arg-type]
    assert "Mean prediction depth, in half layers:" in said(app)


@pytest.mark.parametrize("metric", [*METRICS])
def test_every_statistic_is_a_map_and_lines_of_a_token_and_of_the_text(open_app: Open, metric: str) -> None:
    app = open_app("lens", plan="0-2")
    app.session_state["lens-token"] = "t"
    for lines in ("This token", "Mean of the text"):
        choose(app, "lens-lines", lines)
        choose(app, "lens-metric", metric)
        assert METRICS[metric].title in json.dumps(maps(app))
        assert any(f'"{METRICS[metric].title}' in chart.proto.spec and '"row"' in chart.proto.spec
                   for chart in charts(app) if "concat" not in chart.proto.spec)  # fmt: skip
        assert not app.error


def test_one_model_has_no_sides_in_its_words_or_legends(open_app: Open) -> None:
    app = open_app("lens")
    assert "surgery" not in next(one.value for one in app.caption if one.value.startswith("Prediction depth"))
    layers = [layer for chart in charts(app) for layer in json.loads(chart.proto.spec).get("layer", [])]
    (line,) = (layer["encoding"] for layer in layers if layer["encoding"]["x"].get("field") == "row")
    assert "color" not in line


def test_a_lens_trained_while_its_person_was_elsewhere_is_taken_over(open_app: Open, models_folder: Path) -> None:
    app = open_app("lens", plan="0-2")
    (loaded,) = (one for one in cached.open_models() if one.info.name == "fable")
    for change in (0.0, 0.1):  # the second time, the control that chooses the lens is drawn before the training is
        found = lens(models_folder)
        found = replace(found, weights=found.weights + change)
        app.session_state["lens-job"], app.session_state["lens-job-model"] = done(lambda job, one=found: one), loaded
        app.run()
        app.run()
        assert not app.exception
        assert app.session_state["lens-job"] is None
        assert app.session_state["lens-kind"] == list(app.session_state["own-lenses"][loaded.info.key])[-1]
        assert "translator" in said(app)


def test_a_lens_comes_from_the_hub(open_app: Open, models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(owner: str, name: str) -> Job[Translators]:
        asked.append(name)
        return done(lambda job: lens(models_folder))

    monkeypatch.setattr(lens_jobs, "fetch_job", fetch)
    app = open_app("lens", plan="0-2")
    choose(app, "lens-panel", True)  # type: ignore[arg-type]
    app.text_input(key="lens-hub").set_value("somebody/their-lens").run()
    app.button(key="lens-hub-open").click().run()
    app.run()
    assert not app.exception
    assert asked == ["somebody/their-lens"]
    assert "somebody/their-lens" in str(app.session_state["own-lenses"])


def test_a_lens_that_the_hub_has_not_is_explained(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(job: Any) -> Translators:
        raise LensError("There is no lens for 'a/b' on the hub.")

    monkeypatch.setattr(lens_jobs, "fetch_job", lambda owner, name: done(absent))
    app = open_app("lens", plan="0-2")
    choose(app, "lens-panel", True)  # type: ignore[arg-type]
    for name, problem in (("no id", "is no id on the hub"), ("a/b", "There is no lens for")):
        app.text_input(key="lens-hub").set_value(name).run()
        app.button(key="lens-hub-open").click().run()
        app.run()
        assert not app.exception
        assert any(problem in error.value.replace("\\", "") for error in app.error)


def test_a_training_on_ones_own_text_asks_for_the_text(open_app: Open) -> None:
    app = open_app("lens", plan="0-2")
    choose(app, "lens-panel", True)  # type: ignore[arg-type]
    choose(app, "lens-source", "My own")
    button = next(one for one in app.button if one.label == "Train a lens")
    assert button.disabled
    assert any("no text of your own" in one.value for one in app.info)
    app.text_area(key="own-typed").set_value("Once there was a king who had three sons.").run()
    app.button(key="own-score").click().run()
    assert not app.exception
    assert not next(one for one in app.button if one.label == "Train a lens").disabled


def test_a_cell_stays_with_its_layer_when_rows_inside_the_layers_come_and_go(open_app: Open) -> None:
    app = open_app("lens", plan="0-2")
    app.selectbox(key="cell-layer").set_value("L1").run()
    app.selectbox(key="cell-token").set_value(2).run()
    before = next(one.value for one in app.caption if one.value.startswith("After L1"))
    for inside in (True, False):
        choose(app, "lens-sublayers", inside)  # type: ignore[arg-type]
        assert app.selectbox(key="cell-layer").value == "L1"
        assert before in [one.value for one in app.caption]


def test_a_cell_of_either_side_is_chosen_by_fields(open_app: Open) -> None:
    app = open_app("lens", plan="0,2-3")
    assert "L1" in app.selectbox(key="cell-layer").options
    app.selectbox(key="cell-side").set_value("after").run()
    assert app.selectbox(key="cell-layer").options == ["L3", "L2", "L0", "input"]
    assert app.selectbox(key="cell-token").options[0].startswith("0: ")
    app.selectbox(key="cell-layer").set_value("L2").run()
    assert any(one.value.startswith("After L2") for one in app.caption)


def test_the_difference_says_what_its_colours_mean(open_app: Open) -> None:
    app = open_app("lens", plan="0-2")
    choose(app, "lens-view", "Difference")
    assert "after surgery less before: rust where the layer reads worse than before (lower)" in said(app)
    choose(app, "lens-metric", "kl")
    assert "after surgery divided by before: rust where the layer reads worse than before (higher)" in said(app)


def test_a_wider_page_has_more_tokens_and_a_short_text_wider_cells(open_app: Open) -> None:
    app = open_app("lens", plan="0-2")
    app.text_area(key="lens").set_value("abc").run()
    narrow = maps(app)["hconcat"][0]["width"]["step"]
    app.session_state["page-width"] = 1420
    app.run()
    assert maps(app)["hconcat"][0]["width"]["step"] == 100 > narrow - 1
    app.text_area(key="lens").set_value("word " * 30).run()
    # (1,420 - 22 between the maps) / 2 - 48 for "input" is room for 14 cells of 46 pixels
    assert app.select_slider(key="lens-start").options[0] == "0 to 13"


@pytest.mark.parametrize("value", [None, "wide", True, float("nan"), -5, 10**9])
def test_a_width_that_is_none_is_not_believed(value: object) -> None:
    assert read_width(value) is None
    assert read_width(1234.0) == 1234


def jacobians(models_folder: Path, plan: str = "", model: str = "fable") -> Jacobians:
    loaded = load_model(str(models_folder / model))
    deep = len(LayerPlan.parse(plan or f"0-{loaded.info.n_layers - 1}", loaded.info.n_layers))
    unit = torch.eye(loaded.info.d_model)
    return Jacobians(
        {layer: (1 + layer) * unit for layer in range(deep - 1)}, 3, plan=plan, n_layers=deep, target=deep - 1
    )


def take(app: AppTest, found: Jacobians) -> str:
    """Have a finished fit taken over; return the lens's id."""
    (loaded,) = (one for one in cached.open_models() if one.info.name == "fable")
    app.session_state["lens-job"], app.session_state["lens-job-model"] = done(lambda job: found), loaded
    app.run()
    app.run()
    assert not app.exception
    assert app.session_state["lens-job"] is None
    return str(app.session_state["lens-kind"])


def test_a_jacobian_lens_reads_and_says_what_it_shows(open_app: Open, models_folder: Path) -> None:
    app = open_app("lens", plan="0-2")
    key = take(app, jacobians(models_folder))
    assert lens_jobs.what_reads(key) == lens_jobs.JACOBIAN
    assert app.session_state["own-lenses"].popitem()[1][key] == "Jacobian, 3 pieces"
    assert "what its state moves the output towards" in said(app)
    assert "middle layers show words that the model has in mind" in said(app)
    assert "each translator follows its layer" in said(app)


def test_a_lens_of_a_plan_is_offered_with_that_plan_alone(open_app: Open, models_folder: Path) -> None:
    app = open_app("lens", plan="0-2")
    base = take(app, jacobians(models_folder))
    anew = take(app, jacobians(models_folder, "0-2"))
    assert anew != base
    assert "matrices that were fitted on this plan, slot by slot" in said(app)
    app.text_input(key="notation").set_value("0-1,3").run()
    app.run()
    assert not app.exception
    assert app.session_state["lens-kind"] == base
    assert "each translator follows its layer" in said(app)


def test_a_fit_is_asked_for_with_what_it_costs_and_can_be_stopped(
    open_app: Open, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, JacobianFit]] = []
    going: Job[Any] = Job(("lens", "test"), lambda job: jacobians(models_folder))
    going.put(FitProgress(40, 120, 0.0123, 90.0, ("Tiny",)))

    def fit(owner: str, loaded: Any, plan: LayerPlan, texts: Any, settings: JacobianFit) -> Job[Any]:
        asked.append((str(plan), settings))
        return going

    monkeypatch.setattr(lens_jobs, "fitting_job", fit)
    app = open_app("lens", plan="0-2")
    take(app, jacobians(models_folder))
    choose(app, "lens-panel", True)  # type: ignore[arg-type]
    assert "pieces" in said(app)
    choose(app, "lens-fit-of", "This plan")
    app.button(key="lens-fit").click().run()
    assert not app.exception
    assert asked == [("0-2", JacobianFit(cut=True))]
    assert "the mean changes by 1.23% of its size" in said(app)
    assert "Too short, and left out: Tiny." in said(app)
    next(one for one in app.button if one.label == "Stop and keep the mean so far").click().run()
    assert going.stop.is_set()
