"""Models are opened once for everyone, and again once their files have changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

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
