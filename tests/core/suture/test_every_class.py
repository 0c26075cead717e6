"""Every causal LM class that can be stitched, stitched and healed: saved, opened by plain transformers, the same logits."""

from __future__ import annotations

import itertools
import re
import tempfile
from functools import cache
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import surgery_core as sc
from surgery_core.errors import ModelError
from surgery_core.models.opening import LoadedModel
from surgery_core.models.weights import quiet
from surgery_core.proof.export import export_view
from surgery_core.proof.preflight import fingerprint
from surgery_core.surgery.building import private_copy
from surgery_core.suture.healing import Healing, HeldOut
from surgery_core.suture.stitch import _Work
from surgery_core.suture.trainer import Trainer
from tests.core.support import zoo
from tests.core.support.columns import Outcome, inputs

CUT = "0-1,3"
NO_FACTS: Any = None
LETTERS = "abcdefghijklmnopqrstuvwxyz ,."
TEXTS = [
    f"{one} ran to the {two}, and {two}, {two}."
    for one in ("a fox", "a hen", "an ox")
    for two in ("sea", "inn", "hill")
]
SHORT = Healing(rank=2, tokens_per_step=64, window=32, learning_rate=1e-2, checks=1)
SAMPLE = {
    "bart": "stitched", "bloom": "", "codegen": "", "diffllama": "both", "falcon": "both", "gpt_neo": "", "gptj": "",
    "inkling_text": "stitched", "mistral": "", "mamba": "stitched", "mixtral": "stitched", "mllama": "stitched", "olmo2": "stitched",
    "reformer": "both", "xlm": "both",
}  # fmt: skip
"""Some of every kind, and which of the two they refuse; all the others run with `pytest -m matrix`."""


@pytest.fixture(autouse=True)
def _all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every stitch and every step count as better: a random model predicts no text, so its loss says nothing."""
    falling = itertools.count(0, -1)
    monkeypatch.setattr(_Work, "nats", lambda work, view, told: float(next(falling)))
    monkeypatch.setattr(Trainer, "_reading", lambda trainer, look: HeldOut(trainer.now.step, float(next(falling)), 0.0))


@cache
def tokenizer() -> Any:
    """Return a tokenizer of letters that fits the small vocabulary of all of these models."""
    letters = Tokenizer(models.WordLevel({one: at + 3 for at, one in enumerate(LETTERS)} | {"?": 2}, unk_token="?"))  # type: ignore[arg-type]
    letters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=letters)


def outcome(model_type: str, how: str) -> Outcome | None:
    """Return whether a saved model has the logits of its view, or why there is none; None where none can be built."""
    base = zoo.try_build(model_type)
    if base is None:
        return None
    before = fingerprint(base)
    try:
        if how == "stitched":
            view = sc.stitch(base, CUT, tokenizer(), TEXTS)
            if not (report := sc.stitch_report(view)).stitches.all:
                return Outcome("refused", report.sentence)
        else:
            view = private_copy(sc.heal(base, CUT, tokenizer(), TEXTS, steps=2, settings=SHORT))
    except ModelError as error:
        return Outcome("refused", str(error))
    if fingerprint(base) != before:
        return Outcome("wrong", "the base is another")
    batch = inputs(2, padded=False)
    with torch.inference_mode():
        cut, expected = (one(**batch, use_cache=False).logits for one in (sc.operate(base, CUT), view))
    with tempfile.TemporaryDirectory() as folder, quiet():
        try:
            # its facts go into cards, and the card is given
            export_view(LoadedModel(base, tokenizer(), NO_FACTS), view, folder, "A card.", dtype="float32")
        except ModelError as error:
            return Outcome("refused", str(error))
        saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = saved(**batch, use_cache=False).logits
    if torch.equal(cut, expected):
        return Outcome("wrong", "nothing was fitted")
    worst = float((logits - expected).abs().max())
    return Outcome("right") if worst <= 1e-4 else Outcome("wrong", f"logits differ by {worst:.1g}")


@pytest.mark.parametrize("how", ["stitched", "healed"])
@pytest.mark.parametrize("model_type", SAMPLE)
def test_the_sample_is_saved_as_it_is_or_refused(model_type: str, how: str) -> None:
    found = outcome(model_type, how)
    assert found is not None
    assert found.verdict != "wrong", found.reason
    assert found.verdict == ("refused" if SAMPLE[model_type] in (how, "both") else "right"), found.reason


@pytest.mark.matrix
@pytest.mark.parametrize("how", ["stitched", "healed"])
@pytest.mark.parametrize("model_type", zoo.model_types())
def test_every_class_is_saved_as_it_is_or_refused(model_type: str, how: str) -> None:
    found = outcome(model_type, how)
    if found is None:
        assert zoo.try_build(model_type) is None
        return
    assert found.verdict != "wrong", found.reason
    assert found.verdict == "right" or not RAW.search(found.reason)


RAW = re.compile(r"\w+Error\b|<class|'\w+' object")
"""Marks of the text of a Python exception."""
