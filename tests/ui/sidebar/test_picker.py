"""What the model picker offers, without a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from surgery_ui.sidebar.sidebar import model_labels
from tests.core.support.gguf_files import write_llama


def test_gguf_files_and_folders_of_one_name_are_told_apart(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_llama(tmp_path / "packed.Q8_0.gguf", "Q8_0")
    for run in ("first", "second"):
        shutil.copytree(tiny_folder, tmp_path / run / "tiny")
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(tmp_path))
    labels = model_labels()
    assert labels["packed.Q8_0"] == "A tiny llama"
    assert {labels["tiny"], labels["second/tiny"]} == {"tiny (tiny)", "tiny (second/tiny)"}
