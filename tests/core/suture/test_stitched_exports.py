"""An exported stitched model is an ordinary checkpoint that computes what the view computes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import surgery_core as sc
from surgery_core.keeping.checkpoint import card
from surgery_core.proof.preflight import fingerprint
from surgery_core.suture.stitch import _Work
from tests.tiny import build_model, build_tokenizer

TEXTS = [f"{word} ran to the {other}, and {other * 2}." for word in ("fox", "hen", "ox") for other in ("sea", "inn")]
MORE = {
    "granite": {"residual_multiplier": 0.5, "attention_multiplier": 0.3},
    "gptj": {"n_layer": 4, "n_embd": 32, "n_head": 4, "rotary_dim": 4, "n_positions": 128},
    "codegen": {"n_layer": 4, "n_embd": 32, "n_head": 4, "rotary_dim": 4, "n_positions": 128},
}
FAMILIES = (
    "llama", "gpt2", "gpt_neox", "opt", "bloom", "phi", "qwen2", "qwen3", "mistral", "stablelm", "starcoder2", "cohere",
    "olmo", "granite", "gptj", "codegen",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every stitch count as better: a random model predicts no text, so its loss says nothing."""
    falling = itertools.count(0, -1)
    monkeypatch.setattr(_Work, "nats", lambda work, view, told: float(next(falling)))


def loaded_model(family: str, folder: Path) -> Any:
    build_model(family, **MORE.get(family, {})).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return sc.load_model(str(folder), device="cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_transformers_opens_the_same_model(family: str, tmp_path: Path) -> None:
    base = loaded_model(family, tmp_path / "base")
    before = fingerprint(base.model)
    view = sc.stitch(base.model, "0,2-3", base.tokenizer, TEXTS)
    stitches = sc.stitch_report(view).stitches
    assert str(stitches.plan) == "0,~,2-3"
    folder = sc.export_model(base, stitches.plan, tmp_path / "new", stitches=stitches)
    saved = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([base.tokenizer("The old woman had a cat.").input_ids])
    with torch.inference_mode():
        expected, cut = view(ids).logits, sc.operate(base.model, "0,2-3")(ids).logits
        torch.testing.assert_close(saved(ids).logits, expected, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(cut, expected, atol=1e-3)
    assert fingerprint(base.model) == before


def test_halves_and_factors_go_into_the_fitted_weights(tmp_path: Path) -> None:
    base = loaded_model("llama", tmp_path / "base")
    view = sc.stitch(base.model, "0,1.mlp*0.5,~,3", base.tokenizer, TEXTS)
    stitches = sc.stitch_report(view).stitches
    folder = sc.export_model(base, stitches.plan, tmp_path / "new", stitches=stitches)
    ids = torch.tensor([base.tokenizer("The old woman had a cat.").input_ids])
    with torch.inference_mode():
        saved = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
        torch.testing.assert_close(saved, view(ids).logits, atol=1e-4, rtol=1e-3)


def test_the_card_says_what_was_fitted_over_what_and_nothing_of_it_otherwise(tmp_path: Path) -> None:
    base = loaded_model("llama", tmp_path / "base")
    stitches = sc.stitch_report(sc.stitch(base.model, "0,2-3", base.tokenizer, TEXTS)).stitches
    said = card(base.info, stitches.plan, stitches=stitches)
    assert "`mlp.down_proj` of L0 was fitted by least squares" in said
    assert f"over {stitches.n_tokens} tokens of {len(TEXTS)} texts" in said
    assert stitches.key[:12] in said
    assert "--plan '0,~,2-3' --stitch-texts TEXTS" in said
    usual = replace(stitches, texts=sc.text_sets()["stories"].digest)
    assert "TEXTS" not in card(base.info, stitches.plan, stitches=usual)
    assert "fitted" not in card(base.info, stitches.plan.unstitched)
