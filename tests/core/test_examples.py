"""The examples run as they stand, in an empty folder, and what they print is right."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from surgery_core import bundled_texts, load_model, read_experiment

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
HERE = {"model_surgery", "layer_that_matters", "best_block_to_drop", "lens_before_and_after", "sweep_to_csv"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return the function that runs an example in an empty folder and returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def run_it(name: str) -> str:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run_it


def losses_without(layer: int | None) -> float:
    """Return the mean loss a token over the bundled texts, in nats, of the plain model without a layer."""
    loaded = load_model("fable")
    layers = [module for at, module in enumerate(loaded.model.model.layers) if at != layer]
    loaded.model.model.layers = torch.nn.ModuleList(layers)
    loaded.model.config.num_hidden_layers = len(layers)
    nats, count = 0.0, 0
    for text in bundled_texts():
        ids = torch.tensor([loaded.tokenizer(text.text).input_ids])
        with torch.no_grad():
            logits = loaded.model(ids, use_cache=False).logits[0, :-1].double()
        nats += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += ids.shape[1] - 1
    return nats / count


def test_all_examples_are_listed_and_tested() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == HERE | {"plan_in_nnsight"}
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"({path.name})" in listed for path in EXAMPLES.glob("*.[pi][yp]*"))


def test_the_original_example_shows_each_change(run: Any) -> None:
    parts = run("model_surgery").split("surgery:\n\n")
    before, replaced, permuted, deleted = parts[1:5]
    assert "(0-11): 12 x LlamaDecoderLayer(" in before
    assert "(0-1): 2 x Adapter(" in replaced
    assert "(2-11): 10 x LlamaDecoderLayer(" in replaced
    assert "OperatedLayers(  # plan 0-1\n      (0-1): 2 x LlamaDecoderLayer(" in permuted
    assert "OperatedLayers(  # plan 2-11\n      (0-9): 10 x LlamaDecoderLayer(" in deleted
    assert "test_model_surgery" in deleted.splitlines()[-1]
    (kept,) = Path("experiments").iterdir()
    assert read_experiment(kept).tools == ["surgery"]


def test_the_layer_that_matters(run: Any) -> None:
    said = run("layer_that_matters")
    ranking = read_experiment("experiments/layer_that_matters.v1.json").result
    assert sorted(ranking["position"]) == list(range(12))
    base = losses_without(None)
    for row in ranking.iloc[[0, -1]].itertuples():
        assert row.loss_change == pytest.approx(losses_without(row.position) - base, abs=1e-4)
    assert f"Without {ranking['layer'][0]} the model is lost; {ranking['layer'].iloc[-1]} is hardly missed." in said


def test_the_best_block_to_drop(run: Any) -> None:
    said = run("best_block_to_drop")
    best = read_experiment("experiments/best_block_to_drop.v1.json").result
    assert list(best["length"]) == [1, 2, 3, 4, 5, 6]
    assert best["loss_change"][0] == pytest.approx(losses_without(best["first"][0]) - losses_without(None), abs=1e-4)
    assert best["loss_change"].is_monotonic_increasing
    assert said.rstrip().endswith("of 6 lengths.")


def test_a_lens_before_and_after(run: Any) -> None:
    said = run("lens_before_and_after")
    assert said.count("the next word at the last token") == 3
    frames = read_experiment("experiments/lens_before_and_after.v1.json").result
    assert [frame["row"].max() for frame in frames.values()] == [12, 12, 11]
    assert all(abs(frame["kl"].iloc[-1]) < 1e-5 for frame in frames.values())
    loaded = load_model("fable")
    ids = torch.tensor([loaded.tokenizer("The king had three").input_ids])
    for layers, frame in ((12, frames["tuned lens"]), (11, frames["tuned lens, after"])):
        kept = [module for at, module in enumerate(loaded.model.model.layers) if layers == 12 or at != 5]
        loaded.model.model.layers, loaded.model.config.num_hidden_layers = torch.nn.ModuleList(kept), layers
        with torch.no_grad():
            likeliest = loaded.model(ids, use_cache=False).logits[0, -1].argmax()
        assert frame["top"].iloc[-1] == loaded.tokenizer.decode(likeliest)


def test_a_sweep_to_csv_and_a_chart(run: Any) -> None:
    run("sweep_to_csv")
    rows = pd.read_csv("repeated.csv")
    assert list(rows["plan"])[:2] == ["0,0-11", "0-1,1-11"]
    assert len(rows) == 12
    assert Path("repeated.svg").read_text(encoding="utf-8").startswith("<svg")
    kept = json.loads(Path("experiments/repeat_every_layer.v1.json").read_bytes())["result"]["chart"]
    assert kept["stored_as"] == "chart"
    assert kept["specification"]["mark"]["type"] == "bar"


@pytest.mark.skipif(importlib.util.find_spec("nnsight") is None, reason="nnsight is not installed")
def test_a_plan_inside_nnsight(tmp_path: Path) -> None:
    # in a process of its own, for nnsight changes torch when it is imported
    command = [sys.executable, str(EXAMPLES / "plan_in_nnsight.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "the plan 0-4,7-11 agree on." in said.stdout


def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(EXAMPLES / "model_surgery.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    said = outputs["call"][0]["text"]
    assert said.count("surgery:") == 4
    assert "(0-1): 2 x Adapter(" in said
    assert "OperatedLayers(  # plan 2-11" in said
    assert "without.v3" in outputs["beside"][0]["data"]["text/html"]
    assert sorted(path.name for path in (tmp_path / "experiments").iterdir()) == [
        "without.v1.json",
        "without.v2.json",
        "without.v3.json",
    ]
