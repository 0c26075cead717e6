"""A Llama run layer by layer with nothing of the library: what studies are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats

Step = Callable[[Any, torch.Tensor], torch.Tensor]
"""What one slot does to the residual stream: (a function that gives a layer's contribution, the stream)."""


def whole(*layers: int, factor: float = 1.0) -> list[Step]:
    """Return slots that run these layers one after the other, their contributions scaled."""
    return [lambda add, h, at=at: h + factor * add(at, h) for at in layers]  # type: ignore[misc]


def together(*layers: int) -> list[Step]:
    """Return a slot whose layers read the same input; what they add is averaged."""
    return [lambda add, h: h + sum(add(at, h) for at in layers) / len(layers)]


def half(layer: int, part: str) -> list[Step]:
    """Return a slot with only the attention (`"attn"`) or the MLP (`"mlp"`) of a layer."""
    return [lambda add, h: h + add(layer, h, part)]


def constant(vector: torch.Tensor) -> list[Step]:
    """Return a slot that adds the same vector everywhere."""
    return [lambda add, h: h + vector]


def run(model: Any, ids: Sequence[int], steps: Sequence[Step]) -> list[torch.Tensor]:
    """Return the residual stream `[seq, d_model]` before the first slot and behind each."""
    core, tokens = model.model, torch.tensor([list(ids)])
    stream = core.embed_tokens(tokens)
    places = torch.arange(len(ids))[None]
    angles = core.rotary_emb(stream, places)
    mask = torch.full((len(ids), len(ids)), float("-inf")).triu(1)[None, None]

    def add(at: int, h: torch.Tensor, part: str = "both") -> torch.Tensor:
        layer = core.layers[at]
        attended = layer.self_attn(layer.input_layernorm(h), position_embeddings=angles, attention_mask=mask)[0]
        if part == "attn":
            return attended  # type: ignore[no-any-return]
        if part == "mlp":
            return layer.mlp(layer.post_attention_layernorm(h))  # type: ignore[no-any-return]
        return attended + layer.mlp(layer.post_attention_layernorm(h + attended))  # type: ignore[no-any-return]

    states = [stream]
    with torch.no_grad():
        for step in steps:
            states.append(step(add, states[-1]))
    return [state[0] for state in states]


def logp(model: Any, stream: torch.Tensor) -> torch.Tensor:
    """Return log-probabilities `[seq, vocab]` in float64 of what leaves the last layer."""
    with torch.no_grad():
        return model.lm_head(model.model.norm(stream)).double().log_softmax(-1)  # type: ignore[no-any-return]


def losses(model: Any, ids: Sequence[int], steps: Sequence[Step]) -> np.ndarray:
    """Return the loss in nats of every token but the first."""
    found = logp(model, run(model, ids, steps)[-1])[:-1]
    return -found.gather(-1, torch.tensor(ids)[1:, None])[:, 0].numpy()


def predictions(model: Any, ids: Sequence[int], steps: Sequence[Step]) -> np.ndarray:
    """Return the likeliest next token at every scored position."""
    return logp(model, run(model, ids, steps)[-1])[:-1].argmax(-1).numpy()


def ratio(sums: Sequence[float], sizes: Sequence[float]) -> tuple[float, float, float]:
    """Return a mean a token with its 95 % interval, written out from Cochran, section 6.3."""
    s, n, k = np.array(sums), np.array(sizes), len(sizes)
    value = s.sum() / n.sum()
    variance = ((s - value * n) ** 2).sum() / (k - 1) / k / (n.mean()) ** 2
    reach = stats.t.ppf(0.975, k - 1) * variance**0.5
    return float(value), float(value - reach), float(value + reach)
