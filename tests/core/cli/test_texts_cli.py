"""Texts on the command line: files, folders, archives, tables, data sets, and windows as papers cut them."""

from __future__ import annotations

import json
import math
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from surgery_core.cli.options import main
from surgery_core.recipes import chosen_set
from surgery_core.recipes.recipe import Recipe
from tests.core.measure.test_as_papers import by_script
from tests.core.text_sources.test_dataset import Rows
from tests.tiny import build_model, build_tokenizer

LONG = ["The old woman had a cat. " * 9, "", "The fox went over the hill. " * 9]
RUN = ("run", "--model", "tiny", "--plan", "0,2", "--prompt", "a", "--max-new-tokens", "1")


@pytest.fixture(autouse=True)
def _only_the_tiny_model(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(tiny_folder))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in LONG), encoding="utf-8")
    return path


def call(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    assert main(arguments) == code
    out, err = capsys.readouterr()
    return out, err


def titles(out: str) -> list[str]:
    return [row["title"] for row in json.loads(out)["texts"]]


def test_every_source_of_texts(capsys: pytest.CaptureFixture[str], tmp_path: Path, mine: Path) -> None:
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("a/one.txt", "One text.")
        archive.writestr("a/bad.txt", b"\xff")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "two.txt").write_text("Two texts.", encoding="utf-8")
    (tmp_path / "t.csv").write_text("story\nThree texts.\n", encoding="utf-8")
    paths = [str(tmp_path / name) for name in ("more.zip", "folder", "t.csv", "mine.jsonl")]
    out, err = call(capsys, *RUN, "--json", "--texts", *paths)
    assert titles(out) == ["a/one.txt", "two.txt", "t.csv, row 2", "mine.jsonl, line 1", "mine.jsonl, line 3"]
    assert err == "left out: a/bad.txt is not UTF-8 text (byte 1 is 0xff). Save it as UTF-8 and try again.\n"
    out, _ = call(capsys, *RUN, "--json", "--texts", str(tmp_path / "t.csv"), "--column", "story")
    assert titles(out) == ["t.csv, row 2"]


def test_as_papers_is_what_the_published_loop_gives_and_is_said(capsys: pytest.CaptureFixture[str], mine: Path) -> None:
    wanted, losses = by_script(build_model("llama"), build_tokenizer(), LONG, 128)
    out, _ = call(capsys, *RUN, "--json", "--texts", str(mine), "--as-papers")
    found = json.loads(out)
    assert found["total"]["perplexity_before"] == pytest.approx(wanted, rel=1e-5)
    assert found["cut"]["n_windows"] == len(losses) == len(titles(out))
    assert found["cut"]["window"] == 128
    out, _ = call(capsys, *RUN, "--texts", str(mine), "--as-papers")
    assert f"cut into {len(losses)} windows of 128 tokens without overlap" in out
    out, _ = call(capsys, "sweep", "--model", "tiny", "--texts", str(mine), "--as-papers", "--json")
    first = json.loads(out)[0]
    assert first["perplexity"] == pytest.approx(wanted, rel=1e-5)
    assert first["sweep_texts"].startswith(f"{len(losses)} windows of 128 tokens of joined texts, ")
    assert "without overlap" in first["cut"]
    for kind in ("greedy", "importance"):
        out, _ = call(capsys, "sweep", "--model", "tiny", "--kind", kind, "--texts", str(mine), "--as-papers")
        assert f"cut into {len(losses)} windows of 128 tokens" in out


def test_texts_of_a_data_set(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Their empty rows stand in what is joined, as in the published loop."""
    rows = Rows({"text": text} for text in LONG)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda *_, split: rows))
    wanted, _ = by_script(build_model("llama"), build_tokenizer(), LONG, 128)
    out, _ = call(capsys, *RUN, "--json", "--dataset", "wikitext:wikitext-2-raw-v1:test", "--as-papers")
    assert json.loads(out)["total"]["perplexity_before"] == pytest.approx(wanted, rel=1e-5)
    out, _ = call(capsys, *RUN, "--json", "--dataset", "wikitext:wikitext-2-raw-v1:test")
    assert titles(out) == ["wikitext 1", "wikitext 3"]


def test_a_data_set_without_the_package(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    _, err = call(capsys, *RUN, "--dataset", "wikitext:test", code=2)
    assert (
        err == "error: A data set needs the package datasets; install it with: pip install 'model-surgery[datasets]'.\n"
    )


def test_a_set_goes_through_a_recipe(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, again = tmp_path / "a.toml", ("run", "--recipe", str(tmp_path / "a.toml"), "--json")
    out, _ = call(capsys, *RUN, "--json", "--texts", str(mine), "--as-papers", "--save-recipe", str(saved))
    assert Recipe.load(saved).cut == "papers"
    assert json.loads(call(capsys, *again)[0])["total"] == json.loads(out)["total"]
    assert "leave out --texts" in call(capsys, *again, "--texts", str(mine), code=2)[1]
    monkeypatch.setattr(chosen_set, "KEPT_CHARACTERS", 10)
    call(capsys, *RUN, "--texts", str(mine), "--as-papers", "--save-recipe", str(saved))
    assert "--texts on the command line" in call(capsys, *again, code=2)[1]
    found = json.loads(call(capsys, *again, "--texts", str(mine))[0])
    assert found["total"] == json.loads(out)["total"]


def test_a_set_is_kept_as_a_table(capsys: pytest.CaptureFixture[str], tmp_path: Path, mine: Path) -> None:
    target = tmp_path / "scores.json"
    call(capsys, "keep", "--model", "tiny", "--plan", "0,2", "--texts", str(mine), "--to", str(target))
    rows = json.loads(target.read_text(encoding="utf-8"))
    assert [row["title"] for row in rows] == ["mine.jsonl, line 1", "mine.jsonl, line 3"]
    assert all(math.isfinite(row["ratio"]) for row in rows)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--texts", "/nowhere/a.txt"), "'/nowhere/a.txt' cannot be read"),
        (("--texts", "x", "--dataset", "y:test"), "--texts and --dataset both name texts"),
        (("--texts", "x", "--text-set", "stories"), "--texts and --text-set both name texts"),
        (("--text", "x", "--texts", "y"), "--text or --texts, not both"),
        (("--column", "x"), "--column names the field of --texts or --dataset"),
        (("--text-set", "poems"), "--text-set is 'poems'; there are short, stories"),
        (("--dataset", "wikitext"), "not of the form NAME:CONFIG:SPLIT"),
    ],
)
def test_what_does_not_go_together_is_said(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    out, err = call(capsys, *RUN, *options, code=2)
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_a_margin_in_percent_changes_the_verdict_and_is_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = json.loads(call(capsys, "sweep", "--model", "tiny", "--json")[0])
    plan = next(row["plan"] for row in rows if row["verdict"] == "no difference seen")
    found = {}
    for margin in ("0.0001", "99.9"):
        path = tmp_path / f"{margin}.toml"
        out, _ = call(capsys, *RUN, "--plan", plan, "--json", "--margin", margin, "--save-recipe", str(path))
        total = json.loads(out)["total"]
        found[margin] = total["verdict"]
        assert total["margin"] == pytest.approx(float(margin) / 100)
        assert Recipe.load(path).margin == total["margin"]
        again, _ = call(capsys, "run", "--json", "--recipe", str(path))
        assert json.loads(again)["total"] == total
    assert found == {"0.0001": "no difference seen", "99.9": "the same"}
    _, err = call(capsys, *RUN, "--margin", "100", code=2)
    assert "cannot count as the same within 100 %; give more than 0 and less than 100 %." in err
    _, err = call(capsys, "run", "--recipe", str(path), "--margin", "3", code=2)
    assert "leave out --margin" in err


def test_a_margin_for_the_rows_of_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    usual, wide = (
        json.loads(call(capsys, "sweep", "--model", "tiny", "--json", *more)[0])[1:]
        for more in ((), ("--margin", "99.9"))
    )
    assert any(row["verdict"] == "no difference seen" for row in usual)
    assert {row["verdict"] for row in wide} <= {"the same", "worse", "better"}
    assert [row["nats"] for row in usual] == [row["nats"] for row in wide]
    _, err = call(capsys, "sweep", "--model", "tiny", "--kind", "importance", "--margin", "5", code=2)
    assert "leave out --margin" in err
