"""The head in slices of the vocabulary against whole rows of the model's own logits."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from families import FAMILIES, VOCAB, build, tokens
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery_core import head as head_module
from surgery_core.errors import Stopped
from surgery_core.head import Head

model_of = cache(build)


def states(model: Any, batch: int = 2, length: int = 9, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what leaves the last layer, `[batch * length, d_model]`, and the model's own logits."""
    from surgery_core.anatomy import find_layers

    seen: list[Any] = []
    handle = find_layers(model)[1][-1].register_forward_hook(lambda m, a, output: seen.append(output))
    logits = model(tokens(batch, length, seed), use_cache=False).logits
    handle.remove()
    hidden = seen[0] if isinstance(seen[0], torch.Tensor) else seen[0][0]
    return hidden.flatten(0, 1), logits.flatten(0, 1)


def by_definition(logits: torch.Tensor, targets: torch.Tensor, base: torch.Tensor) -> dict[str, torch.Tensor]:
    p, q = base.double().log_softmax(-1), logits.double().log_softmax(-1)
    top = base.argmax(-1)
    ranks = (logits > logits.gather(-1, top[:, None])).sum(-1)
    return {"nll": -q.gather(-1, targets[:, None])[:, 0], "kl": (p.exp() * (p - q)).sum(-1), "above": ranks}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("keep", [True, False])
def test_figures_are_those_of_whole_logits(family: str, keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "SLICE_ELEMENTS", {"cpu": 1, "cuda": 1})  # the narrowest slices
    monkeypatch.setattr(head_module, "CHUNK_ELEMENTS", 5 * VOCAB)
    model = model_of(family)
    (hidden, logits), (other, base_logits) = states(model), states(model, seed=7)
    head, targets = Head(model), torch.randint(0, VOCAB, (len(hidden),))
    base = head.base_side(head.enter(other), keep=keep)
    figures = head.figures(head.enter(hidden), targets, base)
    expected = by_definition(logits, targets, base_logits)
    assert torch.allclose(figures.nll.double(), expected["nll"], atol=1e-5)
    assert figures.kl is not None
    assert torch.allclose(figures.kl.double(), expected["kl"], atol=2e-5)
    assert torch.equal(figures.above, expected["above"])  # type: ignore[arg-type]


def test_a_soft_cap_is_found_out_and_a_plain_head_is_sliced() -> None:
    assert Head(model_of("llama")).slices
    assert not Head(model_of("gemma2")).slices  # soft cap behind the unembedding


def test_the_base_against_itself_has_no_divergence() -> None:
    model = model_of("gpt2")
    hidden, logits = states(model)
    head, targets = Head(model), torch.randint(0, VOCAB, (len(hidden),))
    base = head.base_side(head.enter(hidden), keep=True)
    for figures in (head.own_figures(base, targets), head.figures(base.hidden, targets, base)):
        assert figures.kl is not None
        assert figures.above is not None
        assert torch.allclose(
            figures.nll, torch.nn.functional.cross_entropy(logits, targets, reduction="none"), atol=1e-5
        )
        assert figures.kl.abs().max() < 1e-5
        assert not figures.above.any()


@settings(max_examples=30)
@given(scale=st.sampled_from([1e-3, 1.0, 30.0]), seed=st.integers(0, 10**6))
def test_kl_is_never_negative_beyond_rounding(scale: float, seed: int) -> None:
    model, generator = model_of("llama"), torch.Generator().manual_seed(seed)
    one, two = (scale * torch.randn((6, 32), generator=generator) for _ in range(2))
    head = Head(model)
    figures = head.figures(
        head.enter(one), torch.zeros(6, dtype=torch.long), head.base_side(head.enter(two), keep=False)
    )
    assert figures.kl is not None
    assert figures.kl.min() > -1e-4


def test_work_stops_between_chunks() -> None:
    def look() -> None:
        raise Stopped("enough")

    model = model_of("llama")
    head = Head(model)
    with pytest.raises(Stopped):
        head.figures(head.enter(states(model)[0]), torch.zeros(18, dtype=torch.long), look=look)
