"""Joined and cut into windows as papers do it: against the loop of the published scripts, in plain transformers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from surgery_core.errors import TextError
from surgery_core.measure.compare import compare, reference, score
from surgery_core.measure.encoding import encode_texts
from surgery_core.measure.importance import importance
from surgery_core.models.opening import load_model
from surgery_core.surgery.view import operate
from surgery_core.sweeps.file import texts_digest
from surgery_core.sweeps.sweep import sweep
from surgery_core.text import PAPERS, Text, TextSet, as_papers, text_sets
from tests.tiny import build_model, build_tokenizer

ROOT = Path(__file__).resolve().parents[3]
TEXTS = [f"Number {number}. The fox went over the hill, and came back {number} times." for number in range(12)]
TEXTS[3] = ""


def by_script(model: Any, tokenizer: Any, texts: list[str], seqlen: int) -> tuple[float, list[float]]:
    """Return the perplexity as GPTQ's and SparseGPT's scripts take it, and the mean loss of each window.

    Their lines: testenc = tokenizer("\\n\\n".join(texts)); nsamples = numel // seqlen; for each sample shifted cross
    entropy times seqlen; ppl = exp(sum / (nsamples * seqlen)).
    """
    ids = tokenizer("\n\n".join(texts), return_tensors="pt").input_ids
    nsamples, nlls = ids.numel() // seqlen, []
    for i in range(nsamples):
        batch = ids[:, i * seqlen : (i + 1) * seqlen]
        with torch.no_grad():
            logits = model(batch).logits
        loss = torch.nn.CrossEntropyLoss()(logits[0, :-1].float(), batch[0, 1:])
        nlls.append(loss.float() * seqlen)
    return float(torch.exp(torch.stack(nlls).sum() / (nsamples * seqlen))), [float(n) / seqlen for n in nlls]


@pytest.mark.parametrize(("window", "seqlen"), [(2048, 128), (48, 48)])
def test_a_tiny_model_agrees_with_the_published_loop(window: int, seqlen: int) -> None:
    """Its context is 128 tokens, a token a byte; the window is the shorter of the two."""
    model, tokenizer = build_model("llama"), build_tokenizer()
    texts = [Text(str(number), text) for number, text in enumerate(TEXTS)]
    wanted, losses = by_script(model, tokenizer, TEXTS, seqlen)
    table = score(model, tokenizer, as_papers(texts, window))
    assert table.perplexity == pytest.approx(wanted, rel=1e-5)
    assert [row.nats_per_token for row in table.rows] == pytest.approx(losses, rel=1e-4)
    letters = len("\n\n".join(TEXTS))
    assert table.cut is not None
    assert (table.cut.window, table.cut.n_windows, table.cut.left_out) == (seqlen, *divmod(letters, seqlen))
    assert [row.n_tokens for row in table.rows] == [seqlen - 1] * (letters // seqlen)
    assert [row.context for row in table.rows] == [seqlen] * len(table.rows)
    assert [row.n_bytes for row in table.rows] == [seqlen - 1] * len(table.rows)


def test_fable_agrees_with_the_published_loop() -> None:
    loaded = load_model(str(ROOT / "models" / "fable"), device="cpu", dtype="float32")
    stories = text_sets()["stories"]
    context = loaded.info.context_length
    assert context is not None
    wanted, losses = by_script(loaded.model, loaded.tokenizer, [one.text for one in stories.texts], min(2048, context))
    (joined,) = stories.scored(PAPERS)
    table = score(loaded.model, loaded.tokenizer, joined)
    assert len(table.rows) == len(losses)
    assert table.perplexity == pytest.approx(wanted, rel=1e-5)


def test_both_sides_of_a_comparison_are_cut_alike() -> None:
    """A window's figures are those of the same tokens scored as a text of their own."""
    model, tokenizer = build_model("llama"), build_tokenizer()
    joined = as_papers([text for text in TEXTS if text], 64)
    view = operate(model, "0,2-3")
    found = compare(model, view, tokenizer, joined)
    assert compare(reference(model, tokenizer, joined), view, tokenizer, joined).ratio == found.ratio
    whole = "\n\n".join(text for text in TEXTS if text)
    pieces = [whole[at : at + 64] for at in range(0, len(whole) - 63, 64)]
    apart = compare(model, view, tokenizer, pieces)
    assert found.operated.perplexity == pytest.approx(apart.operated.perplexity, rel=1e-6)
    assert found.kl == pytest.approx(apart.kl, rel=1e-5)
    assert found.interval("ratio").low == pytest.approx(apart.interval("ratio").low, rel=1e-6)
    assert found.units.unit == "window"
    assert found.verdict().n_units == len(pieces)
    assert "texts like these" not in found.verdict().sentence
    assert found.cut is not None
    assert found.cut.sentence == (
        f"As papers do it: joined with blank lines and cut into {len(pieces)} windows of 64 tokens without overlap; each is "
        f"read for itself, and all of its tokens but the first are scored. The last {len(whole) - 64 * len(pieces)} tokens "
        "fill no window and are left out."
    )
    with pytest.raises(TextError, match="others are asked about"):
        compare(reference(model, tokenizer, joined), view, tokenizer, as_papers(TEXTS[:3], 64))


def test_few_windows_are_taken_in_runs_of_tokens() -> None:
    model, tokenizer = build_model("llama"), build_tokenizer()
    encoded = encode_texts(model, tokenizer, as_papers(["x" * 250], 64))
    assert (encoded.units.name, len(encoded.units)) == ("block of 16 tokens", 3 * (63 // 16))


def test_sweeps_and_importance_take_the_same_windows() -> None:
    model, tokenizer = build_model("llama"), build_tokenizer()
    joined = as_papers([text for text in TEXTS if text], 64)
    rows = list(sweep(model, tokenizer, (joined,), "delete"))
    assert rows[0].perplexity == pytest.approx(score(model, tokenizer, joined).perplexity, rel=1e-6)
    windows = len(encode_texts(model, tokenizer, joined).ids)
    assert importance(model, tokenizer, joined).n_texts == windows
    digest = texts_digest(encode_texts(model, tokenizer, joined))
    assert digest.startswith(f"{windows} windows of 64 tokens of joined texts, ")


def test_letters_of_several_tokens_lose_no_byte() -> None:
    """A token a byte: a letter of several bytes may be cut, and its bytes count where it ends."""
    model, tokenizer = build_model("llama"), build_tokenizer()
    text = "é" * 99 + "a"
    encoded = encode_texts(model, tokenizer, as_papers([text], 25))
    # 199 tokens are 7 windows; their 175 tokens are 87 letters and half of one
    assert len(encoded.ids) == 7
    assert sum(map(sum, encoded.sizes)) == 2 * 87
    assert np.concatenate(encoded.ids).tolist() == tokenizer(text)["input_ids"][: 25 * len(encoded.ids)]


def test_what_cannot_be_cut_is_said() -> None:
    model, tokenizer = build_model("llama"), build_tokenizer()
    with pytest.raises(TextError, match="2 texts joined: 8 tokens, fewer than one window of 128"):
        score(model, tokenizer, as_papers(["One", "two"]))
    with pytest.raises(TextError, match="A window of 1 tokens has nothing to score"):
        as_papers(["One"], 1)
    with pytest.raises(TextError, match="second text that is cut"):
        score(model, tokenizer, [as_papers(["x" * 200], 64), Text("B", "y" * 200, window=64)])
    with pytest.raises(TextError, match="cut as 'lines'; there are each and papers"):
        TextSet("a", "A", "", (Text("One", "x"),)).scored("lines")


def test_one_cut_text_may_stand_beside_others() -> None:
    model, tokenizer = build_model("llama"), build_tokenizer()
    table = score(model, tokenizer, [as_papers(["x" * 130], 64), Text("B", "yyyy")])
    assert [row.title for row in table.rows] == ["Window 1 of 2", "Window 2 of 2", "B"]
    assert math.isfinite(table.perplexity)
