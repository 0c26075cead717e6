"""Data sets: with a stand-in for the library, and with the library itself on a folder where it is installed."""

from __future__ import annotations

import builtins
import csv
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from surgery_core.errors import SettingsError, TextError
from surgery_core.text_sources.dataset import read_dataset
from surgery_core.text_sources.found import Limits

ROWS = ["", " = Title = \n", " A line . \n", ""]


class Rows(list[dict[str, Any]]):
    """As much of a data set as is used."""

    @property
    def column_names(self) -> list[str]:
        return list(self[0])

    def select_columns(self, names: list[str]) -> Rows:
        return Rows({name: row[name] for name in names} for row in self)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Put a stand-in in the library's place and return what it was asked for."""
    calls: list[tuple[Any, ...]] = []

    def load_dataset(name: str, config: str | None = None, *, split: str) -> Rows:
        calls.append((name, config, split))
        if name == "missing":
            raise FileNotFoundError("Dataset 'missing' doesn't exist on the Hub")
        return Rows({"id": number, "text": text} for number, text in enumerate(ROWS))

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return calls


def test_rows_are_texts_with_the_empty_ones(asked: list[tuple[Any, ...]]) -> None:
    found = read_dataset("wikitext:wikitext-2-raw-v1:test")
    assert asked == [("wikitext", "wikitext-2-raw-v1", "test")]
    assert [text.text for text in found.texts] == ROWS
    assert [text.title for text in found.texts] == [f"wikitext {number}" for number in (1, 2, 3, 4)]
    assert [text.text for text in found.as_set("W").scored()] == ROWS[1:3]
    assert found.as_set("W").scored("papers")[0].text == "\n\n".join(ROWS)


def test_a_name_without_a_configuration_and_a_folder(asked: list[tuple[Any, ...]]) -> None:
    read_dataset("org/name:validation")
    read_dataset("/data/my set::train")
    assert asked == [("org/name", None, "validation"), ("/data/my set", None, "train")]


@pytest.mark.parametrize("name", ["wikitext", ":test", "wikitext:", ""])
def test_another_form_is_an_error(asked: list[tuple[Any, ...]], name: str) -> None:
    with pytest.raises(SettingsError, match="is not of the form NAME:CONFIG:SPLIT"):
        read_dataset(name)
    assert asked == []


def test_what_cannot_be_loaded_and_another_column_are_said(asked: list[tuple[Any, ...]]) -> None:
    with pytest.raises(TextError, match="'missing:test' cannot be loaded: Dataset 'missing' doesn't exist"):
        read_dataset("missing:test")
    with pytest.raises(TextError, match="no column 'story'; its columns are id, text"):
        read_dataset("wikitext:test", "story")
    found = read_dataset("wikitext:test", "id")
    assert found.texts == ()
    assert str(found.problems[0]) == "wikitext 1: It is no text but int."


def test_rows_beyond_the_limit_are_counted(asked: list[tuple[Any, ...]]) -> None:
    found = read_dataset("wikitext:test", limits=Limits(texts=3, bytes=1000))
    assert len(found.texts) == 3
    assert str(found.problems[0]).startswith("All files: 1 text was left out")


def test_without_the_library_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setattr(builtins, "__import__", real)
    with pytest.raises(SettingsError, match=r"pip install 'model-surgery\[datasets\]'"):
        read_dataset("wikitext:wikitext-2-raw-v1:test")


def test_the_library_itself_reads_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets", reason="the optional package datasets is not installed")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "mine"
    folder.mkdir()
    with (folder / "test.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], ["One."], ["Two, with more."]])
    found = read_dataset(f"{folder}::test")
    assert [text.text for text in found.texts] == ["One.", "Two, with more."]
    with pytest.raises(TextError, match="cannot be loaded"):
        read_dataset(f"{folder}::validation")
