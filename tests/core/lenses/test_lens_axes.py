"""The lens on large vocabularies, in half precision, on long texts and on models that state no context."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery_core.lenses.averages import lens_averages
from surgery_core.lenses.before_after import distances
from surgery_core.lenses.reading import LogitLens, read_lens
from surgery_core.measure.compare import score
from surgery_core.measure.divergence import cell_statistics, kl_divergence, likeliest, log_probabilities, ranks
from surgery_core.surgery.anatomy import context_length
from surgery_core.surgery.view import operate
from surgery_core.text import Text
from tests.core.support import zoo
from tests.tiny import build_model, build_tokenizer

tokenizer = cache(build_tokenizer)


@pytest.mark.parametrize("vocab", [131, 50_257, 128_256, 262_144])
def test_a_distribution_against_itself_has_no_divergence(vocab: int) -> None:
    """The floor was 2.0e-4 nats at 49,152 tokens and 2.5e-3 at 262,144."""
    logits = torch.randn((3, 2, vocab), generator=torch.Generator().manual_seed(1)) * 3
    logp = log_probabilities(logits)
    found = cell_statistics(logp, logp[0], torch.zeros(2, dtype=torch.long), None)
    assert not found["kl"][0].any()
    assert not found["kl_reverse"][0].any()
    assert not kl_divergence(logp, logp).any()
    p, q = logits[0].double().log_softmax(-1), logits[1].double().log_softmax(-1)
    forward, reverse, entropy = ((a.exp() * (a - b)).sum(-1) for a, b in ((p, q), (q, p), (q, torch.zeros(()))))
    torch.testing.assert_close(found["kl"][1].double(), forward, rtol=3e-5, atol=1e-6)
    torch.testing.assert_close(found["kl_reverse"][1].double(), reverse, rtol=3e-5, atol=1e-6)
    torch.testing.assert_close(found["entropy"][1].double(), -entropy, rtol=3e-5, atol=1e-6)


@settings(max_examples=60)
@given(values=st.integers(1, 5), width=st.integers(1, 40), count=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_ties_are_broken_as_argmax_breaks_them(values: int, width: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logp = -torch.randint(0, values, (3, 2, width), generator=generator).float()
    count = min(count, width)
    found, ids = likeliest(logp, count)
    assert torch.equal(ids[..., 0], logp.argmax(-1))
    assert torch.equal(found, logp.sort(dim=-1, descending=True).values[..., :count])
    assert torch.equal(logp.gather(-1, ids), found)
    targets = torch.randint(0, width, (3, 2), generator=generator)
    order = logp.sort(dim=-1, descending=True, stable=True).indices
    assert torch.equal(ranks(logp, targets), (order == targets[..., None]).float().argmax(-1) + 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("vocab", [50_257, 262_144])
def test_rows_are_the_states_decoded_by_hand(vocab: int, dtype: torch.dtype) -> None:
    model = build_model("llama", vocab_size=vocab, max_position_embeddings=64).to(dtype)
    text = "It was a dark night."
    read = read_lens(LogitLens(model), model, tokenizer(), text)
    ids = torch.tensor([tokenizer()(text).input_ids])
    seen: list[torch.Tensor] = []
    handles = [layer.register_forward_hook(lambda m, a, out: seen.append(out)) for layer in model.model.layers]
    final = model(ids).logits[0].float()
    for handle in handles:
        handle.remove()
    p = final.double().log_softmax(-1)
    for row, state in enumerate(seen, 1):
        logits = model.lm_head(model.model.norm(state))[0].float()
        q = logits.double().log_softmax(-1)
        expected = (p.exp() * (p - q)).sum(-1).numpy()
        np.testing.assert_allclose(read.statistics["kl"][row], expected, rtol=2e-3, atol=2e-4)
        # in half precision logits may be rounded otherwise in a product of another shape, so places may differ there
        same = (read.top_ids[row, :, 0] == logits.argmax(-1).numpy()).mean()
        assert same == 1.0 if dtype == torch.float32 else same > 0.8


def mamba() -> Any:
    model = zoo.try_build("mamba")
    assert context_length(model) is None
    return model


@pytest.mark.parametrize("length", [2047, 2048, 2049])
def test_a_model_without_a_stated_context_reads_2048_tokens_at_once(length: int) -> None:
    model, text = mamba(), Text("Long", "ab" * (length // 2) + "a" * (length % 2))
    read = read_lens(LogitLens(model), model, byte(), text)
    assert len(read.tokens) == min(length, 2048)
    assert read.truncated == (length > 2048)
    apart = distances((LogitLens(model), LogitLens(model)), (model, operate(model, "0,2,1,3")), byte(), text)
    assert apart["js"].shape == (5, min(length, 2048))
    if length > 2048:
        rest = read_lens(LogitLens(model), model, byte(), text, start=2048)
        assert len(rest.tokens) == length - 2048


def byte() -> Any:
    from tests.core.measure.test_measure import byte_tokenizer

    return byte_tokenizer()


def test_a_long_text_is_never_read_at_all_layers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on a model that could read all of it, nor for averages and scores, whose windows follow one another."""
    from surgery_core.lenses import reading as lens_module

    sizes: list[int] = []
    own = lens_module.residuals
    monkeypatch.setattr(
        lens_module, "residuals", lambda model, ids, **how: sizes.append(ids.shape[1]) or own(model, ids, **how)
    )
    model = build_model("llama", max_position_embeddings=131_072, hidden_size=8, head_dim=2, intermediate_size=8)
    text = Text("Long", "ab " * 2_000)
    assert len(read_lens(LogitLens(model), model, tokenizer(), text).tokens) == 2048
    lens_averages(LogitLens(model), model, tokenizer(), text)
    assert max(sizes) == 2048
    assert score(model, tokenizer(), text).n_tokens == 5_999


def _again_and_again(lens: Any, model: Any, stop: threading.Event) -> None:
    for _ in range(100):
        read_lens(lens, model, tokenizer(), "Once upon a time", stop=stop)


def test_reading_stops_between_layers() -> None:
    from surgery_core.errors import Stopped
    from surgery_core.surgery.in_place import ModelSurgery

    stop, model, ran = threading.Event(), build_model("llama"), []

    class Asking(torch.nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            ran.append(1)
            if len(ran) > 8:
                stop.set()
            return hidden

    with ModelSurgery(model).replace_layers([1, 2], [Asking(), Asking()]):
        lens = LogitLens(model)
        ran.clear()
        with pytest.raises(Stopped):
            _again_and_again(lens, model, stop)
        # the ninth run of such a layer asked for the stop, and at most its neighbour still ran
        assert len(ran) <= 10


@pytest.mark.parametrize("at_once", [1, 40_000, 2**21])
def test_readings_and_distances_tell_how_far_they_are(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Every layer at every token is counted once, however many are held at a time."""
    from surgery_core.lenses.before_after import distances
    from surgery_core.measure import readout
    from surgery_core.surgery.view import operate

    monkeypatch.setattr(readout, "SLICE_ELEMENTS", {"cpu": at_once, "cuda": at_once})
    monkeypatch.setattr(readout, "ROWS", 2)
    model, told = build_model("llama"), {"read": [], "compared": []}
    view = operate(model, "0,2-3")
    read_lens(LogitLens(view), view, tokenizer(), "Once upon", on_progress=lambda *now: told["read"].append(now))
    lenses = LogitLens(model), LogitLens(view)
    distances(lenses, (model, view), tokenizer(), "Once upon", on_progress=lambda *now: told["compared"].append(now))
    for name, total in (("read", 4 * len(tokenizer()("Once upon").input_ids)), ("compared", 4)):
        done = [now[0] for now in told[name]]
        assert told[name][-1] == (total, total)
        assert done == sorted(done)
        assert len(set(done)) == len(done)
