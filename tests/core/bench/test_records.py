"""What is written down of a call: whole, once, readable again, and comparable."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import runpy
import subprocess
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import surgery_core
from surgery_core.bench import Bench, read_experiment
from surgery_core.errors import ExperimentError
from tests.tiny import build_tokenizer


@pytest.fixture
def exp(tiny_llama: Any, tmp_path: Path) -> Bench:
    return Bench(tiny_llama, tmp_path / "kept", build_tokenizer())


def files(exp: Bench) -> list[str]:
    return sorted(path.name for path in exp.save_dir.iterdir())


def test_a_record_says_what_ran_and_under_which_circumstances(exp: Bench) -> None:
    @exp.log_experiment
    def add(first: int, second: float, module: Any, ids: torch.Tensor, *, note: str = "") -> float:
        return first + second

    module, ids = torch.nn.Linear(3, 2), torch.tensor([[4, 5]])
    assert add(1, 0.5, module, ids, note="ä\ud800") == 1.5
    content = json.loads((exp.save_dir / "add.v1.json").read_bytes())
    assert content["arguments"] == {
        "first": 1,
        "second": 0.5,
        "module": "Linear (8 parameters)",
        "ids": {"kind": "int64 [1, 2]", "values": [[4, 5]]},
        "note": "ä\ud800",
    }
    assert (content["name"], content["number"], content["result"], content["error"]) == ("add", 1, 1.5, None)
    assert content["versions"] == {
        "surgery_core": surgery_core.__version__,
        "torch": version("torch"),
        "transformers": version("transformers"),
        "python": platform.python_version(),
    }
    assert content["source"].lstrip().startswith("@exp.log_experiment\n    def add(")
    assert content["source_sha256"] == hashlib.sha256(content["source"].encode()).hexdigest()
    assert content["model"]["class"] == "LlamaForCausalLM"
    assert content["model"]["plan"] == "0-3"
    assert 0 <= content["seconds"] < 10
    assert pd.Timestamp(content["started"]).tzinfo is not None


def test_an_error_is_written_down_with_its_type_and_goes_on(exp: Bench) -> None:
    @exp.log_experiment
    def fails() -> None:
        raise ZeroDivisionError("no way")

    with pytest.raises(ZeroDivisionError, match="no way"):
        fails()
    kept = exp.experiment("fails")
    assert kept.error == {"type": "ZeroDivisionError", "message": "no way"}
    assert kept.outcome == "ZeroDivisionError: no way"
    assert kept.result is None


def test_wrong_arguments_are_written_down_as_they_were_given(exp: Bench) -> None:
    @exp.log_experiment
    def one(first: int) -> int:
        return first

    with pytest.raises(TypeError):
        one(1, 2, other=3)  # type: ignore[call-arg]
    assert exp.experiment("one").arguments == {"0": 1, "1": 2, "other": 3}


def test_nothing_is_ever_overwritten(exp: Bench) -> None:
    @exp.log_experiment
    def number(value: int) -> int:
        return value

    exp.save_dir.mkdir()
    (exp.save_dir / "number.v1.json").write_text("mine")
    (exp.save_dir / ".number.v2.json.part").write_text("of a process that was killed, or still runs")
    (exp.save_dir / "number.v7.json").write_text("another of mine")
    assert [number(value) for value in (10, 11)] == [10, 11]
    assert (exp.save_dir / "number.v1.json").read_text() == "mine"
    assert (exp.save_dir / "number.v7.json").read_text() == "another of mine"
    assert [exp.experiment(f"number.v{at}").result for at in (8, 9)] == [10, 11]


def test_many_at_once_have_a_file_each(exp: Bench) -> None:
    @exp.log_experiment
    def number(value: int) -> int:
        return value

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(number, range(64)))
    assert files(exp) == sorted(f"number.v{at}.json" for at in range(1, 65))
    assert sorted(exp.experiment(f"number.v{at}").result for at in range(1, 65)) == list(range(64))


def test_a_folder_that_cannot_be_written_to_is_an_error_before_anything_runs(tiny_llama: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    exp, ran = Bench(tiny_llama, tmp_path / "taken"), []

    @exp.log_experiment
    def run() -> None:
        ran.append(1)

    with pytest.raises(ExperimentError, match="taken' cannot hold experiments .*choose another save_dir"):
        run()
    assert ran == []


def test_a_full_disk_leaves_no_file_and_does_not_lose_the_result(exp: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    @exp.log_experiment
    def run(fail: bool) -> str:
        if fail:
            raise LookupError("the experiment's own")
        return "an hour's work"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExperimentError, match="run.v1.json' could not be written .No space left.*attribute") as caught:
        run(False)
    assert caught.value.result == "an hour's work"
    with pytest.raises(LookupError, match="the experiment's own") as own:
        run(True)
    assert "No space left" in own.value.__notes__[0]
    assert files(exp) == []


def test_names_that_no_file_can_have(exp: Bench) -> None:
    assert exp.log_experiment(lambda: 3)() == 3
    assert files(exp) == ["_lambda_.v1.json"]
    assert exp.experiment("_lambda_").result == 3


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@b.c", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_is_that_of_the_functions_file(exp: Bench, tmp_path: Path) -> None:
    script = tmp_path / "study" / "study.py"
    script.parent.mkdir()
    script.write_text("def run():\n    return 1\n")
    run = exp.log_experiment(runpy.run_path(str(script))["run"])
    run()
    git(script.parent, "init", "-q")
    git(script.parent, "add", "study.py")
    git(script.parent, "commit", "-q", "-m", "A study")
    head = git(script.parent, "rev-parse", "HEAD")
    run()
    script.write_text("def run():\n    return 2\n")
    run()
    assert list(exp.experiments()["commit"].astype(object).where(lambda c: c.notna(), None)) == [
        None,
        head,
        f"{head}-dirty",
    ]


def test_experiments_as_a_table_with_what_cannot_be_read(exp: Bench) -> None:
    @exp.log_experiment
    def ratio(top: float, bottom: float) -> float:
        return top / bottom

    ratio(1, 2)
    with pytest.raises(ZeroDivisionError):
        ratio(1, 0)
    (exp.save_dir / "ratio.v3.json").write_text("{")
    (exp.save_dir / "notes.json").write_text("mine, and no experiment")
    table = exp.experiments().sort_values("number")
    assert list(table["number"].dropna()) == [1, 2]
    assert list(table["outcome"])[:2] == ["ok", "ZeroDivisionError: division by zero"]
    assert list(table["outcome"])[2].endswith("ratio.v3.json' is no record of an experiment: it is not valid JSON.")
    assert json.loads(table["arguments"].iloc[0]) == {"top": 1, "bottom": 2}
    assert list(table["file"].dropna()) == ["ratio.v1.json", "ratio.v2.json"]


def test_a_bench_without_experiments_has_an_empty_table(exp: Bench) -> None:
    table = exp.experiments()
    assert len(table) == 0
    assert "outcome" in table.columns
    with pytest.raises(ExperimentError, match="no experiment 'run' in .*there are: none yet"):
        exp.experiment("run")


def test_experiments_side_by_side(exp: Bench) -> None:
    @exp.log_experiment
    @exp.use_tools("compare")
    def compared(plan: str, compare: Any) -> Any:
        return {"both": compare(plan, "There was once a fox."), "list": [1, 2.5], "tensor": torch.tensor(3.0)}

    @exp.log_experiment
    def other(plan: str, factor: int) -> Any:
        return {"list": [4]}

    made = compared("0,2-3")["both"]
    compared("0-1,3")
    other("0", 9)
    table = exp.compare(["compared.v1", "compared", "other"])
    assert list(table.columns) == ["compared.v1", "compared", "other"]
    assert list(table.loc["argument: plan"]) == ["0,2-3", "0-1,3", "0"]
    assert list(table.loc["argument: factor"].isna()) == [True, True, False]
    assert table.loc["result.both.operated.perplexity", "compared.v1"] == made.operated.perplexity
    assert table.loc["result.both.kl", "compared.v1"] == made.kl
    assert table.loc["result.both.base.perplexity"].nunique() == 1
    assert list(table.loc["result.list.0"]) == [1, 1, 4]
    assert table.loc["result.tensor", "compared"] == 3.0
    assert table.loc["source: source", "compared"] != table.loc["source: source", "other"]


DAMAGED = {
    "not JSON": ("{", "not valid JSON"),
    "a list": ("[]", "does not say which format"),
    "deep": ("[" * 100_000, "not valid JSON"),
    "of a later version": ('{"format": 2}', "its format is 2, not 1"),
    "without a name": ('{"format": 1}', "its field 'name' is missing"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    content, message = DAMAGED[name]
    (tmp_path / "run.v1.json").write_text(content)
    with pytest.raises(ExperimentError, match=message):
        read_experiment(tmp_path / "run.v1.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="run.v1.json' cannot be read .No such file"):
        read_experiment(tmp_path / "run.v1.json")


RESULTS: dict[str, Any] = {
    "of an unknown kind": {"stored_as": "code"},
    "a record that is none": {"stored_as": "record", "type": "Popen", "fields": {"args": ["true"]}},
    "a record with another field": {"stored_as": "record", "type": "Prompt", "fields": {"command": "true"}},
    "a dtype that is none": {"stored_as": "tensor", "dtype": "load", "shape": [1], "bytes": "AAAA"},
    "another number of bytes": {"stored_as": "tensor", "dtype": "float32", "shape": [9], "bytes": "AAAAAA=="},
    "an array of objects": {"stored_as": "array", "dtype": "|O", "shape": [1], "scalar": False, "bytes": "AAAA"},
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_that_was_edited_is_refused(name: str, exp: Bench) -> None:
    @exp.log_experiment
    def run() -> int:
        return 1

    run()
    path = exp.save_dir / "run.v1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"result": RESULTS[name]}))
    with pytest.raises(ExperimentError, match="The result in .*run.v1.json' cannot be read"):
        _ = exp.experiment("run").result
