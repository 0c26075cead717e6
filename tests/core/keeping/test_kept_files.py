"""Experiments as files from the command line; files are there whole or not at all."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from surgery_core import InputError, Recipe, RecipeError
from surgery_core.cli.options import main
from surgery_core.keeping.kept import keep
from surgery_core.whole_files import write_whole


@pytest.fixture
def here(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    models = tmp_path / "models"
    models.mkdir()
    (models / "tiny").symlink_to(tiny_folder)
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(models))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


ASKED = ["--model", "tiny", "--plan", "0,2-3", "--prompt", "Once", "--max-new-tokens", "3"]


def test_a_merge_goes_out_and_comes_in_as_a_plan(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keep", "--model", "tiny", "--plan", "0,2-3,3.attn", "--to", "a.yaml"]) == 0
    assert main(["keep", "--model", "tiny", "--plan", "a.yaml", "--to", "b.toml"]) == 0
    assert Recipe.load("b.toml").plan == "0,2-3,3.attn"
    (here / "bad.yaml").write_text("merge_method: ties", encoding="utf-8")
    assert main(["export", "--model", "tiny", "--plan", "bad.yaml", "--to", "new"]) == 2
    assert "The merge is by 'ties'" in capsys.readouterr().err
    assert main(["export", "--model", "tiny", "--plan", "none.yaml", "--to", "new"]) == 2
    assert "'none.yaml' cannot be read: No such file or directory." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("a.toml", b"version = 1"), ("a.py", b'"""tiny: 3 of 4 layers run.'), ("a.ipynb", b"{"), ("a.svg", b"<svg"),
        ("a.png", b"\x89PNG"), ("a.html", b"<!doctype html>"), ("a.md", b"| title"), ("a.parquet", b"PAR1"),
    ],
)  # fmt: skip
def test_the_ending_says_what_is_written(here: Path, name: str, begins: bytes) -> None:
    assert main(["keep", *ASKED, "--to", name]) == 0
    assert (here / name).read_bytes().startswith(begins)
    assert [path.name for path in here.iterdir()] == [name]


def test_the_table_is_that_of_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *ASKED, "--csv"]) == 0
    expected = capsys.readouterr().out
    assert main(["keep", *ASKED, "--to", "a.csv"]) == 0
    kept = list(csv.DictReader((here / "a.csv").read_text(encoding="utf-8").splitlines()))
    for row, line in zip(kept, csv.DictReader(expected.splitlines()), strict=True):
        assert float(row["perplexity_after"]) == float(line["perplexity_after"])


def test_a_file_that_is_there_stays(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.toml").write_text("mine", encoding="utf-8")
    assert main(["keep", *ASKED, "--to", "a.toml"]) == 2
    assert "'a.toml' is there already" in capsys.readouterr().err
    assert (here / "a.toml").read_text(encoding="utf-8") == "mine"
    assert main(["keep", *ASKED, "--to", "a.toml", "--force"]) == 0


def test_another_ending_is_refused_before_anything_is_opened(here: Path) -> None:
    with pytest.raises(InputError, match=r"ends in none of \.toml, \.py"):
        keep(Recipe("no such model", "0"), "a.doc")


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_what_was_there(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "a.toml").write_text("mine", encoding="utf-8")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"'a.toml' cannot be written: No space left on device\."):
        keep(Recipe("tiny", "0"), "a.toml", force=True)
    with pytest.raises(RecipeError, match="No space left"):
        Recipe("tiny", "0").dump("a.toml")
    assert {path.name: path.read_text(encoding="utf-8") for path in here.iterdir()} == {"a.toml": "mine"}


def test_a_folder_that_is_missing_is_named(here: Path) -> None:
    with pytest.raises(InputError, match=r"'none/a.toml' cannot be written: No such file or directory\."):
        keep(Recipe("tiny", "0"), "none/a.toml")


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert write_whole(path, b"one") == path
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]
