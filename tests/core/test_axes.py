"""The axes of reality: depths from 1 to 126, vocabularies to 262,144, three number formats, texts of every length.

Expected values are sums over whole logits of plain transformers, written down here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import surgery_core as sc
from surgery_core.lenses.reading import LogitLens
from surgery_core.states import windows
from tests.tiny import build_model, build_tokenizer

NARROW = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "head_dim": 8, "num_key_value_heads": 1}
TEXTS = ["It was a dark night, and the wolf came.", "ab", "The fox said: how do you do?"]
DTYPES = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 5e-3}
tokenizer = cache(build_tokenizer)


@cache
def model_of(depth: int, vocab: int = 260, dtype: str = "float32") -> Any:
    specials = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0} if vocab < 260 else {}
    model = build_model("llama", num_hidden_layers=depth, vocab_size=vocab, **specials, **NARROW)
    return model.to(getattr(torch, dtype))


def expected(base: Any, operated: Any, texts: list[str]) -> dict[str, float]:
    """Return mean loss of the operated model, KL and agreement, each text alone and whole."""
    nats, kl, top1, top5 = [], [], [], []
    for text in texts:
        ids = torch.tensor([tokenizer()(text).input_ids])
        raw, other = (model(ids).logits[0, :-1].float() for model in (base, operated))
        p, q = raw.double().log_softmax(-1), other.double().log_softmax(-1)
        nats.append(-q.gather(-1, ids[0, 1:, None])[:, 0])
        kl.append((p.exp() * (p - q)).sum(-1))
        order = other.sort(dim=-1, descending=True, stable=True).indices
        place = (order == raw.argmax(-1, keepdim=True)).float().argmax(-1)
        top1.append((place < 1).double())
        top5.append((place < 5).double())
    columns = {"nats": nats, "kl": kl, "top1": top1, "top5": top5}
    return {name: float(torch.cat(values).mean()) for name, values in columns.items()}


def plans_of(depth: int) -> list[str]:
    last = depth - 1
    found = [
        f"0-{last}",
        "" if depth == 1 else f"0-{last - 1}",
        f"{last}-0" if depth > 1 else "0,0",
        f"0-{last},{last}",
    ]
    if depth > 100:
        # a proof of a whole reordering takes as long as all the rest
        return found[1:]
    return [*found, f"(0-{last})x2", f"0*0.5{f',1-{last}' if depth > 1 else ''}", *(["0.attn"] if depth == 1 else [])]


@pytest.mark.parametrize("depth", [1, 2, 30, 126])
def test_every_depth(depth: int) -> None:
    model = model_of(depth)
    for notation in plans_of(depth):
        view = sc.operate(model, notation)
        found, right = sc.compare(model, view, tokenizer(), TEXTS), expected(model, view, TEXTS)
        assert np.log(found.operated.perplexity) == pytest.approx(right["nats"], rel=1e-5)
        assert found.kl == pytest.approx(right["kl"], rel=1e-4, abs=1e-6)
        assert (found.top1, found.top5) == pytest.approx((right["top1"], right["top5"]), abs=1e-9)
        assert sc.prove(model, tokenizer(), notation).passed
        assert str(sc.LayerPlan.parse(notation, depth)) == str(
            sc.LayerPlan.parse(str(sc.LayerPlan.parse(notation, depth)), depth)
        )


@pytest.mark.parametrize("depth", [1, 2, 30, 126])
def test_sweeps_lenses_importance_and_text_at_every_depth(depth: int) -> None:
    model = model_of(depth)
    rows = list(sc.sweep(model, tokenizer(), TEXTS[1:2], "delete"))
    assert len(rows) == depth + 1
    assert not any(row.refused or row.unproved or row.not_finite for row in rows)
    view = sc.operate(model, sc.LayerPlan.identity(depth).delete(depth - 1))
    assert rows[-1].nats == pytest.approx(expected(model, view, TEXTS[1:2])["nats"], rel=1e-5)
    read = sc.read_lens(LogitLens(model), model, tokenizer(), TEXTS[0])
    assert len(read.labels) == depth + 1
    found = sc.importance(model, tokenizer(), TEXTS)
    assert len(found.labels) == depth
    assert np.isfinite(found.block_influence).all()
    settings = sc.GenerationSettings(max_new_tokens=5)
    ids = torch.tensor([tokenizer()(TEXTS[2]).input_ids])
    written = view.generate(ids, do_sample=False, max_new_tokens=5, pad_token_id=0)[0, ids.shape[1] :]
    assert sc.complete(view, tokenizer(), TEXTS[2], settings).n_tokens == len(written)
    assert sc.preflight(model, tokenizer()).passed


@pytest.mark.parametrize("vocab", [131, 50_257, 128_256, 262_144])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_vocabulary_in_every_number_format(vocab: int, dtype: str) -> None:
    texts = ["...", "!!", "*+,-./"] if vocab < 260 else TEXTS if vocab < 60_000 else TEXTS[1:]  # the tokens below 131
    model = model_of(3, vocab, dtype)
    view = sc.operate(model, "0,2,1")
    found, right = sc.compare(model, view, tokenizer(), texts), expected(model, view, texts)
    close = DTYPES[dtype]
    assert np.log(found.operated.perplexity) == pytest.approx(right["nats"], rel=close)
    assert found.kl == pytest.approx(right["kl"], rel=close * 10, abs=1e-6)
    if dtype == "float32":
        assert (found.top1, found.top5) == pytest.approx((right["top1"], right["top5"]), abs=1e-9)
    points = [sc.SweepPoint(0, 0, None, sc.LayerPlan.parse("0,2,1", 3))]
    row = list(sc.Sweep(model, tokenizer(), texts, points).rows())[-1]
    assert (row.top1, row.top5) == pytest.approx((found.top1, found.top5), abs=1e-9)
    assert row.nats == pytest.approx(np.log(found.operated.perplexity), rel=close)
    assert not row.unproved
    read = sc.read_lens(LogitLens(model), model, tokenizer(), texts[0])
    assert (np.abs(read.statistics["kl"][-1]) < 1e-6).all()


@settings(max_examples=25, deadline=None)
@given(
    length=st.sampled_from([2, 3, 63, 64, 65, 127, 128, 129, 300]),
    others=st.lists(st.integers(2, 140), max_size=4),
    together=st.sampled_from([1, 64, 128, 129, 2048]),
    context=st.sampled_from([64, 128]),
)
def test_texts_around_the_context_and_the_size_of_a_batch(
    length: int, others: list[int], together: int, context: int
) -> None:
    """A batch of one and of many; every token after the first scored once, with the windows of the textbook."""
    model = build_model("llama", num_hidden_layers=2, max_position_embeddings=context, **NARROW)
    texts = [("the wolf and the fox " * 20)[:size] for size in (length, *others)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "BATCH_TOKENS", together)
        table = sc.score(model, tokenizer(), texts)
    for text, row in zip(texts, table.rows, strict=True):
        ids, losses = tokenizer()(text).input_ids, []
        for begin in range(0, len(ids), context // 2):
            window = torch.tensor([ids[begin : begin + context]])
            logp = model(window).logits[0].double().log_softmax(-1)
            for at in range(1, window.shape[1]):
                if begin + at > len(losses):
                    losses.append(-float(logp[at - 1, window[0, at]]))
        assert row.n_tokens == len(losses) == len(ids) - 1
        assert row.nats == pytest.approx(sum(losses), rel=1e-5)


def test_one_token_is_read_and_twenty_thousand_are_scored() -> None:
    model = build_model("llama", num_hidden_layers=2, max_position_embeddings=512, **NARROW)
    assert sc.read_lens(LogitLens(model), model, tokenizer(), "a").statistics["entropy"].shape == (3, 1)
    with pytest.raises(sc.TextError, match="has 1 token here; at least 2"):
        sc.score(model, tokenizer(), "a")
    table = sc.score(model, tokenizer(), "ab" * 10_000)
    assert table.n_tokens == 19_999
    assert table.rows[0].stride == 256
