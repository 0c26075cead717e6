"""Perplexity, bits per byte, KL and agreement against plain transformers and hand-made sums."""

from __future__ import annotations

import math
import threading
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from surgery_core.errors import SettingsError, Stopped, TextError
from surgery_core.measure import compare as measure
from surgery_core.measure import readout
from surgery_core.measure.compare import compare, reference, score
from surgery_core.states.windows import windows_of
from surgery_core.surgery.view import operate
from surgery_core.text import Text
from tests.core.support.families import FAMILIES, build
from tests.tiny import build_model

CONTEXT = 64
model_of = cache(build)


@cache
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE without merges over 96 symbols: printable ASCII is one token a byte."""
    alphabet = [chr(code) for code in range(33, 33 + 92)] + ["Ġ", "Ċ"]
    tokenizer = Tokenizer(models.BPE(vocab={c: i + 2 for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def plain_losses(model: Any, ids: list[int], context: int = CONTEXT) -> np.ndarray:
    """Return the loss of every token after the first by the textbook strided loop, in float64."""
    losses: list[float] = []
    for begin in range(0, len(ids), context // 2):
        window = torch.tensor([ids[begin : begin + context]])
        logp = model(window).logits[0].double().log_softmax(-1)
        for position in range(1, window.shape[1]):
            if begin + position > len(losses):
                losses.append(-logp[position - 1, window[0, position]].item())
    return np.array(losses)


SHORT = "The fox said: how do you do?"
LONG = "It was a dark night, and the wolf came to the door. " * 6
TEXTS = (Text("Short", SHORT, "story"), Text("Long", LONG, "story"), Text("Two", "ab", "odd"))


@pytest.mark.parametrize("family", FAMILIES)
def test_perplexity_agrees_with_a_plain_strided_loop(family: str) -> None:
    model, tokenizer = model_of(family), byte_tokenizer()
    table = score(model, tokenizer, TEXTS)
    every: list[float] = []
    # BLOOM's alibi knows no longest text, so it is read in windows of 2,048
    context = 2048 if family == "bloom" else CONTEXT
    for text, row in zip(TEXTS, table.rows, strict=True):
        losses = plain_losses(model, tokenizer(text.text)["input_ids"], context)
        every += losses.tolist()
        assert row.n_tokens == len(losses) == len(text.text) - 1
        assert row.perplexity == pytest.approx(math.exp(losses.mean()), rel=1e-5)
        assert row.bits_per_byte == pytest.approx(losses.sum() / math.log(2) / (len(text.text) - 1), rel=1e-5)
    assert table.perplexity == pytest.approx(math.exp(np.mean(every)), rel=1e-5)
    assert [row.stride for row in table.rows] == [None, None if family == "bloom" else 32, None]


@given(length=st.integers(2, 300), context=st.integers(2, 70), data=st.data())
def test_every_token_after_the_first_is_scored_once_with_enough_context(length: int, context: int, data: Any) -> None:
    stride = data.draw(st.integers(1, context))
    scored = np.zeros(length, dtype=int)
    for window in windows_of(0, list(range(length)), context, stride):
        assert len(window.ids) <= context
        assert window.ids == tuple(range(window.begin, window.begin + len(window.ids)))
        assert window.first > window.begin
        scored[window.first : window.begin + len(window.ids)] += 1
    assert scored[0] == 0
    assert (scored[1:] == 1).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(alphabet="abc dz,.", min_size=2, max_size=150), min_size=1, max_size=6))
def test_a_batch_of_texts_scores_like_each_alone(contents: list[str]) -> None:
    model, tokenizer = model_of("llama"), byte_tokenizer()
    texts = [Text(str(number), text) for number, text in enumerate(contents)]
    together = score(model, tokenizer, texts)
    for text, row in zip(texts, together.rows, strict=True):
        assert row.nats == pytest.approx(score(model, tokenizer, [text]).nats, rel=1e-5)


def by_hand(base: Any, operated: Any, ids: list[int]) -> tuple[float, float, float]:
    """Return mean KL(base || operated), top-1 and top-5 agreement over the scored positions of one short text."""
    window = torch.tensor([ids])
    p, q = (model(window).logits[0, :-1].double().softmax(-1).numpy() for model in (base, operated))
    kl = [sum(a * math.log(a / b) for a, b in zip(left, right, strict=True)) for left, right in zip(p, q, strict=True)]
    best = p.argmax(1)
    five = np.argsort(-q, axis=1)[:, :5]
    top5 = np.mean([token in row for token, row in zip(best, five, strict=True)])
    return float(np.mean(kl)), float((q.argmax(1) == best).mean()), float(top5)


@pytest.mark.parametrize("family", FAMILIES)
def test_kl_and_agreement_against_sums_by_hand(family: str) -> None:
    base, tokenizer = model_of(family), byte_tokenizer()
    operated = operate(base, "0,2,1,3")
    comparison = compare(base, operated, tokenizer, TEXTS[:1])
    kl, top1, top5 = by_hand(base, operated, tokenizer(SHORT)["input_ids"])
    assert comparison.kl == pytest.approx(kl, rel=1e-4)
    assert comparison.top1 == pytest.approx(top1)
    assert comparison.top5 == pytest.approx(top5)
    assert comparison.operated.perplexity == pytest.approx(score(operated, tokenizer, TEXTS[:1]).perplexity, rel=1e-6)
    assert comparison.plan == "0,2,1,3"


def test_the_same_model_on_both_sides_differs_in_nothing() -> None:
    model = model_of("gemma2")
    comparison = compare(model, operate(model, "0-3"), byte_tokenizer(), TEXTS)
    assert comparison.kl == 0
    assert comparison.top1 == comparison.top5 == 1
    assert (comparison.frame()["ratio"] == 1).all()


def test_token_losses_add_up_and_the_first_token_has_none() -> None:
    base, tokenizer = model_of("llama"), byte_tokenizer()
    operated = operate(base, "0,1,3")
    comparison = compare(base, operated, tokenizer, TEXTS)
    frame = comparison.tokens("Long")
    assert "".join(frame["token"]) == LONG
    assert math.isnan(frame["loss_before"][0])
    np.testing.assert_allclose(
        frame["loss_before"][1:], plain_losses(base, tokenizer(LONG)["input_ids"]), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        frame["loss_after"][1:], plain_losses(operated, tokenizer(LONG)["input_ids"]), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(frame["change"][1:], (frame["loss_after"] - frame["loss_before"])[1:], atol=1e-6)
    with pytest.raises(TextError, match="'Other'.*Short, Long, Two"):
        comparison.tokens("Other")


@pytest.mark.parametrize("family", FAMILIES)
def test_beyond_every_limit_of_memory_the_result_is_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base, tokenizer = model_of(family), byte_tokenizer()
    operated = operate(base, "0,1*0.5,(2|3)")
    expected = compare(base, operated, tokenizer, TEXTS)
    monkeypatch.setattr(measure, "KEPT_BYTES", 0)
    monkeypatch.setattr(readout, "CHUNK_ELEMENTS", 96 * 7)
    monkeypatch.setattr(readout, "SLICE_ELEMENTS", {"cpu": 1, "cuda": 1})
    monkeypatch.setattr(readout, "NARROWEST_SLICE", 7)
    base_side = reference(base, tokenizer, TEXTS)
    assert all(side is None or side.p is None for side in base_side.sides)
    chunked = compare(base_side, operated, tokenizer, TEXTS)
    assert chunked.base.perplexity == pytest.approx(expected.base.perplexity, rel=1e-6)
    assert chunked.operated.perplexity == pytest.approx(expected.operated.perplexity, rel=1e-6)
    assert chunked.kl == pytest.approx(expected.kl, rel=1e-4, abs=1e-6)
    assert (chunked.top1, chunked.top5) == (expected.top1, expected.top5)
    empty = operate(base, "")
    assert compare(base_side, empty, tokenizer, TEXTS).operated.perplexity == pytest.approx(
        score(empty, tokenizer, TEXTS).perplexity, rel=1e-6
    )


def test_a_reference_saves_running_the_base_again() -> None:
    base, tokenizer = build("llama"), byte_tokenizer()
    base_side = reference(base, tokenizer, TEXTS)
    operated = operate(base, "0-2")
    ran: list[int] = []
    base.register_forward_hook(lambda *_: ran.append(1))
    assert compare(base_side, operated, tokenizer, TEXTS).base.rows == base_side.table.rows
    assert not ran


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "Mine has no token here; at least 2"), ("a", "Mine has 1 token here; at least 2")],
)
def test_too_short_texts_are_named(text: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        score(model_of("llama"), byte_tokenizer(), [Text("Mine", text)])


def test_other_bad_input() -> None:
    model, tokenizer = model_of("llama"), byte_tokenizer()
    with pytest.raises(TextError, match="no text to score"):
        score(model, tokenizer, [])
    with pytest.raises(TextError, match="Two texts are called 'Same'"):
        score(model, tokenizer, [Text("Same", "abc"), Text("Same", "abd")])
    with pytest.raises(SettingsError, match="stride is 65; it must be between 1 and the context of 64"):
        score(model, tokenizer, LONG, stride=65)


def test_progress_and_stop() -> None:
    model, tokenizer = model_of("llama"), byte_tokenizer()
    seen: list[tuple[int, int]] = []
    score(model, tokenizer, TEXTS, on_progress=lambda done, total: seen.append((done, total)))
    total = sum(len(text.text) - 1 for text in TEXTS)
    assert seen[-1] == (total, total)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        score(model, tokenizer, TEXTS, stop=stop)


def test_overflowing_perplexity_is_infinite_not_an_error() -> None:
    from surgery_core.measure.results import TextScore

    row = TextScore("x", "own", n_tokens=1, n_bytes=1, nats=5000.0, context=8)
    assert row.perplexity == math.inf
    assert row.bits_per_byte == pytest.approx(5000 / math.log(2))


def test_bytes_of_a_real_tokenizer_add_up_with_characters_of_many_bytes() -> None:
    from surgery_core.text import token_bytes

    tokenizer = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    text = Text("t", "aé🙂b\n")
    ids = fast(text.text)["input_ids"]
    assert token_bytes(fast, text, ids) == [1, 0, 2, 0, 0, 0, 4, 1, 1]


def test_a_list_of_plain_strings_is_scored() -> None:
    model, tokenizer = model_of("llama"), byte_tokenizer()
    table = score(model, tokenizer, [SHORT, LONG])
    assert [row.title for row in table.rows] == ["Text 1", "Text 2"]
    assert table.rows[0].nats == pytest.approx(score(model, tokenizer, SHORT).nats, rel=1e-6)
    assert compare(model, operate(model, "0-2"), tokenizer, [SHORT]).rows[0].before.title == "Text 1"


def test_a_view_of_another_model_is_read_by_its_own_head() -> None:
    """The expected value is that of the view alone."""
    base, other, tokenizer = build("llama"), build("gpt2"), byte_tokenizer()
    view = operate(other, "0-1,3")
    found = compare(reference(base, tokenizer, TEXTS), view, tokenizer, TEXTS)
    assert found.operated.perplexity == pytest.approx(score(view, tokenizer, TEXTS).perplexity, rel=1e-6)


def test_a_reference_does_not_answer_for_other_texts() -> None:
    model, tokenizer = model_of("llama"), byte_tokenizer()
    base_side, operated = reference(model, tokenizer, TEXTS[:1]), operate(model, "0-2")
    with pytest.raises(TextError, match=r"reference is of 1 texts \('Short'\) and 1 others .* \('Long'\)"):
        compare(base_side, operated, tokenizer, TEXTS[1:2])
    with pytest.raises(TextError, match="others are asked about"):
        compare(base_side, operated, tokenizer, [Text("Short", "Another content")])
    with pytest.raises(TextError, match="stride of 32, and 16"):
        compare(base_side, operated, tokenizer, TEXTS[:1], stride=16)
    assert compare(base_side, operated, tokenizer, list(TEXTS[:1])).kl > 0


def ending_tokenizer() -> PreTrainedTokenizerFast:
    """Return the byte tokenizer, with an end token that it puts behind every text."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer.__wrapped__()
    tokenizer.add_special_tokens({"eos_token": "<end>"})
    end = tokenizer.convert_tokens_to_ids("<end>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <end>", pair="$A $B", special_tokens=[("<end>", end)]
    )
    return tokenizer


def test_an_end_token_that_a_tokenizer_adds_is_not_scored() -> None:
    model, ending = model_of("llama"), ending_tokenizer()
    assert len(ending(SHORT).input_ids) == len(SHORT) + 1
    assert score(model, ending, SHORT).perplexity == score(model, byte_tokenizer(), SHORT).perplexity
    after = compare(model, operate(model, "0,2,1,3"), ending, SHORT)
    assert after.operated.n_tokens == len(SHORT) - 1


def test_a_prompt_is_not_continued_behind_an_end_token() -> None:
    from surgery_core.measure.generation import complete
    from surgery_core.plans.generation_settings import GenerationSettings

    model, settings = model_of("llama"), GenerationSettings(max_new_tokens=8)
    written, plain = (complete(model, t, SHORT, settings).text for t in (ending_tokenizer(), byte_tokenizer()))
    assert written == plain


def test_long_contexts_are_scored_in_windows_that_fit_into_memory() -> None:
    from surgery_core.states.windows import DEFAULT_CONTEXT, MAX_CONTEXT, window_length

    lengths = {131_072: MAX_CONTEXT, MAX_CONTEXT: MAX_CONTEXT, 100: 100}
    for stated, read in lengths.items():
        assert window_length(build_model("llama", max_position_embeddings=stated)) == read
    assert window_length(build("bloom")) == DEFAULT_CONTEXT
