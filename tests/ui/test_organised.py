"""The app under an organiser's limits: each is felt where it is met, as a sentence beside the control."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from streamlit.testing.v1 import AppTest

from surgery_core.errors import ModelLoadError, SettingsError
from surgery_core.sweeps.request import GREEDY, IMPORTANCE
from surgery_ui import startup
from surgery_ui.parts import sweep_shelf
from surgery_ui.session import first
from surgery_ui.session.address import SETTINGS
from surgery_ui.work import limits as organised
from surgery_ui.work import plan_jobs
from tests.ui.conftest import Open

Organise = Callable[..., None]


@pytest.fixture
def organise(monkeypatch: pytest.MonkeyPatch) -> Iterator[Organise]:
    """Return the function that sets limits as variables of the environment."""

    def allow(**limits: object) -> None:
        for name, value in limits.items():
            monkeypatch.setenv(f"MODEL_SURGERY_{name.upper()}", str(value))
        organised.limits.cache_clear()

    yield allow
    monkeypatch.undo()
    organised.limits.cache_clear()


def errors(app: AppTest) -> str:
    return "\n".join(one.value.replace("\\", "") for one in app.error)


def test_only_models_that_are_allowed_are_listed_and_opened(open_app: Open, organise: Organise) -> None:
    organise(allowed="fable")
    app = open_app(model="other", plan="0")
    (picker,) = [one for one in app.selectbox if one.label == "Model"]
    assert "other" not in " ".join(map(str, picker.options))
    assert "'other' is not open to visitors of this server" in errors(app)
    assert app.query_params["model"] in ("fable", ["fable"])
    models = open_app("models")
    assert not [one for one in models.button if one.key == "open-other"]


def test_nothing_is_fetched_from_the_hub(open_app: Open, organise: Organise, monkeypatch: pytest.MonkeyPatch) -> None:
    organise(hub="false")
    monkeypatch.setattr("surgery_core.models.hub.fetch", lambda *_: pytest.fail("the hub was asked"))
    app = open_app(model="org/large")
    assert "'org/large' is not on this server" in errors(app)
    lenses = open_app("lens")
    (field,) = [one for one in lenses.text_input if one.key == "lens-hub"] or [None]
    if field is None:
        lenses.session_state["lens-panel"] = True
        lenses.run()
        (field,) = [one for one in lenses.text_input if one.key == "lens-hub"]
    field.set_value("org/lens").run()
    next(one for one in lenses.button if one.key == "lens-hub-open").click().run()
    assert "this server fetches nothing" in errors(lenses)


def test_a_model_that_is_too_large_is_refused_before_it_is_read(
    organise: Organise, open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_app()
    organise(model_mb=1)
    monkeypatch.setattr("surgery_core.models.devices.ITEM_BYTES", {"float32": 4_000_000})
    monkeypatch.setattr("surgery_core.models.weights.load_weights", lambda *_: pytest.fail("its weights were read"))
    job = plan_jobs.MODELS.request("me", "model", ("model", "other", "anew"), lambda _: plan_jobs._opened("other"))
    assert job.wait(20)
    assert "0.0 GB are allowed here" in str(job.error)


def test_texts_tokens_and_plans(open_app: Open, organise: Organise, monkeypatch: pytest.MonkeyPatch) -> None:
    organise(text_kb=1, sweep_plans=3, training="false", jobs=1)
    app = open_app()
    next(one for one in app.text_area if one.key == "own-typed").set_value("word " * 300).run()
    next(one for one in app.button if one.key == "own-score").click().run()
    assert "1,000" in errors(app)
    sweep = open_app("sweep")
    next(one for one in sweep.button if one.label == "Start").click().run()
    assert "this server allows 3 (sweep_plans in surgery.toml)" in errors(sweep)


def test_one_may_not_train_where_that_is_off(open_app: Open, organise: Organise) -> None:
    organise(training="false")
    app = open_app("lens")
    buttons: list[Any] = [one for one in app.button if one.label == "Train a lens"]
    if not buttons:
        app.session_state["lens-panel"] = True
        app.run()
        buttons = [one for one in app.button if one.label == "Train a lens"]
    assert buttons[0].disabled


def test_the_length_goes_as_far_as_is_allowed() -> None:
    assert SETTINGS["length"].most == organised.limits().tokens == 512


def test_the_server_begins_with_a_model_that_is_allowed_and_not_at_all_with_a_wrong_key(
    organise: Organise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(first.FIRST_VARIABLE, "")
    organise(allowed="tiny,other")
    startup.check_limits()
    assert first.first_model() == "tiny"
    organise(tokens=0)
    with pytest.raises(
        SystemExit, match=r"tokens is 0 in the environment \(MODEL_SURGERY_TOKENS\); give a whole number"
    ):
        startup.check_limits()


@pytest.mark.parametrize(("jobs", "started"), [(1, 0), (2, 2)])
def test_all_that_a_click_asks_for_is_started_or_nothing(
    jobs: int, started: int, organise: Organise, monkeypatch: pytest.MonkeyPatch
) -> None:
    organise(jobs=jobs)
    begun: list[Any] = []
    monkeypatch.setattr(sweep_shelf, "start", lambda now, request, costs: begun.append(request))
    monkeypatch.setattr(sweep_shelf, "sync", lambda lane: None)
    asked: Any = [SimpleNamespace(family=GREEDY), SimpleNamespace(family=IMPORTANCE)]
    with nullcontext() if started else pytest.raises(SettingsError, match="as many as this server allows"):
        sweep_shelf._start_all(cast(Any, SimpleNamespace(owner="nobody")), asked, None)
    assert len(begun) == started


def test_a_server_without_the_hub_opens_a_path_where_paths_are_allowed_and_asks_the_hub_for_nothing(
    organise: Organise, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv(first.FIRST_VARIABLE, "")
    organise(hub="false", paths="true")
    startup.check_limits()
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    monkeypatch.setattr("surgery_core.models.hub.fetch", lambda *_: pytest.fail("the hub was asked"))
    assert plan_jobs._opened(str(tiny_folder)).info.n_layers == 4
    with pytest.raises(ModelLoadError, match="fetches nothing from the hub"):
        plan_jobs._opened("org/large")
