"""`--stitch` on the command line: what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import surgery_core as sc
from surgery_core.suture.calibration import calibration_texts
from tests.core.cli.test_cli import error, output

FEW = [
    f"The {one} went to the {other} and came back at night."
    for one in ("fox", "hen", "cat")
    for other in ("inn", "sea")
]


@pytest.fixture
def texts(tmp_path: Path) -> str:
    """Return a folder with some calibration texts."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, text in enumerate(FEW):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    return str(folder)


@pytest.fixture(autouse=True)
def _bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODEL_SURGERY_MODELS", raising=False)


def test_a_run_says_what_was_stitched_over_what(texts: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("run", "--plan", "0,4-11", "--stitch", "--stitch-texts", texts, "--max-new-tokens", "2", "--unproved")
    found = json.loads(output(capsys, *asked, "--json"))
    loaded = sc.load_model("fable", device="cpu")
    texts_given = [sc.read_text(text, f"{number}.txt") for number, text in enumerate(FEW)]
    report = sc.stitch_report(sc.stitch(loaded.model, "0,4-11", loaded.tokenizer, texts_given))
    assert found["recipe"].count("0,~,4-11") == 1
    assert found["stitches"]["key"] == report.stitches.key
    assert found["stitches"]["fitted"]["texts"] == len(FEW)
    assert found["stitches"]["plan"] == report.plan == "0,~,4-11"
    view = sc.operate(loaded.model, report.plan, stitches=report.stitches)
    expected = sc.score(view, loaded.tokenizer, sc.bundled_texts()).perplexity
    assert found["total"]["perplexity_after"] == pytest.approx(expected, rel=1e-6)
    assert "Stitched behind L0" in output(capsys, *asked)


def test_an_export_is_the_stitched_model(texts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new"
    asked = ("export", "--plan", "0,~,4-11", "--stitch-texts", texts, "--to", str(folder), "--no-figures", "--unproved")
    found = json.loads(output(capsys, *asked, "--dtype", "float32", "--json"))
    assert found["stitches"]["cuts"][0]["kept"]
    saved = AutoModelForCausalLM.from_pretrained(folder)
    loaded = sc.load_model("fable", device="cpu", dtype="float32")
    texts_given = [sc.read_text(text, f"{number}.txt") for number, text in enumerate(FEW)]
    view = sc.stitch(loaded.model, "0,~,4-11", loaded.tokenizer, texts_given)
    ids = torch.tensor([loaded.tokenizer(FEW[0])["input_ids"]])
    torch.testing.assert_close(saved(ids).logits, view(ids).logits, atol=1e-4, rtol=1e-3)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "`mlp.down_proj` of L0 was fitted by least squares" in card
    assert found["stitches"]["key"][:12] in card


def test_what_is_scored_is_not_fitted_and_nothing_to_stitch_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    clash = error(capsys, "run", "--plan", "0,~,4-11", "--text-set", "stories")
    assert f"{len(calibration_texts())} of the texts that are scored" in clash
    assert "no layer is missing between others" in error(capsys, "run", "--plan", "0-11", "--stitch")
    assert "very front" in error(capsys, "run", "--plan", "3-11", "--stitch")
    assert "--stitch-texts" in error(capsys, "keep", "--plan", "0,~,4-11", "--stitch-texts", ".", "--to", "x.py")
