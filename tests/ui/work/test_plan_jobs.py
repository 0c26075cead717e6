"""Models are opened once for everyone, and again once their files have changed; stitches are fitted once for a plan."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import surgery_core as sc
from surgery_core.errors import RefusedPlanError, Stopped
from surgery_core.suture.stitch import _Work
from surgery_ui.work import plan_jobs
from surgery_ui.work.kinds import Workers, kinds_of
from surgery_ui.work.pool import Pool
from tests.tiny import build_model


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    pool = Pool(1, kinds_of(Workers.MODELS), Workers.MODELS)
    monkeypatch.setattr(plan_jobs, "MODELS", pool)
    yield pool
    pool.leave("me")


def test_a_model_whose_files_have_changed_is_read_again(
    models: Pool, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "mine"))
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(folder))
    first = plan_jobs.model_job("me", "mine")
    assert first.wait(60)
    assert plan_jobs.model_job("me", "mine") is first
    build_model("llama", num_hidden_layers=10).save_pretrained(folder)
    again = plan_jobs.model_job("me", "mine")
    assert again.wait(60)
    assert (first.result.info.n_layers, again.result.info.n_layers) == (4, 10)
    assert [one.info.n_layers for one in plan_jobs.open_models()] == [10]


@pytest.fixture
def loaded(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> sc.LoadedModel:
    """Return the tiny model, with few texts to fit stitches on."""
    texts = tuple(sc.read_text(f"{one} ran to the sea, and {one} slept.", one) for one in ("fox", "hen", "ox"))
    monkeypatch.setattr(plan_jobs, "calibration_texts", lambda: texts)
    plan_jobs._stitches.clear()
    return sc.load_model(str(tiny_folder), device="cpu")


def test_stitches_are_fitted_once_for_a_plan(loaded: sc.LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    falling = itertools.count(0, -1)
    monkeypatch.setattr(_Work, "nats", lambda work, view, told: float(next(falling)))
    plan = sc.LayerPlan.parse("0,~,2-3", 4)
    first, second = plan_jobs.view(loaded, plan), plan_jobs.view(loaded, plan)
    own, shared = first.model.layers[0].mlp.down_proj.weight, first.model.layers[1].mlp.down_proj.weight
    assert own is not loaded.model.model.layers[0].mlp.down_proj.weight
    assert shared is loaded.model.model.layers[2].mlp.down_proj.weight
    assert torch.equal(own, second.model.layers[0].mlp.down_proj.weight)
    used = next(falling)
    plan_jobs.view(loaded, plan)
    assert next(falling) == used - 1


def test_a_stitch_that_makes_nothing_better_is_said_and_stopping_leaves_nothing(
    loaded: sc.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, stop = sc.LayerPlan.parse("0,~,2-3", 4), threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        plan_jobs.view(loaded, plan, stop)
    monkeypatch.setattr(_Work, "nats", lambda work, view, told: 1.0)
    with pytest.raises(RefusedPlanError, match=r"no lower with it.*nearest plan that is allowed is 0,2-3"):
        plan_jobs.view(loaded, plan)
