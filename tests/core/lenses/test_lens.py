"""The logit lens against plain arithmetic on hooked hidden states."""

from __future__ import annotations

import math
import threading
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from surgery_core.errors import Stopped, TextError
from surgery_core.lenses.reading import LogitLens, read_lens
from surgery_core.measure import readout
from surgery_core.surgery.view import operate
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import FAMILIES, N_LAYERS, build

model_of = cache(build)
TEXT = "The fox said: oh"


def read(model: Any, text: str = TEXT, **kwargs: Any) -> Any:
    return read_lens(LogitLens(model), model, byte_tokenizer(), text, **kwargs)


def hooked(model: Any, ids: torch.Tensor) -> list[torch.Tensor]:
    """Return what enters the first layer and leaves each, `[seq, d_model]`, with hooks of our own on the base."""
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == N_LAYERS)
    states: list[torch.Tensor] = []

    def take(module: Any, args: Any, output: Any) -> None:
        if not states:
            states.append(args[0][0])
        states.append((output if isinstance(output, torch.Tensor) else output[0])[0])

    handles = [layer.register_forward_hook(take) for layer in layers]
    model(ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return states


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("notation", ["0-3", "3,1x2,0", "(0|1),2*0.5"])
def test_the_last_row_is_the_models_own_output(family: str, notation: str) -> None:
    model = operate(model_of(family), notation)
    ids = torch.tensor([byte_tokenizer()(TEXT)["input_ids"]])
    probabilities = model(ids, use_cache=False).logits[0].softmax(-1)
    trajectory = read(model)
    np.testing.assert_allclose(trajectory.top_probabilities[-1, :, 0], probabilities.max(-1).values, atol=1e-5)
    assert trajectory.top_ids[-1, :, 0].tolist() == probabilities.argmax(-1).tolist()
    np.testing.assert_allclose(trajectory.statistics["kl"][-1], 0, atol=1e-5)


NORM_AND_HEAD = {
    "gpt2": "transformer.ln_f",
    "llama": "model.norm",
    "bloom": "transformer.ln_f",
    "phi": "model.final_layernorm",
    "opt": "model.decoder.final_layer_norm",
}


@pytest.mark.parametrize("family", NORM_AND_HEAD)
def test_every_row_is_norm_and_unembedding_of_the_hooked_state(family: str) -> None:
    model = model_of(family)
    ids = torch.tensor([byte_tokenizer()(TEXT)["input_ids"]])
    norm, head = model.get_submodule(NORM_AND_HEAD[family]), model.get_output_embeddings()
    trajectory = read(model)
    final = model(ids).logits[0].double().log_softmax(-1)
    for row, state in enumerate(hooked(model, ids)):
        logp = head(norm(state)).double().log_softmax(-1)
        p = logp.exp()
        top = p.topk(10)
        assert trajectory.top_ids[row].tolist() == top.indices.tolist()
        np.testing.assert_allclose(trajectory.top_probabilities[row], top.values, atol=1e-5)
        stats = {name: values[row] for name, values in trajectory.statistics.items()}
        np.testing.assert_allclose(stats["entropy"], -(p * logp).sum(-1), atol=1e-4)
        np.testing.assert_allclose(stats["kl"], (final.exp() * (final - logp)).sum(-1), atol=1e-4)
        for position in range(ids.shape[1] - 1):
            target = int(ids[0, position + 1])
            assert stats["target_probability"][position] == pytest.approx(p[position, target].item(), abs=1e-5)
            assert stats["rank"][position] == 1 + int((p[position] > p[position, target]).sum())
        assert math.isnan(stats["rank"][-1])


def test_soft_caps_and_scales_behind_the_layers_are_applied() -> None:
    model = model_of("gemma2")
    state = hooked(model, torch.tensor([[5, 9, 7]]))[2]
    raw = model.lm_head(model.model.norm(state))
    cap = model.config.final_logit_softcapping
    torch.testing.assert_close(LogitLens(model).logits(state), cap * torch.tanh(raw / cap), atol=1e-5, rtol=1e-5)


def test_labels_name_the_original_layers() -> None:
    assert read(operate(model_of("llama"), "3,1x2,(0|2).attn")).labels == (
        "input",
        "L3",
        "L1",
        "L1 (2)",
        "L0.attn|L2.attn",
    )
    assert read(operate(model_of("llama"), "")).labels == ("input",)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_layers_the_input_row_is_the_output(family: str) -> None:
    model = operate(model_of(family), "")
    ids = torch.tensor([byte_tokenizer()(TEXT)["input_ids"]])
    trajectory = read(model)
    expected = model(ids, use_cache=False).logits[0].softmax(-1).max(-1).values
    np.testing.assert_allclose(trajectory.top_probabilities[0, :, 0], expected, atol=1e-5)


def test_a_parallel_slot_is_one_row_after_all_of_its_layers() -> None:
    model = operate(model_of("llama"), "(0|1|2),3")
    trajectory = read(model)
    assert trajectory.top_ids.shape[0] == 3
    states = operate(model, "0-2")(torch.tensor([byte_tokenizer()(TEXT)["input_ids"]]), output_hidden_states=True)
    assert states.hidden_states[-1] is not None


def test_frame_and_top() -> None:
    trajectory = read(model_of("llama"))
    frame = trajectory.frame()
    assert len(frame) == (N_LAYERS + 1) * len(TEXT)
    assert "".join(frame[frame["row"] == 0]["token"]) == TEXT
    cell = frame[(frame["layer"] == "L2") & (frame["position"] == 4)].iloc[0]
    assert cell["target"] == TEXT[5]
    top = trajectory.top(3, 4)
    assert list(top["rank"]) == list(range(1, 11))
    assert top["token"][0] == cell["top"]
    assert top["probability"].is_monotonic_decreasing
    with pytest.raises(TextError, match="no cell at row 9, token 0; rows go to 4"):
        trajectory.top(9, 0)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(model_of("gemma3"))
    monkeypatch.setattr(readout, "SLICE_ELEMENTS", {"cpu": 96 * 3, "cuda": 96 * 3})
    monkeypatch.setattr(readout, "ROWS", 7)
    parts = read(model_of("gemma3"))
    for name, values in whole.statistics.items():
        np.testing.assert_allclose(parts.statistics[name], values, atol=1e-5, err_msg=name)


def test_long_texts_single_tokens_and_empty_texts() -> None:
    long = read(model_of("llama"), "a" * 100)
    assert len(long.tokens) == 64
    assert long.note == "Tokens 0 to 63 of 100 are read, counted from 0."
    assert read(model_of("llama"), "a" * 100, max_tokens=10).note == "Tokens 0 to 9 of 100 are read, counted from 0."
    one = read(model_of("llama"), "a")
    assert (one.tokens, one.truncated) == (("a",), False)
    with pytest.raises(TextError, match="no token"):
        read(model_of("llama"), "")


def test_stop() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        read(model_of("llama"), stop=stop)


def test_the_lens_leaves_no_hook_on_the_model() -> None:
    model = build("llama")
    read(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
