"""The command `sweep`, run as a person runs it: tables, results files that go on, several models, errors."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from surgery_core.cli.options import main
from surgery_core.measure.compare import score
from surgery_core.measure.importance import importance
from surgery_core.models.opening import load_model
from surgery_core.surgery.view import operate
from surgery_core.sweeps.kinds import KINDS

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _only_the_tiny_model(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(tiny_folder))


@pytest.fixture
def story(tmp_path: Path) -> str:
    path = tmp_path / "story.txt"
    path.write_text("The old woman had a cat.", encoding="utf-8")
    return str(path)


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["sweep", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["sweep", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_rows_are_the_scores_of_each_plan(capsys: pytest.CaptureFixture[str], story: str) -> None:
    text = output(capsys, "--model", "tiny", "--texts", story, "--csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["plan"] for row in rows] == ["0-3", "1-3", "0,2-3", "0-1,3", "0-2"]
    loaded = load_model("tiny")
    for row in rows:
        expected = score(operate(loaded.model, row["plan"]), loaded.tokenizer, Path(story).read_text())
        assert float(row["perplexity"]) == pytest.approx(expected.perplexity, rel=1e-5)


def test_a_results_file_is_gone_on_with(capsys: pytest.CaptureFixture[str], story: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    arguments = ("--model", "tiny", "--texts", story, "--kind", "skip-block", "--out", str(path))
    output(capsys, *arguments)
    whole = path.read_text()
    path.write_text("".join(line + "\n" for line in whole.splitlines()[:4]) + "tiny,half a li")
    assert "9 plans" in output(capsys, *arguments)
    again, first = pd.read_csv(path), pd.read_csv(io.StringIO(whole))
    assert list(again["number"]) == list(first["number"]) == list(range(-1, 9))
    assert again["nats"].tolist() == pytest.approx(first["nats"].tolist(), abs=1e-6)
    before = path.read_bytes()
    output(capsys, *arguments)
    assert path.read_bytes() == before


def test_a_sweep_that_was_killed_goes_on(story: str, tmp_path: Path, tiny_folder: Path) -> None:
    path = tmp_path / "rows.csv"
    Path(story).write_text("The old woman had a cat. " * 600, encoding="utf-8")  # so that it takes a while
    command = [sys.executable, "-m", "surgery_core", "sweep", "--model", str(tiny_folder), "--kind", "replace"]
    command += ["--texts", story, "--out", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not path.exists() or path.read_text().count("\n") < 4:
            assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    had = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    lines = path.read_text().splitlines(keepends=True)
    assert lines[: len(had)] == had
    assert list(pd.read_csv(path)["number"]) == list(range(-1, 12))


def test_several_models_go_into_a_folder(
    capsys: pytest.CaptureFixture[str], story: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "models" / "other"
    shutil.copytree(tiny_folder, other)
    monkeypatch.setenv("MODEL_SURGERY_MODELS", f"{tiny_folder}:{other}")
    output(capsys, "--model", "tiny", "other", "--texts", story, "--out", str(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["other-delete.csv", "tiny-delete.csv"]


def test_kinds_importance_and_greedy_removal(capsys: pytest.CaptureFixture[str], story: str) -> None:
    listed = output(capsys, "--kinds")
    assert all(kind.key in listed for kind in KINDS)
    loaded = load_model("tiny")
    rows = json.loads(output(capsys, "--model", "tiny", "--texts", story, "--kind", "importance", "--json"))
    expected = importance(loaded.model, loaded.tokenizer, Path(story).read_text()).block_influence
    assert [row["block_influence"] for row in rows] == pytest.approx(expected.tolist())
    rows = json.loads(output(capsys, "--model", "tiny", "--texts", story, "--kind", "greedy", "--json"))
    assert [row["layers"] for row in rows] == [4, 3, 2, 1]


def test_a_table_for_people(capsys: pytest.CaptureFixture[str], story: str) -> None:
    text = output(capsys, "--model", "tiny", "--texts", story, "--kind", "swap-pairs", "--loss-only")
    assert text.startswith("tiny, swap-pairs: 6 plans\n\nx ")
    assert "1,0,2-3" in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--kind", "explode"), "'explode'"),
        (("--kind", "skip-block", "--max-length", "9"), "9 layers"),
        (("--kind", "move", "--layer", "12"), "no layer 12"),
        (("--texts", "nowhere.txt"), "nowhere.txt"),
        (("--start", "0-9"), "layer 9"),
        (("--memory", "-1"), "-1"),
        (("--kind", "greedy", "--out", "x.csv"), "--out"),
        (("--kind", "greedy", "--beam", "0"), "beam of 0"),
        (("--engine", "ray", "--workers", "0"), "0 workers"),
        (("--out", "no/such/folder/rows.csv"), "rows.csv"),
    ],
)
def test_bad_input_is_named(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], named: str) -> None:
    assert named in error(capsys, "--model", "tiny", *arguments)


def test_rows_of_other_texts_are_refused(capsys: pytest.CaptureFixture[str], story: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    output(capsys, "--model", "tiny", "--texts", story, "--out", str(path))
    other = tmp_path / "other.txt"
    other.write_text("Something else entirely.")
    assert "its texts is" in error(capsys, "--model", "tiny", "--texts", str(other), "--out", str(path))


def test_only_the_best_are_looked_for_when_asked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    many = tmp_path / "many.jsonl"  # texts enough for plans to be surely apart
    many.write_text(
        "".join(json.dumps({"text": f"A fox and {n} hens ran."}) + "\n" for n in range(60)), encoding="utf-8"
    )
    asked = ("--kind", "scale", "--model", "tiny", "--factors", "0,0.5,2,40,100,1000", "--texts", str(many))
    rows = json.loads(output(capsys, *asked, "--best", "3", "--json"))
    assert len(rows) == 7
    left = [row for row in rows if row["left"]]
    assert left
    assert all(row["left"].endswith("texts: surely not among the 3 best.") for row in left)
    assert json.loads(rows[0]["sweep_measures"])["best"] == 3
    text = output(capsys, *asked, "--best", "3")
    assert f"{len(left)} plans were left early, surely not among the best" in text
    assert "left early" not in output(capsys, *asked, "--best", "0")
    assert "The best -1 plans cannot be looked for" in error(capsys, *asked, "--best", "-1")
