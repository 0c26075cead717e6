"""Generation against plain transformers; streaming, seeds, stopping, bad prompts."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest
import torch

from surgery_core.errors import SettingsError, TextError
from surgery_core.measure.generation import complete, generate
from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.surgery.view import operate
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import FAMILIES, build

model_of = cache(build)
PROMPT = "The fox"
HOT = GenerationSettings(max_new_tokens=24, temperature=1.5, seed=7)


def plain_greedy(model: Any, prompt: str, length: int) -> list[int]:
    """Continue a prompt by running the whole text again for every token: no cache, no generate()."""
    ids = byte_tokenizer()(prompt)["input_ids"]
    for _ in range(length):
        ids = [*ids, int(model(torch.tensor([ids])).logits[0, -1].argmax())]
    return ids[len(byte_tokenizer()(prompt)["input_ids"]) :]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("notation", ["0-3", "1-3", "0,1x3,2*0.5", ""])
def test_greedy_text_equals_running_the_whole_text_for_every_token(family: str, notation: str) -> None:
    model = operate(model_of(family), notation)
    expected = plain_greedy(model, PROMPT, 20)
    result = complete(model, byte_tokenizer(), PROMPT, GenerationSettings(max_new_tokens=20))
    assert result.text == byte_tokenizer().decode(expected)
    assert (result.n_tokens, result.ended) == (20, "length")
    assert 0 < result.first_token_seconds <= result.seconds


@pytest.mark.parametrize("settings", [GenerationSettings(24), HOT])
def test_pieces_add_up_to_the_text(settings: GenerationSettings) -> None:
    model, tokenizer = model_of("llama"), byte_tokenizer()
    whole = complete(model, tokenizer, PROMPT, settings)
    pieces = list(generate(model, tokenizer, PROMPT, settings))
    assert "".join(pieces) == whole.text
    assert len(pieces) > 5


def test_the_seed_decides_and_other_threads_do_not_disturb_it() -> None:
    model, tokenizer = model_of("llama"), byte_tokenizer()
    seeds = [GenerationSettings(24, temperature=1.5, seed=seed) for seed in range(12)]
    alone = [complete(model, tokenizer, PROMPT, settings).text for settings in seeds]
    assert len(set(alone)) > 6
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda s: complete(model, tokenizer, PROMPT, s).text, seeds))
    assert together == alone


def test_sampling_leaves_torchs_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    complete(model_of("llama"), byte_tokenizer(), PROMPT, HOT)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_first_sampled_token_follows_the_models_distribution() -> None:
    model, tokenizer = model_of("llama"), byte_tokenizer()
    logits = model(torch.tensor([tokenizer(PROMPT)["input_ids"]])).logits[0, -1].double() / 0.7
    kept = logits.topk(5)
    words = [tokenizer.decode([index]) for index in kept.indices.tolist()]
    expected = dict(zip(words, kept.values.softmax(-1).tolist(), strict=True))
    assert len(expected) == 5
    counts = dict.fromkeys(expected, 0)
    for seed in range(400):
        settings = GenerationSettings(1, temperature=0.7, top_k=5, seed=seed)
        counts[complete(model, tokenizer, PROMPT, settings).text] += 1
    for token, probability in expected.items():
        spread = 4 * (probability * (1 - probability) / 400) ** 0.5
        assert abs(counts[token] / 400 - probability) <= spread + 1e-9


def test_top_k_of_one_and_a_tiny_top_p_are_greedy() -> None:
    model, tokenizer = model_of("gpt2"), byte_tokenizer()
    greedy = complete(model, tokenizer, PROMPT, GenerationSettings(16)).text
    for settings in (
        GenerationSettings(16, temperature=2.0, top_k=1),
        GenerationSettings(16, temperature=2.0, top_p=1e-6),
    ):
        assert complete(model, tokenizer, PROMPT, settings).text == greedy


def test_stopping_ends_at_the_next_token() -> None:
    model, tokenizer = model_of("llama"), byte_tokenizer()
    stop, pieces = threading.Event(), []

    def take(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 3:
            stop.set()

    result = complete(model, tokenizer, PROMPT, GenerationSettings(50), on_text=take, stop=stop)
    assert result.ended == "stopped"
    assert result.n_tokens <= 5


def test_closing_the_iterator_stops_the_model() -> None:
    before = threading.active_count()
    pieces = generate(model_of("llama"), byte_tokenizer(), PROMPT, GenerationSettings(50))
    next(pieces)
    pieces.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_the_models_own_end_of_text_ends_the_text() -> None:
    base = build("llama")
    base.generation_config.eos_token_id = plain_greedy(base, PROMPT, 1)[0]
    result = complete(base, byte_tokenizer(), PROMPT, GenerationSettings(20))
    assert (result.n_tokens, result.ended) == (1, "end of text")


def test_a_checkpoints_own_sampling_defaults_do_not_change_greedy() -> None:
    base = build("llama")
    expected = complete(base, byte_tokenizer(), PROMPT, GenerationSettings(20)).text
    base.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0, num_beams=2)
    assert complete(base, byte_tokenizer(), PROMPT, GenerationSettings(20)).text == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_new_tokens": 0}, "length is 0; it must be between 1 and 4,096"),
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": -1}, "top-k is -1"),
        ({"top_p": 0}, "top-p is 0; it must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top-p is 1.1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_settings_are_named(values: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        GenerationSettings(**values)  # type: ignore[arg-type]


def test_bad_prompts_are_refused_before_the_model_runs() -> None:
    model, tokenizer = model_of("llama"), byte_tokenizer()
    with pytest.raises(
        TextError, match="100 tokens and 24 new ones .* reads at most 64: shorten the prompt to 40 tokens"
    ):
        complete(model, tokenizer, "a" * 100, GenerationSettings(24))
    with pytest.raises(TextError, match="ask for fewer new tokens"):
        generate(model, tokenizer, "a", GenerationSettings(64))
    with pytest.raises(TextError, match="NUL"):
        complete(model, tokenizer, "a\0b")
    with pytest.raises(TextError, match="The prompt is empty"):
        complete(model, tokenizer, "")
    with pytest.raises(TextError, match="The prompt is empty"):
        complete(model, tokenizer, "é🙂"[:0])
