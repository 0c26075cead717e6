"""What the server does once: models from the command line, and what is ready before the first person comes."""

from __future__ import annotations

import os
import platform
import threading
from pathlib import Path

import pytest

from surgery_core.models.offered import list_models
from surgery_ui import startup
from surgery_ui.session import first
from surgery_ui.work import plan_jobs as cached
from tests.ui.conftest import Open


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SURGERY_MODELS", os.environ.get("MODEL_SURGERY_MODELS", ""))
    monkeypatch.setenv(first.FIRST_VARIABLE, "")


def test_a_folder_on_the_command_line_is_offered_and_opened_first(tiny_folder: Path) -> None:
    startup.offer([str(tiny_folder)])
    assert first.first_model() == tiny_folder.name
    assert tiny_folder.name in [choice.name for choice in list_models()]


def test_a_folder_of_several_models_is_offered(models_folder: Path) -> None:
    startup.offer([str(models_folder)])
    assert first.first_model() == "fable"
    assert "other" in [choice.name for choice in list_models()]


def test_without_arguments_nothing_changes() -> None:
    before = os.environ["MODEL_SURGERY_MODELS"]
    startup.offer([])
    assert os.environ["MODEL_SURGERY_MODELS"] == before


def test_a_missing_folder_keeps_the_server_from_starting(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no folder"):
        startup.offer([str(tmp_path / "nowhere")])


def test_threads_share_the_places_that_memory_comes_from() -> None:
    assert startup.share_memory() is (platform.libc_ver()[0] == "glibc")


def test_the_first_page_finds_its_work_done(open_app: Open) -> None:
    startup.warm()
    before = threading.active_count()
    app = open_app()
    assert not app.error
    assert cached.WORK.load() == (0, 0)
    assert threading.active_count() <= before + 2


def test_a_model_that_cannot_be_opened_does_not_stop_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(first.FIRST_VARIABLE, "nobody-has-this")
    startup.prewarm().join(30)
    assert "could not be opened in advance" in caplog.text
