"""Tiny random models of the supported families, and an independent reference for operated ones.

The reference knows nothing of views: it builds a new model of the new depth from a config whose per-layer lists
are permuted, and copies the weights layer by layer under their new names.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers import models as hf

N_LAYERS = 4
VOCAB = 96

_LLAMA_LIKE: dict[str, Any] = {
    "num_hidden_layers": N_LAYERS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": VOCAB,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
_MIXED = {
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    "sliding_window": 4,
}
_SPECIAL = {"vocab_size": VOCAB, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}


def configs() -> dict[str, Any]:
    """Return a tiny config of every family that is supported so far."""
    return {
        "gpt2": hf.gpt2.GPT2Config(
            n_layer=N_LAYERS, n_embd=32, n_head=4, n_positions=64, scale_attn_by_inverse_layer_idx=True, **_SPECIAL
        ),
        "gpt_neox": hf.gpt_neox.GPTNeoXConfig(**{**_LLAMA_LIKE, "use_parallel_residual": True}),
        "llama": hf.llama.LlamaConfig(**_LLAMA_LIKE),
        "mistral": hf.mistral.MistralConfig(**_LLAMA_LIKE, sliding_window=4),
        "qwen2": hf.qwen2.Qwen2Config(
            **{
                **_LLAMA_LIKE,
                **_MIXED,
                "layer_types": ["full_attention", "full_attention", "sliding_attention", "sliding_attention"],
            },
            use_sliding_window=True,
        ),
        "qwen3": hf.qwen3.Qwen3Config(**_LLAMA_LIKE),
        "gemma2": hf.gemma2.Gemma2Config(**_LLAMA_LIKE, **_MIXED),
        "gemma3": hf.gemma3.Gemma3TextConfig(**_LLAMA_LIKE, **_MIXED),
        "opt": hf.opt.OPTConfig(
            num_hidden_layers=N_LAYERS,
            hidden_size=32,
            ffn_dim=48,
            num_attention_heads=4,
            max_position_embeddings=64,
            word_embed_proj_dim=32,
            **_SPECIAL,
        ),
        "bloom": hf.bloom.BloomConfig(n_layer=N_LAYERS, hidden_size=32, n_head=4, **_SPECIAL),
        "phi": hf.phi.PhiConfig(**{**_LLAMA_LIKE, "partial_rotary_factor": 0.5}),
    }


FAMILIES = tuple(configs())


def build(family: str, seed: int = 0) -> Any:
    """Return a random model of the family, large enough weights that every layer matters, in eval mode."""
    return from_config(configs()[family], seed)


def from_config(config: Any, seed: int = 0) -> Any:
    """Return a model of this config with random weights of standard deviation 0.2 (norms: about 1)."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
        elif "norm" in name or "ln_" in name or "layernorm" in name:
            torch.nn.init.normal_(parameter, mean=1.0 if "weight" in name else 0.0, std=0.1)
        else:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval().requires_grad_(False)


def layer_prefix(model: Any) -> str:
    """Return the prefix of the layers' weights, found in the state dict: `model.layers.` and the like."""
    for name in model.state_dict():
        head, _, tail = name.partition(".0.")
        if tail:
            return head + "."
    raise AssertionError("the state dict names no layer 0")


def reference(model: Any, order: Sequence[int]) -> Any:
    """Return an independently built model whose layers are `order` of `model`'s, with their own copies of weights."""
    config = permuted_config(model.config, order)
    built = AutoModelForCausalLM.from_config(config, attn_implementation=model.config._attn_implementation)
    prefix, old = layer_prefix(model), model.state_dict()
    new = {name: tensor for name, tensor in old.items() if not name.startswith(prefix)}
    for position, index in enumerate(order):
        source = f"{prefix}{index}."
        new |= {
            f"{prefix}{position}.{name.removeprefix(source)}": tensor
            for name, tensor in old.items()
            if name.startswith(source)
        }
    built.load_state_dict({name: tensor.clone() for name, tensor in new.items()}, strict=True)
    if getattr(config, "scale_attn_by_inverse_layer_idx", False):
        for position, index in enumerate(order):
            # the scale was computed from the depth that the layer was trained at, and belongs to the layer
            built.transformer.h[position].attn.scaling = model.transformer.h[index].attn.scaling
    return built.eval().requires_grad_(False)


def permuted_config(config: Any, order: Sequence[int]) -> Any:
    """Return a new config of the new depth, its per-layer lists permuted; made from the config's own dictionary."""
    settings = copy.deepcopy(config.to_dict())
    depth_key = next(key for key in ("num_hidden_layers", "n_layer") if key in settings)
    settings[depth_key] = len(order)
    if settings.get("layer_types"):
        settings["layer_types"] = [settings["layer_types"][index] for index in order]
    settings.pop("max_window_layers", None)
    return type(config).from_dict(settings)


def tokens(batch: int = 1, length: int = 9, seed: int = 1) -> torch.Tensor:
    """Return random token ids `[batch, length]`, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, VOCAB, (batch, length), generator=generator)


def left_padded(lengths: Sequence[int] = (3, 9, 6), seed: int = 2) -> dict[str, torch.Tensor]:
    """Return a left-padded batch of prompts of different lengths, with its attention mask."""
    width = max(lengths)
    ids = tokens(len(lengths), width, seed)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        mask[row, width - length :] = 1
    return {"input_ids": ids * mask, "attention_mask": mask}


def read_until(output: Any) -> dict[str, Any]:
    """Return a forward pass's cache under the name that this version of transformers gives it, out and in."""
    return {name: output[name] for name in ("cache", "past_key_values") if name in list(output.keys())}


def greedy(
    model: Any, inputs: dict[str, torch.Tensor], new_tokens: int = 20, *, use_cache: bool = True
) -> torch.Tensor:
    """Return the generated ids `[batch, new_tokens]`, greedily."""
    settings = {"do_sample": False, "max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "use_cache": use_cache}
    output = model.generate(**inputs, **settings, pad_token_id=0)
    return output[:, inputs["input_ids"].shape[1] :]
