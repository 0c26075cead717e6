"""Intervals and verdicts over vocabularies and number formats, against scipy on losses of plain transformers.

All texts have one length, so that a figure over all tokens is a mean over texts, and Student's interval of that is scipy's.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import surgery_core as sc
from tests.tiny import build_model, build_tokenizer

NARROW = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "head_dim": 8, "num_key_value_heads": 1}
LONG = 22
TEXTS = [
    text[:LONG]
    for text in (
        "the wolf went to the wood", "a kettle sang all evening", "nobody came down the hill", "why is the moon so late?",
        "two foxes shared one bone", "rain fell upon every roof", "she sold her seven sheep.", "bread is baked at sunrise",
        "an owl counts slow hours.",
    )
]  # fmt: skip
LOW = [
    "./*-+,!()$#%&'\"./*-+,!",
    "!!..//**--++,,(()$#%&'",
    '#$%&\'()*+,-./!!!""##$.',
    "/.-,+*)('&%$#\"!/.-,+*)",
    "$$$$$....,,,,----!!!!/",
    "(((((()))))*****+++++,",
    "%.%.%.%.%.%./-/-/-/-/-",
    "\"'\"'\"'!!&&##%%$$,,..//",
    "+-+-*/*/*/....&&&&(((!",
]
"""Texts whose tokens are all below 131."""
PLANS = ("0-2", "0-3,3*0.02", "3,2,1,0")
AXES = [
    (131, "float32"), (131, "bfloat16"), (50_257, "float32"), (50_257, "bfloat16"), (50_257, "float16"),
    (128_256, "bfloat16"), (262_144, "float32"),
]  # fmt: skip
tokenizer = cache(build_tokenizer)


def model_of(vocab: int, dtype: str) -> Any:
    specials = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0} if vocab < 260 else {}
    model = build_model("llama", num_hidden_layers=4, vocab_size=vocab, **specials, **NARROW)
    with torch.no_grad():
        # a random head of small weights makes every model equally surprised by everything
        model.lm_head.weight *= 40
        for layer in model.model.layers:
            layer.mlp.down_proj.weight *= 8
    return model.to(getattr(torch, dtype))


def by_text(base: Any, operated: Any, texts: list[str]) -> tuple[np.ndarray[Any, Any], ...]:
    """Return the mean change of the loss, KL and top-1 agreement of each text, `[texts]`."""
    change, kl, top1 = [], [], []
    for text in texts:
        ids = torch.tensor([tokenizer()(text).input_ids])
        with torch.inference_mode():
            p, q = (model(ids).logits[0, :-1].double().log_softmax(-1) for model in (base, operated))
        wanted = ids[0, 1:, None]
        change.append(float((p - q).gather(-1, wanted).mean()))
        kl.append(float((p.exp() * (p - q)).sum(-1).mean()))
        # the first of equals, as everywhere
        top1.append(float((p.float().argmax(-1) == q.float().argmax(-1)).double().mean()))
    return np.array(change), np.array(kl), np.array(top1)


def student(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    found = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    return float(found.low), float(found.high)


@pytest.mark.parametrize(("vocab", "dtype"), AXES)
def test_intervals_p_and_verdicts_are_those_of_plain_losses(vocab: int, dtype: str) -> None:
    texts = LOW if vocab < 260 else TEXTS
    assert {len(tokenizer()(text).input_ids) for text in texts} == {LONG}
    base = model_of(vocab, dtype)
    near = {"rel": 1e-3, "abs": 2e-4} if dtype == "float32" else {"rel": 5e-2, "abs": 2e-2}
    for notation in PLANS:
        operated = sc.operate(base, notation)
        compared = sc.compare(base, operated, tokenizer(), texts)
        change, kl, top1 = by_text(base, operated, texts)
        ratio, divergence, kept = (compared.interval(name) for name in ("ratio", "kl", "top1"))
        assert (math.log(ratio.low), math.log(ratio.high)) == pytest.approx(student(change), **near)
        low, high = student(kl)
        assert (divergence.low, divergence.high) == pytest.approx((max(0.0, low), high), **near)
        low, high = student(top1)
        # two likeliest tokens may be one rounding apart
        assert (kept.low, kept.high) == pytest.approx(
            (max(0.0, low), min(1.0, high)), abs=1e-6 if dtype == "float32" else 0.05
        )
        verdict = compared.verdict()
        signs = stats.permutation_test((change,), np.mean, permutation_type="samples", n_resamples=10_000)
        if dtype == "float32":
            assert verdict.p == pytest.approx(signs.pvalue, abs=1e-9)
        assert verdict.n_units == len(texts)
        decided = signs.pvalue <= 0.05 and (student(change)[0] > 0 or student(change)[1] < 0)
        if dtype == "float32":
            assert (verdict.word in ("worse", "better")) == decided
