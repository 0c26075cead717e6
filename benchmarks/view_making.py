"""How long it takes to make an operated model of 80 layers, and how much memory: a view beside `copy.deepcopy`.

The model has the shape of a 70B Llama on the meta device, so that only the objects count and no weights; with real
weights a deep copy would also hold 140 GB more, a view nothing.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.record import keep, measure
from surgery_core import operate

PLAN = "0-39,50-41,50-79"


def large_llama() -> LlamaForCausalLM:
    """Return an 80-layer Llama without weights."""
    config = LlamaConfig(
        num_hidden_layers=80,
        hidden_size=8192,
        intermediate_size=28672,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=128256,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config).eval()


def copied(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """Return what one would write by hand: a deep copy with its list put in a new order (and stale cache indices)."""
    twin = copy.deepcopy(model)
    order = [*range(40), *range(50, 40, -1), *range(50, 80)]
    twin.model.layers = nn.ModuleList(twin.model.layers[index] for index in order)
    return twin


def main() -> None:
    """Measure both ways and keep the lines."""
    model = large_llama()
    what = "make an operated model, 80-layer Llama"
    keep(
        measure(what, "`operate` (view)", lambda: operate(model, PLAN)),
        measure(what, "`copy.deepcopy`, new `ModuleList`", lambda: copied(model), runs=5),
    )


if __name__ == "__main__":
    main()
