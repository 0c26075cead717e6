"""A tiny random model of every causal LM class of the installed transformers that can be built from a config.

The configs are made by shrinking each config class's own fields by name; what a class needs beyond that stands in
`OVERRIDES`. Nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

N_LAYERS = 4
VOCAB = 96

SMALL: dict[str, Any] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), N_LAYERS),
    **dict.fromkeys(("encoder_layers", "num_nextn_predict_layers", "num_mtp_layers"), 0),
    **dict.fromkeys(
        ("hidden_size", "n_embd", "d_model", "dim", "embedding_size", "word_embed_proj_dim", "embed_dim"), 32
    ),
    **dict.fromkeys(
        ("intermediate_size", "n_inner", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "d_inner", "hidden_dim"), 48
    ),
    **dict.fromkeys(
        ("moe_intermediate_size", "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"), 24
    ),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "encoder_attention_heads"),
        4,
    ),
    **dict.fromkeys(("num_key_value_heads", "multi_query_group_num"), 2),
    **dict.fromkeys(
        (
            "head_dim",
            "attention_head_size",
            "v_head_dim",
            "qk_rope_head_dim",
            "qk_nope_head_dim",
            "rotary_dim",
            "d_kv",
            "d_head",
            "swa_head_dim",
        ),
        8,
    ),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "o_lora_rank"), 16),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length", "max_target_positions"), 64
    ),
    **dict.fromkeys(
        ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_dense_experts"), 4
    ),
    **dict.fromkeys(
        (
            "num_experts_per_tok",
            "num_selected_experts",
            "moe_topk",
            "moe_k",
            "top_k_experts",
            "experts_per_token",
            "moe_num_experts_per_tok",
        ),
        2,
    ),
    **dict.fromkeys(
        (
            "n_group",
            "topk_group",
            "n_shared_experts",
            "first_k_dense_replace",
            "num_shared_experts",
            "moe_num_shared_experts",
        ),
        1,
    ),
    **dict.fromkeys(
        ("mamba_d_state", "state_size", "ssm_state_size", "mamba_dt_rank", "time_step_rank", "ssm_d_state"), 8
    ),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 8),
    **dict.fromkeys(("mamba_head_dim", "mamba_d_head", "mamba_headdim"), 8),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), 8),
    "vocab_size": VOCAB,
    "sliding_window": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "lru_width": 32,
    "attention_window_size": 4,
    "is_decoder": True,
    "mamba_expand": 2,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCAB,
    "attention_probs_dropout_prob": 0.0,
    "hidden_dropout_prob": 0.0,
}
"""Tiny values by field name, for every config that has such a field."""

_LOCAL_AND_FULL = ["sliding_attention", "full_attention"] * 2
_MLA = {"num_key_value_heads": 4}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
    "num_channels": 3,
}

OVERRIDES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        (
            "axk1",
            "axk2",
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "glm4_moe_lite",
            "glm_moe_dsa",
            "minicpm3",
            "youtu",
            "dots3_note",
        ),
        _MLA,
    ),
    "bailing_hybrid": {**_MLA, "layer_group_size": 2, "layer_types": ["linear_attention", "full_attention"] * 2},
    "bamba": {"attn_layer_indices": [1, 3], "mamba_n_groups": 1},
    "cohere_compass_text": {
        "layer_types": _LOCAL_AND_FULL,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
            for kind in ("sliding_attention", "full_attention")
        },
    },
    "cpmant": {"dim_ff": 48, "dim_head": 8, "prompt_length": 4},
    "ctrl": {"dff": 48},
    # the attention reads a base of the rotary angles from its own config, which has no such field by default
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "dots3_note_text": {
        **_MLA,
        "head_dim": 16,
        "index_topk": 32,
        "index_head_dim": 16,
        "index_n_heads": 2,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "swa_q_lora_rank": 16,
        "swa_kv_lora_rank": 16,
        "swa_head_dim": 16,
        "swa_qk_nope_head_dim": 8,
        "swa_v_head_dim": 8,
        "shared_experts_intermediate_size": 24,
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 32,
        "indexer_compress_ratio": 4,
        "hc_lowrank": 8,
    },
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_groups": 1},
    "gemma3": {"vision_config": {**_VISION, "model_type": "siglip_vision_model"}, "mm_tokens_per_image": 4},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 0,
        "laurel_rank": 4,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "git": {"vision_config": {**_VISION, "model_type": "git_vision_model"}},
    "got_ocr2": {
        "vision_config": {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "mlp_dim": 16,
            "output_channels": 8,
            "window_size": 2,
            "global_attn_indexes": [0],
        }
    },
    # shared indexers need a full one before them, so no order that begins with one can run; see test_preflight
    "mllama_text_model": {"cross_attention_layers": [3]},
    "moss_transcribe_diarize": {
        "audio_config": {
            "num_mel_bins": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "hidden_size": 16,
            "max_source_positions": 16,
        }
    },
    "phi4_multimodal": {
        "vision_config": {**_VISION, "num_hidden_layers": 2, "image_size": 28, "patch_size": 14, "crop_size": 28},
        "audio_config": {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_blocks": 1,
            "num_attention_heads": 2,
            "ext_pw_out_channel": 16,
            "nemo_conv_channels": 16,
            "depthwise_separable_out_channel": 16,
        },
    },
    "hy_v4": {"indexer_types": ["full"] * 4},
    # as by default the whole context: beyond its window the class itself writes otherwise with its cache
    "moshi": {"sliding_window": 64},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": 4},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2, "mamba_n_groups": 1},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "kimi_linear": {**_MLA, "linear_num_heads": 4, "layer_types": ["linear_attention", "full_attention"] * 2},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm3": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "recurrent_gemma": {"block_types": ("recurrent", "attention")},
    "nemotron_h": {"layers_block_type": ["linear_attention", "full_attention", "mlp", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "longcat_flash": {
        "num_layers": 4,
        "ffn_hidden_size": 48,
        "zero_expert_num": 2,
        "expert_ffn_hidden_size": 24,
        "num_key_value_heads": 4,
        "qk_head_dim": 16,
    },
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "reformer": {
        "attn_layers": ["local", "lsh", "local", "lsh"],
        "axial_pos_shape": (8, 8),
        "axial_pos_embds_dim": (16, 16),
        # chunks longer than the text, as by default: on longer texts the class itself writes otherwise with its cache
        "local_attn_chunk_length": 64,
        "lsh_attn_chunk_length": 64,
        "feed_forward_size": 48,
        "num_buckets": 4,
        "attention_head_size": 8,
        "hash_seed": 0,
        "local_attention_probs_dropout_prob": 0.0,
    },
    "roc_bert": {
        "shape_embed_dim": 8,
        "shape_vocab_size": VOCAB,
        "pronunciation_embed_dim": 8,
        "pronunciation_vocab_size": VOCAB,
    },
    "xlm": {"emb_dim": 32, "n_heads": 4, "causal": True},
    "xlstm": {
        "num_heads": 4,
        "hidden_size": 64,
        "num_blocks": 4,
        "embedding_dim": 64,
        "qk_dim_factor": 1.0,
        "chunk_size": 64,
    },
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "zamba": {
        # more than one layer shares the block, also where one is deleted: with a single one the class cannot be opened
        "layers_block_type": ["linear_attention", "hybrid", "hybrid", "hybrid"],
        "num_key_value_heads": 4,
        "n_mamba_heads": 2,
    },
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "n_mamba_heads": 8,
        "num_key_value_heads": 4,
        "use_mamba_kernels": False,
        "adapter_rank": 8,
        "mamba_headdim": 8,
    },
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}
"""What single classes need besides."""


TEXT_TYPES = {"dots3_note": "dots3_note_text", "qwen4_exp": "qwen4_exp_text"}
"""Types whose class is built from the config of its language part alone."""

SEEDS = {"flex_olmo": 1}
"""Other random weights where, with the first ones, two experts' scores are so close that the order of sums decides."""


ZERO_PADDING = ("youtu",)
"""Types whose class sets the padding token's embedding to zero whenever it opens a checkpoint."""


def model_types() -> tuple[str, ...]:
    """Return the model types that AutoModelForCausalLM knows, one for each class."""
    first: dict[str, str] = {}
    for model_type, cls in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        first.setdefault(str(cls), model_type)
    return tuple(first.values())


def shrunk(config_class: type, overrides: dict[str, Any]) -> Any:
    """Return a config with every known size field made tiny."""
    names = {field.name for field in dataclasses.fields(config_class)}
    values = {name: value for name, value in SMALL.items() if name in names}
    for field in dataclasses.fields(config_class):
        default = field.default if field.default is not dataclasses.MISSING else None
        if (
            field.name in values
            and isinstance(default, (list, tuple))
            and not isinstance(values[field.name], (list, tuple))
        ):
            values[field.name] = type(default)([values[field.name]] * N_LAYERS)
    return config_class(**{**values, **overrides})


@cache
def config_of(model_type: str) -> Any:
    """Return the tiny config of a model type; multimodal ones get a tiny text config."""
    model_type = TEXT_TYPES.get(model_type, model_type)
    config_class = CONFIG_MAPPING[model_type]
    overrides = dict(OVERRIDES.get(model_type, {}))
    subs = getattr(config_class, "sub_configs", {})
    if "text_config" in subs and "text_config" not in overrides:
        text = CONFIG_MAPPING[model_type]().get_text_config(decoder=True)
        overrides["text_config"] = shrunk(type(text), OVERRIDES.get(text.model_type, {})).to_dict()
    return shrunk(config_class, overrides)


def build(model_type: str) -> Any:
    """Return the tiny model of a type with weights large enough that every layer matters."""
    return from_config(config_of(model_type), SEEDS.get(model_type, 0))


def from_config(config: Any, seed: int = 0) -> Any:
    """Return a model of a config with such weights."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
        else:
            parameter.data += 0.05 * torch.randn_like(parameter)
    if config.model_type in ZERO_PADDING:
        model.get_input_embeddings().weight.data[config.pad_token_id] = 0.0
    return model.float().eval().requires_grad_(False)


DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers")
LARGEST = 2_000_000


def try_build(model_type: str) -> Any | None:
    """Return the tiny model of a type, or None where it cannot be built or does not run on plain token ids."""
    try:
        with torch.device("meta"):
            size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config_of(model_type)).parameters())
        if size > LARGEST:
            return None
        model = build(model_type)
        with torch.inference_mode():
            logits = model(torch.arange(3, 12)[None]).logits
    except (
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        ImportError,
        StrictDataclassError,
    ):
        return None
    return model if bool(torch.isfinite(logits).all()) else None
