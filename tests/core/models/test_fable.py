"""The bundled model: small, plain to load, a loss-free tokenizer, and layers that matter as the card says."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "models" / "fable"
TEXTS = tomllib.loads((ROOT / "surgery_core" / "data" / "texts.toml").read_text(encoding="utf-8"))["text"]
PROMPTS = tomllib.loads((ROOT / "surgery_core" / "data" / "prompts.toml").read_text(encoding="utf-8"))["prompt"]
PLAIN = [row["text"] for row in TEXTS if row["kind"] in {"story", "dialogue", "description", "fable"}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@contextmanager
def without_layer(model: Any, index: int) -> Iterator[None]:
    """Leave one decoder layer out, by hand."""
    from torch.nn import ModuleList

    layers = model.model.layers
    model.model.layers = ModuleList(layer for place, layer in enumerate(layers) if place != index)
    try:
        yield
    finally:
        model.model.layers = layers


def nats(model: Any, tokenizer: Any, text: str) -> float:
    """Return the summed cross-entropy of every token of the text, the first one after the end-of-text token."""
    import torch

    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]])
    with torch.no_grad():
        logits = model(ids[:, :-1], use_cache=False).logits[0]
    return float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))


def bits_per_byte(model: Any, tokenizer: Any, texts: list[str]) -> float:
    total = sum(nats(model, tokenizer, text) for text in texts)
    return total / math.log(2) / sum(len(text.encode()) for text in texts)


def continue_greedily(model: Any, tokenizer: Any, prompt: str, count: int) -> list[int]:
    inputs = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=count, min_new_tokens=count, do_sample=False)
    return out[0, inputs["input_ids"].shape[1] :].tolist()


def test_it_is_at_most_16_megabytes() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sizes["model.safetensors"] <= 16_000_000
    assert sum(sizes.values()) <= 17_000_000


def test_it_is_a_plain_llama_of_12_layers(model: Any) -> None:
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == [type(model).__name__] == ["LlamaForCausalLM"]
    assert "auto_map" not in config
    assert len(model.model.layers) == 12
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert sum(parameter.numel() for parameter in model.parameters()) <= 7_500_000
    assert model.config.max_position_embeddings >= 512


def test_weights_are_stored_as_finite_bfloat16() -> None:
    import torch
    from safetensors.torch import load_file

    weights = load_file(FOLDER / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_the_tokenizer_adds_nothing(tokenizer: Any) -> None:
    assert len(tokenizer) == 4096
    assert tokenizer("")["input_ids"] == []
    assert tokenizer("<|endoftext|>")["input_ids"] == [tokenizer.eos_token_id]
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.pad_token_id
    assert tokenizer.eos_token_id not in tokenizer("The end.")["input_ids"]


@pytest.mark.parametrize(
    "text", ['"Stop!" she said.\n\n  Then -- 1,234...', "😀👩‍👩‍👧 Ünïcødé 日本語 \u202e\x00", " a  b\t\r\n"]
)
def test_awkward_texts_round_trip(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@given(st.text(max_size=80))
def test_any_text_round_trips(text: str) -> None:
    tokens = loaded_tokenizer()(text)["input_ids"]
    assert loaded_tokenizer().decode(tokens) == text
    assert all(0 <= token < 4096 for token in tokens)


def loaded_tokenizer(cache: list[Any] = []) -> Any:  # noqa: B006 - one tokenizer for all examples
    from transformers import AutoTokenizer

    if not cache:
        cache.append(AutoTokenizer.from_pretrained(FOLDER))
    return cache[0]


def test_its_stories_cost_few_bits(model: Any, tokenizer: Any) -> None:
    assert 0.5 < bits_per_byte(model, tokenizer, PLAIN) < 1.6


def test_what_it_never_saw_costs_more_than_a_story(model: Any, tokenizer: Any) -> None:
    costs = {row["kind"]: bits_per_byte(model, tokenizer, [row["text"]]) for row in TEXTS}
    assert costs["story"] < min(costs["code"], costs["another language"], costs["nonsense words"])


def test_layer_0_matters_most_and_a_middle_layer_little(model: Any, tokenizer: Any) -> None:
    whole = bits_per_byte(model, tokenizer, PLAIN)
    cost = {}
    for index in (0, 5, 6, 7):
        with without_layer(model, index):
            cost[index] = bits_per_byte(model, tokenizer, PLAIN) - whole
    assert all(0 < cost[index] < 0.35 for index in (5, 6, 7))
    assert cost[0] > 3 * max(cost[5], cost[6], cost[7])


def test_greedy_text_does_not_loop(model: Any, tokenizer: Any) -> None:
    tokens = continue_greedily(model, tokenizer, PROMPTS[0]["text"], 60)
    runs = [tuple(tokens[start : start + 8]) for start in range(len(tokens) - 7)]
    assert len(set(runs)) == len(runs)
    assert tokenizer.eos_token_id not in tokens


def test_greedy_text_is_the_same_with_a_cache_and_without(model: Any, tokenizer: Any) -> None:
    tokens = continue_greedily(model, tokenizer, "The fox", 12)
    inputs = tokenizer("The fox", return_tensors="pt")
    again = model.generate(**inputs, max_new_tokens=12, min_new_tokens=12, do_sample=False, use_cache=False)
    assert again[0, -12:].tolist() == tokens


def test_every_skill_that_was_taught_is_above_80_percent_before_surgery(model: Any, tokenizer: Any) -> None:
    from surgery_core.measure.skills import score_skills

    accuracy = {result.skill.name: result.accuracy for result in score_skills(model, tokenizer)}
    # stories have no sums and no brackets in them
    assert {name for name, value in accuracy.items() if value <= 0.8} == {"arithmetic", "brackets"}
    assert max(accuracy["arithmetic"], accuracy["brackets"]) < 0.5


def test_pattern_repeating_needs_layer_0(model: Any, tokenizer: Any) -> None:
    from surgery_core.measure.skills import load_skills, score_skill

    pattern = next(skill for skill in load_skills() if skill.name == "pattern")
    whole = score_skill(model, tokenizer, pattern).margin
    with without_layer(model, 0):
        assert score_skill(model, tokenizer, pattern).margin < whole / 2


def test_the_training_form_computes_what_the_export_computes() -> None:
    import torch

    from training.model import FastLlama, export
    from training.settings import ModelSettings

    torch.manual_seed(0)
    settings = ModelSettings(vocab_size=64, d_model=32, n_layers=2, n_heads=2, d_mlp=48)
    fast = FastLlama(settings)
    for weight in fast.parameters():
        weight.data.normal_(0.0, 0.3)
    ids, targets = torch.randint(64, (2, 2, 150))
    with torch.no_grad():
        logits = export(fast.state_dict(), settings, 0)(ids).logits
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        assert float(fast(ids, targets)) == pytest.approx(float(expected), rel=0.02)


@given(length=st.integers(2, 60), window=st.integers(2, 16), data=st.data())
def test_windows_score_each_token_once_with_enough_before_it(length: int, window: int, data: st.DataObject) -> None:
    import torch

    from training.evaluate import story_windows

    stride = data.draw(st.integers(1, window))
    cuts = story_windows(torch.arange(length), window, stride)
    assert [int(token) for part, first in cuts for token in part[first + 1 :]] == list(range(1, length))
    assert all(len(part) <= window + 1 for part, _ in cuts)
    assert all(first >= window - stride for _, first in cuts[1:-1])


def test_the_first_layer_is_the_most_important_one_by_every_measure(model: Any, tokenizer: Any) -> None:
    """What "Remarkable Robustness" (arXiv 2406.19384, figure 5) found for GPT-2 and Pythia holds here too."""
    from surgery_core import bundled_texts, importance, sweep

    texts = bundled_texts()
    rows = [row for row in sweep(model, tokenizer, texts, "delete") if row.number >= 0]
    assert max(rows, key=lambda row: row.nats).x == 0
    assert min(rows, key=lambda row: row.top1).x == 0
    found = importance(model, tokenizer, texts)
    assert found.block_influence.argmax() == 0
    assert found.angular[:, 0].argmax() == 0
