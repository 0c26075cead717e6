"""The same delete-each sweep as people write it with TransformerLens and with nnsight.

They are no dependency of the project: `pip install -r benchmarks/requirements.txt` in an environment of its own, and
run the benchmark from there. TransformerLens zeroes what a layer's attention and MLP add, with hooks on a whole run;
its `start_at_layer` lets a careful user start from a cached residual stream, which is timed too. nnsight skips the
layer inside a trace.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from transformers import GPT2LMHeadModel

Way = Callable[[], list[float]]


def ways(model: GPT2LMHeadModel, ids: torch.Tensor) -> dict[str, Way]:
    """Return each library's delete-each sweep: the loss of the base, then without each layer."""
    bridge, traced = _bridge(copy.deepcopy(model)), _traced(copy.deepcopy(model))
    return {
        "TransformerLens, hooks": lambda: _hooked(bridge, ids),
        "TransformerLens, start_at_layer": lambda: _started(bridge, ids),
        "nnsight, skip": lambda: _skipped(traced, ids),
    }


def _bridge(model: GPT2LMHeadModel) -> Any:
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    return build_bridge_from_module(model, "GPT2LMHeadModel", hf_config=model.config)


def _hooked(bridge: Any, ids: torch.Tensor) -> list[float]:
    def zero(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return torch.zeros_like(value)

    losses = []
    with torch.inference_mode():
        losses.append(float(bridge(ids, return_type="loss")))
        for layer in range(bridge.cfg.n_layers):
            hooks = [(f"blocks.{layer}.hook_attn_out", zero), (f"blocks.{layer}.hook_mlp_out", zero)]
            losses.append(float(bridge.run_with_hooks(ids, return_type="loss", fwd_hooks=hooks)))
    return losses


def _started(bridge: Any, ids: torch.Tensor) -> list[float]:
    """Return the same from cached residual streams: layer i is left out by starting at i + 1 with what enters i."""
    n_layers = bridge.cfg.n_layers
    names = [f"blocks.{layer}.hook_in" for layer in range(n_layers)]
    with torch.inference_mode():
        logits, cache = bridge.run_with_cache(ids, return_type="logits", names_filter=names)
        losses = [_loss(logits, ids)]
        for layer in range(n_layers - 1):
            rest = bridge(cache[names[layer]], start_at_layer=layer + 1, return_type="logits")
            losses.append(_loss(rest, ids))
        last = bridge.unembed(bridge.ln_final(cache[names[-1]]))
        losses.append(_loss(last, ids))
    return losses


def _loss(logits: torch.Tensor, ids: torch.Tensor) -> float:
    flat = logits[:, :-1].reshape(-1, logits.shape[-1])
    return float(torch.nn.functional.cross_entropy(flat, ids[:, 1:].reshape(-1)))


def _traced(model: GPT2LMHeadModel) -> Any:
    from nnsight import NNsight

    return NNsight(model)


def _skipped(model: Any, ids: torch.Tensor) -> list[float]:
    with torch.inference_mode():
        with model.trace(input_ids=ids, labels=ids, use_cache=False):
            whole = model.output.loss.save()
        losses = [float(whole)]
        for layer in model.transformer.h:
            with model.trace(input_ids=ids, labels=ids, use_cache=False):
                layer.skip(layer.input)
                loss = model.output.loss.save()
            losses.append(float(loss))
    return losses
