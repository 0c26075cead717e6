"""Lines for whoever runs the server: what they say, and what they never have."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery_core.errors import ModelLoadError
from surgery_ui.work import diary
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane, Workers, kinds_of
from surgery_ui.work.limits import Limits
from surgery_ui.work.pool import Pool

CANARY = "canary-7c1b"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """Have lines written to a file, and return the function that reads them."""
    path = tmp_path / "folder" / "lines.jsonl"
    monkeypatch.setattr(diary, "limits", lambda: Limits(log=str(path)))
    return lambda: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def fail() -> None:
    raise ValueError(CANARY)


def failed() -> Exception:
    try:
        fail()
    except ValueError as error:
        return error
    raise AssertionError


def run(work: Callable[[Job[Any]], Any], key: tuple[Any, ...] = ("model", "org/name", None)) -> Job[Any]:
    pool = Pool(1, kinds_of(Workers.MODELS))
    job = pool.request("somebody", Lane.MODEL, key, work)
    assert job.wait(10)
    deadline = threading.Event()
    while pool.load() != (0, 0):
        deadline.wait(0.01)
    pool.request("somebody", Lane.MODEL, ("model", "next"), lambda job: None).wait(
        10
    )  # the line of the first is written
    return job


def test_a_model_that_was_opened_is_a_line(lines: Lines) -> None:
    run(lambda job: 1)
    line = lines()[0]
    assert line["event"] == "load"
    assert (line["model"], line["ended"], line["sessions"]) == ("org/name", "done", [diary.person("somebody")])
    assert line["seconds"] >= 0
    assert line["at"].endswith("+00:00")


def test_one_that_was_refused_says_which_error_and_not_its_sentence(lines: Lines) -> None:
    def work(job: Job[Any]) -> None:
        raise ModelLoadError(CANARY)

    run(work)
    line = lines()[0]
    assert (line["ended"], line["error"]) == ("refused", "ModelLoadError")
    assert CANARY not in json.dumps(lines())


def test_an_error_has_an_id_that_its_person_reads(lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
    job = run(lambda job: fail())
    error = next(line for line in lines() if line["event"] == "error")
    assert f"(error {error['id']})" in str(job.error)
    assert (error["kind"], error["where"]) == ("ValueError", "model")
    assert error["frames"][-1].startswith("test_diary.py:")
    newest = diary.faults()[0]
    assert (newest.id, newest.place) == (error["id"], error["frames"][-1])
    assert newest.id in caplog.text
    assert CANARY not in caplog.text + json.dumps(lines())


def test_what_errors_say_is_written_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "lines.jsonl"
    monkeypatch.setattr(diary, "limits", lambda: Limits(log=str(path), log_texts=True))
    diary.note_fault(failed(), "page")
    assert json.loads(path.read_text())["says"] == CANARY
    assert CANARY in caplog.text


def test_without_a_place_for_them_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(diary, "limits", Limits)
    diary.note("edit", "somebody", plan="0-3")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(diary, "limits", lambda: Limits(log=diary.OUTPUT))
    diary.note("edit", "somebody", plan="0-3")
    assert json.loads(capsys.readouterr().out)["plan"] == "0-3"


def test_a_full_disk_ends_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(where: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(diary, "limits", lambda: Limits(log="lines.jsonl"))
    monkeypatch.setattr(diary, "_file", full)
    diary.note("edit", "somebody")


def test_the_list_of_errors_is_bounded() -> None:
    for _ in range(diary.MOST_FAULTS + 5):
        diary.note_fault(failed(), "page")
    assert len(diary.faults()) == diary.MOST_FAULTS


def test_a_page_that_fails_says_its_id(caplog: pytest.LogCaptureFixture) -> None:
    def script() -> None:
        from surgery_ui.startup import tell_of

        assert tell_of(ValueError("canary-7c1b"))

    (said,) = AppTest.from_function(script).run().error
    assert f"(error {diary.faults()[0].id})" in said.value
    assert CANARY not in caplog.text


def test_streamlit_prints_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    from streamlit import error_util

    from surgery_ui.startup import quieten

    quieten()
    caplog.set_level(logging.DEBUG)
    logger = error_util._LOGGER
    logger.propagate, before = True, logger.propagate
    try:
        error_util._log_uncaught_app_exception(failed())
        logger.error("something else")
    finally:
        logger.propagate = before
    assert "something else" in caplog.text
    assert CANARY not in caplog.text
