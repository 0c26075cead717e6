"""Tiny random models and a byte-level tokenizer, built from configs with a fixed seed.

Weights are large enough that a wrong layer order shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

TINY = {"vocab_size": 260, "bos_token_id": 257, "eos_token_id": 256, "pad_token_id": 258}
WIDTHS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 4, "n_embd": 32, "n_head": 4, "n_positions": 128},
    "opt": {
        "num_hidden_layers": 4,
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 64,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    },
    "bloom": {"n_layer": 4, "hidden_size": 32, "n_head": 4},
}
DECODER = {
    "num_hidden_layers": 4,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}


def build_model(family: str, *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Build a random causal model of a family (`"llama"`, `"gpt2"`, ...), 4 layers of width 32, in eval mode."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **{**TINY, **WIDTHS.get(family, DECODER), **changes})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.2)
    return model.eval().requires_grad_(False)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token a byte (ids 0 to 255) and the specials of `TINY`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<eos>", "<bos>", "<pad>", "<unk>"]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate([*alphabet, *specials])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", bos_token="<bos>", pad_token="<pad>", unk_token="<unk>"
    )
