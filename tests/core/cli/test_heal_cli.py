"""`heal` on the command line: what it writes, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

import surgery_core as sc
from tests.core.cli.test_cli import error, output

FEW = [
    f"The {one} went to the {other} and came back at night, and told everybody there of the {one} in the {other}. But the "
    f"{other} was far away, and the {one} was so tired that it slept until the next morning."
    for one in ("fox", "hen", "cat")
    for other in ("inn", "sea", "wood", "mill")
]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder with some texts."""
    folder = tmp_path_factory.mktemp("texts")
    for number, text in enumerate(FEW):
        (folder / f"{number:02}.txt").write_text(text, encoding="utf-8")
    return str(folder)


@pytest.fixture(autouse=True)
def _bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODEL_SURGERY_MODELS", raising=False)


def test_a_heal_is_saved_goes_on_and_says_what_it_came_to(
    texts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, state = tmp_path / "new", tmp_path / "state"
    asked = ("heal", "--plan", "0,4-11", "--texts", texts, "--steps", "2", "--unproved", "--resume", str(state))
    found = json.loads(output(capsys, *asked, "--out", str(folder), "--json"))
    assert found["folder"] == str(folder)
    assert (found["plan"], found["layers"], found["steps"]) == ("0,~,4-11", 9, 2)
    assert [row["model"] for row in found["models"]] == ["base", "cut", "stitched", "healed"]
    assert found["texts"]["held"]["titles"] == ["07.txt"]
    assert "07.txt" not in found["texts"]["trained"]["titles"]
    # by plain transformers, on the text that was not trained on
    saved = AutoModelForCausalLM.from_pretrained(folder)
    capsys.readouterr()  # it shows how far it is
    loaded = sc.load_model("fable", device="cpu")
    ids = torch.tensor([loaded.tokenizer(FEW[7])["input_ids"]])
    for model, row in ((loaded.model, found["models"][0]), (saved, found["models"][3])):
        nats = nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:])
        assert row["nats"] == pytest.approx(nats.item(), rel=1e-4)
    nats = [row["nats"] for row in found["models"]]
    assert found["back"] == pytest.approx((nats[1] - nats[3]) / (nats[1] - nats[0]))
    assert json.loads((folder / "healing.json").read_text())["made"] == found["made"]
    # nothing is left to do, so the same comes out
    again = json.loads(output(capsys, *asked, "--json"))
    assert [row["nats"] for row in again["models"]] == nats
    assert again["seconds"] == found["seconds"]
    assert not math.isnan(again["back"])
    assert "--steps 2" in (folder / "README.md").read_text(encoding="utf-8")
    assert "begun with steps 2, and 3" in error(capsys, *asked[:6], "3", *asked[7:])
    assert "holds something already" in error(capsys, "heal", "--plan", "0,4-11", "--out", str(folder))


def test_lines_are_written_while_it_trains(texts: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("heal", "--plan", "0-9", "--texts", texts, "--steps", "1", "--unproved", "--no-stitch")
    assert sc_main(*asked) == 0
    shown = capsys.readouterr()
    assert "step 0 (100%" in shown.err
    assert "step 1 (100%" in shown.err
    assert "held-out loss" in shown.err
    assert "stitched" not in shown.out
    assert "Healed: 1 steps of low-rank updates" in shown.out


def sc_main(*asked: str) -> int:
    from surgery_core.cli.options import main

    return main(list(asked))


def test_nothing_to_heal_and_too_little_text_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing to heal" in error(capsys, "heal", "--plan", "0-11")
    (tmp_path / "short.txt").write_text("The fox and the hen went to the old mill by the sea.")
    assert "needs at least 256" in error(capsys, "heal", "--plan", "0,4-11", "--texts", str(tmp_path), "--unproved")
    assert "rank of 0" in error(capsys, "heal", "--plan", "0,4-11", "--rank", "0")
