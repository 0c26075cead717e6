"""A prompt is read once for all plans that begin alike, and what follows is what each of them writes by itself."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any
from weakref import ref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

import surgery_core as sc
from surgery_core.measure.generation import complete, prompt_ids
from surgery_core.states import shared_prompt as module
from surgery_core.states.shared_prompt import SharedPrompt
from tests.core.measure.test_generate import plain_greedy
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import FAMILIES, build
from tests.tiny import build_model

PROMPT = "The fox and the wolf went out one day"
WRITE = sc.GenerationSettings(max_new_tokens=10)
model_of = cache(build)
tokenizer = cache(byte_tokenizer)


@pytest.fixture(scope="module", autouse=True)
def _short() -> Any:
    """Have prompts shared that tiny models can read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEAST", 20)
        yield


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Count how often each of llama's layers reads the whole prompt, in any view."""
    counts: Counter[int] = Counter()
    forward, length = LlamaDecoderLayer.forward, len(PROMPT)

    def counted(self: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if hidden_states.shape[1] == length:
            counts[LAYERS[self.input_layernorm.weight.data_ptr()]] += 1
        return forward(self, hidden_states, *args, **kwargs)

    monkeypatch.setattr(LlamaDecoderLayer, "forward", counted)
    LAYERS = {layer.input_layernorm.weight.data_ptr(): at for at, layer in enumerate(model_of("llama").model.layers)}
    return counts


def written(model: Any, shared: SharedPrompt | None = None) -> str:
    return complete(model, tokenizer(), PROMPT, WRITE, shared=shared).text


def ids_of(model: Any, prompt: str = PROMPT) -> list[int]:
    return prompt_ids(model, tokenizer(), prompt, WRITE)


@pytest.mark.parametrize("plan", ["0-2", "0,2-3", "0-1,3,2", "0-1,2*0.5,3"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_text_is_that_of_a_model_that_reads_the_whole_text_for_every_token(family: str, plan: str) -> None:
    base = model_of(family)
    view, shared = sc.operate(base, plan), SharedPrompt(base)
    for model in (base, view):
        assert shared.reader(model, ids_of(model)) is not model
        assert written(model, shared) == tokenizer().decode(plain_greedy(model, PROMPT, 10))


def test_layers_that_are_the_same_read_a_prompt_once(read: Counter[int]) -> None:
    base = model_of("llama")
    shared = SharedPrompt(base)
    written(sc.operate(base, "0-1,3"), shared)
    assert read == {0: 1, 1: 1, 3: 1}
    written(base, shared)
    assert read == {0: 1, 1: 1, 2: 1, 3: 2}
    written(base, shared)
    written(sc.operate(base, "0-3,3"), shared)
    written(sc.operate(base, "0-2,3.attn"), shared)
    assert read == {0: 1, 1: 1, 2: 1, 3: 4}


slots = st.sampled_from(["0", "1", "2", "3", "1*0.5", "2.attn", "3.mlp", "(1|2)"])


@settings(max_examples=20)
@given(
    st.lists(st.lists(slots, max_size=6), min_size=1, max_size=4),
    st.sampled_from(["llama", "gemma2"]),
    st.sampled_from([0, 20_000, 2**27]),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_however_much_is_kept_texts_are_those_of_models_by_themselves(
    plans: list[list[str]], family: str, memory: int, dtype: torch.dtype
) -> None:
    base = in_format(family, dtype)
    shared = SharedPrompt(base, memory)
    for plan in ["0-3", *(",".join(plan) for plan in plans)]:
        view = sc.operate(base, plan)
        assert written(view, shared) == written(view)


@cache
def in_format(family: str, dtype: torch.dtype) -> Any:
    return build(family).to(dtype)


def test_plans_side_by_side_share_while_they_read(read: Counter[int]) -> None:
    base = model_of("llama")
    plans = ["0-3", "0-2", "0-1,3", "0-2,3*0.5", "0-2,3,3", "0-2,2,3"]
    alone = [written(sc.operate(base, plan)) for plan in plans]
    read.clear()
    shared = SharedPrompt(base)
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda plan: written(sc.operate(base, plan), shared), plans))
    assert together == alone
    assert read == {0: 1, 1: 1, 2: 2, 3: 5}


def test_a_model_whose_state_is_written_in_place_reads_by_itself() -> None:
    base = build_model("mamba", vocab_size=320)
    shared = SharedPrompt(base)
    for model in (base, sc.operate(base, "0-1,3")):
        assert shared.reader(model, ids_of(model)) is model


def test_of_a_hybrid_only_layers_with_a_growing_cache_are_shared() -> None:
    base = build_model("qwen3_next", vocab_size=320)
    view, shared = sc.operate(base, "0-3,3"), SharedPrompt(base)
    few = sc.GenerationSettings(max_new_tokens=3)
    for model in (base, view):
        alone = complete(model, tokenizer(), PROMPT, few)
        assert complete(model, tokenizer(), PROMPT, few, shared=shared).text == alone.text
    assert set(shared._kept) == {3}


def test_what_is_no_view_of_the_base_or_another_prompt_is_read_by_itself() -> None:
    base, other = model_of("llama"), build("llama", seed=1)
    shared, ids = SharedPrompt(base), ids_of(base)
    assert shared.reader(base, ids[:19]) is base
    assert shared.reader(base, ids) is not base
    for model in (other, sc.operate(other, "0-2"), first := sc.operate(base, "1-3"), empty := sc.operate(base, "")):
        assert shared.reader(model, ids) is model
    assert written(first, shared) == written(first)
    assert written(empty, shared) == written(empty)
    assert shared.reader(base, ids[:-1]) is base


def test_a_kind_of_change_that_writes_otherwise_is_not_relied_on(monkeypatch: pytest.MonkeyPatch) -> None:
    base = build("llama", seed=2)
    shared, view = SharedPrompt(base), sc.operate(base, "0-2")
    put = module._put
    monkeypatch.setattr(module, "_put", lambda cache, index, entry: put(cache, index, type(entry)()))
    assert shared.reader(view, ids_of(view)) is view


def test_stopping_ends_before_the_next_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    base, stop, calls = model_of("llama"), threading.Event(), []
    forward = LlamaDecoderLayer.forward
    shared = SharedPrompt(base)
    shared.reader(base, ids_of(base))  # its kind is tried before the layers are counted

    def first(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(self)
        stop.set()
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(LlamaDecoderLayer, "forward", first)
    found = complete(base, tokenizer(), PROMPT, WRITE, stop=stop, shared=shared)
    assert (found.text, found.n_tokens, found.ended, len(calls)) == ("", 0, "stopped", 1)


def test_it_holds_no_model() -> None:
    base = build("llama", seed=3)
    shared, gone = SharedPrompt(base), ref(base)
    written(base, shared)
    del base
    gc.collect()
    assert gone() is None
    other = model_of("llama")
    assert shared.reader(other, ids_of(other)) is other
