"""Closing a model gives its memory back, and is not offered while somebody else works with it."""

from __future__ import annotations

import shutil
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from surgery_core.plans.plan import LayerPlan
from surgery_core.text import Text
from surgery_ui.work import closing, plan_jobs
from surgery_ui.work.kinds import Lane, Workers, kinds_of
from surgery_ui.work.pool import Pool


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    models, work = Pool(1, kinds_of(Workers.MODELS)), Pool(1, kinds_of(Workers.WORK))
    monkeypatch.setattr(plan_jobs, "MODELS", models)
    monkeypatch.setattr(plan_jobs, "WORK", work)
    monkeypatch.setattr(closing, "_used", {})
    yield
    models.leave("me")
    work.leave("me")


def test_a_closed_model_is_no_longer_in_memory_and_the_others_stay(
    pools: None, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        shutil.copytree(tiny_folder, tmp_path / name)
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(tmp_path))
    texts = (Text("A text", "test", "some words to score"),)
    kept = []
    for name in ("one", "other"):
        job = plan_jobs.model_job("me", name)
        assert job.wait(60)
        # what it scored holds the model
        scores = plan_jobs.comparison_job("me", Lane.SCORES, job.result, LayerPlan.parse("0", 4), texts)
        assert scores.wait(60)
        assert scores.error is None
        kept.append(weakref.ref(job.result.model))
    del job, scores
    plan_jobs.MODELS.leave("me")
    plan_jobs.WORK.leave("me")
    (key,) = (open_.info.key for open_ in plan_jobs.open_models() if open_.info.name == "one")
    closing.close("one", key)
    end = time.monotonic() + 20
    while kept[0]() is not None and time.monotonic() < end:
        time.sleep(0.05)
    assert [model() is None for model in kept] == [True, False]
    assert [open_.info.name for open_ in plan_jobs.open_models()] == ["other"]


def test_who_works_with_a_model(monkeypatch: pytest.MonkeyPatch, pools: None) -> None:
    now = [100.0]
    monkeypatch.setattr(closing.time, "monotonic", lambda: now[0])
    key = ("fable",)
    closing.note_use("me", ["fable"])
    closing.note_use("she", ["fable", "donor"])
    assert [closing.users(name, key) for name in ("fable", "donor", "other")] == [{"me", "she"}, {"she"}, set()]
    # she goes on with another model
    closing.note_use("she", ["other"])
    assert [closing.users(name, key) for name in ("fable", "donor", "other")] == [{"me"}, set(), {"she"}]
    now[0] += closing.RECENT + 1
    assert closing.users("other", key) == set()
    closing.note_use("me", ["fable"])
    assert set(closing._used) == {"fable"}


def test_who_waits_for_work_works_with_its_model_however_long_ago_the_page_was_drawn(pools: None) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(job: object) -> None:
        begun.set()
        go_on.wait(30)

    key = ("fable", "revision")
    job = plan_jobs.WORK.request("she", Lane.PREFLIGHT, ("preflight", key), work)
    assert begun.wait(30)
    assert (closing.users("fable", key), closing.users("fable", ("another",))) == ({"she"}, set())
    go_on.set()
    assert job.wait(30)
    assert closing.users("fable", key) == set()
