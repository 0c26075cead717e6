"""Small GGUF files, written with the `gguf` package as llama.cpp's converter writes them, and ones made to do harm."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import pre_tokenizers

from tests.tiny import build_model

PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = [*ALPHABET, "th", "<|endoftext|>", "<bos>", "<unk>"]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def tiny_llama(**changes: Any) -> Any:
    """Build the random Llama that the files hold."""
    return build_model("llama", vocab_size=len(TOKENS), **changes)


def write_llama(path: Path, kind: str = "F32", *, model: Any = None, **changes: Any) -> Path:
    """Write a Llama with its tokenizer; matrices are stored as `kind`, norms as F32. `changes` replace its facts, `more` adds some."""
    model = tiny_llama() if model is None else model
    factors = changes.get("factors")
    writer = gguf.GGUFWriter(path, "llama")
    _write_facts(writer, model.config, changes)
    _write_tokenizer(writer)
    for name, tensor in model.state_dict().items():
        _write_tensor(writer, _name(name), _permuted(name, tensor.float().numpy(), model.config), kind)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", np.array(factors, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_other(path: Path, architecture: str, model: Any, facts: dict[str, Any]) -> Path:
    """Write a model of another architecture, in F32, with the names and these facts that llama.cpp has for it."""
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, model.config.num_hidden_layers)
    writer = gguf.GGUFWriter(path, architecture)
    _write_further(writer, architecture, facts)
    _write_tokenizer(writer)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight" or not model.config.tie_word_embeddings:
            _write_tensor(writer, names.get_name(name, (".weight", ".bias")), tensor.squeeze().numpy(), "F32")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_further(writer: gguf.GGUFWriter, architecture: str, facts: dict[str, Any]) -> None:
    kinds = {int: gguf.GGUFValueType.UINT32, float: gguf.GGUFValueType.FLOAT32, list: gguf.GGUFValueType.ARRAY}
    for key, value in facts.items():
        writer.add_key_value(f"{architecture}.{key}", value, kinds[type(value)])


def _write_facts(writer: gguf.GGUFWriter, config: Any, changes: dict[str, Any]) -> None:
    facts = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "rope.dimension_count": config.head_dim,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
    }
    writer.add_name("A tiny llama")
    writer.add_license("apache-2.0")
    for key, value in (facts | {key: value for key, value in changes.items() if key in facts}).items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.rope.freq_base", config.rope_parameters["rope_theta"])
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    _write_further(writer, "llama", changes.get("more", {}))
    if "rope_scaling" in changes:
        writer.add_string("llama.rope.scaling.type", changes["rope_scaling"])
    if "split_count" in changes:
        writer.add_uint16("split.count", changes["split_count"])


def _write_tokenizer(writer: gguf.GGUFWriter) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([1] * (len(ALPHABET) + 1) + [3] * 3)
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(TOKENS.index("<|endoftext|>"))
    writer.add_bos_token_id(TOKENS.index("<bos>"))
    writer.add_unk_token_id(TOKENS.index("<unk>"))
    writer.add_chat_template(TEMPLATE)


def _write_tensor(writer: gguf.GGUFWriter, name: str, values: np.ndarray[Any, Any], kind: str) -> None:
    stored = gguf.GGMLQuantizationType[kind if values.ndim > 1 else "F32"]
    writer.add_tensor(name, gguf.quants.quantize(values, stored), raw_dtype=stored)


def _name(name: str) -> str:
    stem, _, last = name.rpartition(".")
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.{last}"
    _, _, number, part = stem.split(".", 3)
    return f"blk.{number}.{PARTS[part]}.{last}"


def _permuted(name: str, values: np.ndarray[Any, Any], config: Any) -> np.ndarray[Any, Any]:
    """Order the rows of queries and keys as llama.cpp turns them: pairs side by side instead of half by half."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return values
    return values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)


def text(value: str | bytes, length: int | None = None) -> bytes:
    """Return a text as GGUF writes it, or with a false length."""
    content = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(content) if length is None else length) + content


def fact(key: str, kind: int, content: bytes) -> bytes:
    """Return a fact as GGUF writes it."""
    return text(key) + struct.pack("<I", kind) + content


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, start: int = 0) -> bytes:
    """Return an entry of the table of tensors."""
    return (
        text(name)
        + struct.pack("<I", len(shape))
        + struct.pack(f"<{len(shape)}Q", *shape)
        + struct.pack("<IQ", kind, start)
    )


ARCHITECTURE = fact("general.architecture", 8, text("llama"))
DEPTH = fact("llama.block_count", 4, struct.pack("<I", 1))


def raw(
    *parts: bytes, n_tensors: int = 0, n_facts: int = 0, version: int = 3, data: int = 0, magic: bytes = b"GGUF"
) -> bytes:
    """Return a file with these counts and parts, filled up to the alignment and followed by so many bytes of data."""
    head = magic + struct.pack("<IQQ", version, n_tensors, n_facts) + b"".join(parts)
    return head + bytes(-len(head) % 32) + bytes(data)
