"""Files that go away, disks that are full, a hub that is unwell: others go on, and whoever is met reads one sentence."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery_core.errors import RecipeError
from surgery_core.recipes import outcomes
from surgery_ui.rooms.records import RoomError
from surgery_ui.rooms.store import Rooms
from surgery_ui.work import plan_jobs
from tests.core.support.fake_hub import COMMIT, FakeHub, serve
from tests.ui.conftest import Open
from tests.ui.support.reading import errors, metrics, plan, type_notation, written


@pytest.fixture
def own_folder(models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Offer a model that only this test has, and return its folder."""
    folder = Path(shutil.copytree(models_folder / "fable", tmp_path / "mine"))
    monkeypatch.setenv("MODEL_SURGERY_MODELS", os.pathsep.join([str(folder), str(models_folder)]))
    return folder


def test_a_model_whose_folder_is_deleted_stays_open(open_app: Open, own_folder: Path) -> None:
    app, other = open_app(model="mine", plan="0-2"), open_app(plan="1-3")
    before = metrics(app), written(app)
    shutil.rmtree(own_folder)
    for page in (app, other):
        page.run()
        assert not page.exception
        assert not page.error
    assert (metrics(app), written(app)) == before
    type_notation(app, "0,2")
    assert not app.error
    assert (plan(app), len(metrics(app))) == ("0,2", 4)
    # the same files in their place again are the same model
    newcomer = open_app(model="mine", plan="0,2")
    assert metrics(newcomer) == metrics(app)
    plan_jobs.MODELS.forget(lambda key: key[1] == "mine")
    lost = open_app(model="mine", plan="0,2")
    assert "There is no model 'mine'" in errors(lost)
    assert lost.query_params["model"] in ("fable", ["fable"])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, models_folder: Path) -> Iterator[FakeHub]:
    with serve() as server:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
        place = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", place)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        server.repositories["someone/tiny"] = models_folder / "fable"
        yield server
        server.pause.set()
        plan_jobs.MODELS.forget(lambda key: key[1] == "someone/tiny")


def choose(app: AppTest, name: str) -> AppTest:
    picker = app.selectbox(key="picker")
    picker.options.append(name)  # what a person types is a new option
    return picker.set_value(name).run()


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "denies access"), (403, "denies access"), (404, "no public model"), (429, "too many"), (500, "error 500")],
)
def test_a_hub_that_refuses_leaves_the_model_that_is_open(
    open_app: Open, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    monkeypatch.setattr(
        "time.sleep", lambda seconds, real=time.sleep: real(min(seconds, 0.02))
    )  # between its client's tries
    app = open_app(plan="0-2")
    before = metrics(app), written(app)
    hub.broken = status
    choose(app, "someone/tiny")
    assert not app.exception
    assert len(app.error) == 1
    assert said in errors(app)
    assert "someone/tiny" in errors(app)
    assert (plan(app), metrics(app), written(app)) == ("0-2", *before)


def test_a_hub_that_breaks_off_leaves_the_model_that_is_open(
    open_app: Open, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds, real=time.sleep: real(min(seconds, 0.02)))
    app = open_app(plan="0-2")
    hub.cut = True
    choose(app, "someone/tiny")
    assert "cannot be reached" in errors(app)
    monkeypatch.setattr(plan_jobs, "AGAIN", 0.0)
    hub.cut = False
    again = open_app(model="someone/tiny")
    assert not errors(again)
    assert again.query_params["model"] in ("someone/tiny", ["someone/tiny"])


def test_nobody_waits_for_somebody_elses_slow_hub(open_app: Open, hub: FakeHub) -> None:
    hub.pause.clear()
    job = plan_jobs.model_job("patient", "someone/tiny")
    until = time.monotonic() + 10
    while not hub.asked:
        assert time.monotonic() < until
        time.sleep(0.01)
    plan_jobs.MODELS.forget(lambda key: key[1] == "other")
    other = plan_jobs.model_job("quick", "other")
    assert other.wait(20), "another model waits for the hub"
    assert not job.done
    hub.pause.set()
    assert job.wait(30)
    assert job.result.info.revision == COMMIT


def test_a_full_disk_keeps_the_board_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = Rooms(tmp_path / "rooms.sqlite")
    code, _ = rooms.create()
    rooms.join(code, "p", "Ann")
    assert rooms.score(code, "p", "0-8", 9, 1.0, 1.0)
    real = sqlite3.connect

    def full(*given: Any, **more: Any) -> sqlite3.Connection:
        base = real(*given, **more)
        # SQLite itself says that the disk is full where a file may not grow
        base.execute(f"PRAGMA max_page_count = {base.execute('PRAGMA page_count').fetchone()[0]}")
        return base

    monkeypatch.setattr(sqlite3, "connect", full)
    with pytest.raises(RoomError, match=r"cannot be kept in .*\(database or disk is full\); tell the organiser"):
        rooms.score(code, "p", "x" * 100_000, 9, 1.0, 1.0)
    kept = {one.plan for one in rooms.board(code)}
    monkeypatch.undo()
    assert {one.plan for one in rooms.board(code)} == kept == {"0-8"}
    assert rooms.score(code, "p", "0-7", 8, 1.0, 1.0), "with room again it goes on"
    with sqlite3.connect(tmp_path / "rooms.sqlite") as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    base.close()


def test_a_full_disk_keeps_the_outcomes_that_were_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = outcomes.Outcomes({"model": "fable"}, {})
    path = outcomes.write_outcomes(before, tmp_path)
    kept = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecipeError, match="No space left on device"):
        outcomes.write_outcomes(before, tmp_path)
    assert path.read_bytes() == kept
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
