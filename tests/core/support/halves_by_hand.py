"""The halves of every layer of the zoo, written down from the source of transformers.

Nothing of the library is used: what it finds by structure is compared with this, and this by its effect.
"""

from __future__ import annotations

import torch
from torch import nn

Paths = tuple[str, ...]

HALVES: dict[Paths, tuple[Paths, Paths]] = {
    ("attn", "ffn"): (("attn",), ("ffn",)),
    ("attn", "mlp"): (("attn",), ("mlp",)),
    ("attention", "feed_forward"): (("attention",), ("feed_forward",)),
    ("attention", "intermediate", "output"): (("attention.output.dense",), ("output.dense",)),
    ("attention", "mlp"): (("attention",), ("mlp",)),
    ("block_sparse_moe", "mamba", "shared_mlp"): (("mamba",), ("block_sparse_moe", "shared_mlp")),
    ("block_sparse_moe", "self_attn"): (("self_attn",), ("block_sparse_moe",)),
    ("block_sparse_moe", "self_attn", "shared_mlp"): (("self_attn",), ("block_sparse_moe", "shared_mlp")),
    ("conv", "feed_forward"): (("conv",), ("feed_forward",)),
    ("cross_attn", "feed_forward", "self_attn"): (("self_attn",), ("feed_forward",)),
    ("cross_attn", "mlp"): (("cross_attn",), ("mlp",)),
    ("encoder_attn", "fc1", "fc2", "self_attn"): (("self_attn",), ("fc2",)),
    ("fc1", "fc2", "self_attn"): (("self_attn",), ("fc2",)),
    ("feed_forward", "mamba"): (("mamba",), ("feed_forward",)),
    ("feed_forward", "mamba", "self_attn"): (("self_attn", "mamba"), ("feed_forward",)),
    ("feed_forward", "self_attn"): (("self_attn",), ("feed_forward",)),
    ("ff", "rel_attn"): (("rel_attn.dropout",), ("ff.layer_2",)),
    ("ffn", "mlstm_layer"): (("mlstm_layer",), ("ffn",)),
    ("ffn", "multi_head_attention"): (("multi_head_attention",), ("ffn",)),
    ("ffn", "norm_attn_norm"): (("norm_attn_norm.attn",), ("ffn",)),
    ("ffn", "self_att"): (("self_att.self_attention",), ("ffn.ffn",)),
    ("linear_attn", "mlp"): (("linear_attn",), ("mlp",)),
    ("mlp", "mlps", "self_attn"): (("self_attn.0", "self_attn.1"), ("mlp", "mlps.0", "mlps.1")),
    ("mlp", "self_attention"): (("self_attention",), ("mlp",)),
    ("mlp", "self_attn"): (("self_attn",), ("mlp",)),
    ("mlp_block", "temporal_block"): (("temporal_block",), ("mlp_block",)),
}
"""The modules that add attention and MLP, by the names of the parts of a layer that have matrices."""

BESIDE = (
    "altup", "attn_hc", "attn_hyper_connection", "attn_sconv", "ffn_hc", "input_layernorm", "laurel",
    "mlp_hyper_connection", "mlp_sconv", "per_layer_input_gate", "per_layer_projection",
    "post_attention_convolution", "post_attention_layernorm", "post_mlp_convolution", "attention_input", "mlp_input",
)  # fmt: skip
"""Parts with matrices that are neither: they mix streams, gate, or work on what a half has made."""

MIXER_ONLY = ("falcon_mamba", "mamba", "mamba2", "nemotron_h", "zamba", "zamba2")
"""Model types whose layers hold one mixer, or one MLP, each."""


def written_down(layer: nn.Module) -> tuple[Paths, Paths] | None:
    """Return the modules to silence for a layer's attention and for its MLP; None where it has no two halves."""
    names = {name for name, child in layer.named_children() if any(p.dim() > 1 for p in child.parameters())}
    return HALVES.get(tuple(sorted(names - set(BESIDE))))


def residual_of(args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor], names: list[str]) -> torch.Tensor:
    """Return the `residual` that a half adds itself."""
    return kwargs["residual"] if "residual" in kwargs else args[names.index("residual") - 1]
