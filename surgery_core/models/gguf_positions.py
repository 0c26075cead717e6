"""Scaled rotary positions in GGUF files, which transformers drops: taken over where that can be proved, else refused.

Llama 3.1 and later scale slow frequencies more than fast ones. A GGUF file holds the factors themselves, as
`rope_freqs.weight`; a config of transformers holds the four numbers that they come from. Three of those are the same in
every release, the fourth is the largest factor, and whether they give the file's factors is computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from surgery_core.errors import ModelLoadError
from surgery_core.models.gguf_header import GgufHeader, GgufTensor

_FACTORS = "rope_freqs.weight"
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_SAME = 1e-4
"""Relative difference up to which factors are the same; neighbouring rules differ by more than a tenth."""


def require_known_positions(header: GgufHeader, name: str) -> None:
    """Refuse scaled positions of any other kind: transformers drops the scale, and the model would be another one.

    Raises:
        ModelLoadError: with the entry that says so.
    """
    scaling = header.text(f"{header.architecture}.rope.scaling.type")
    stored = [tensor.name for tensor in header.tensors if tensor.name.startswith("rope_")]
    if header.architecture == "llama" and (found := _factors_of(header)) is not None and found.kind == "F32":
        stored.remove(_FACTORS)
    dropped = stored[0] if stored else f"rope.scaling.type {scaling}" if scaling not in (None, "none") else None
    # of this one transformers reads the scale
    if dropped is not None and header.architecture not in ("gpt-oss", "gpt_oss"):
        raise _refusal(name, dropped)


def scale_positions(config: Any, header: GgufHeader, path: Path, name: str) -> None:
    """Have a config scale positions as the file does.

    Raises:
        ModelLoadError: where the file's factors are not those of Llama 3.
    """
    if (tensor := _factors_of(header)) is None:
        return
    factors = _read(path, header.data_start + tensor.start, tensor)
    theta = config.rope_parameters["rope_theta"]
    plain = 1.0 / theta ** (torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim)
    config.rope_parameters = {"rope_type": "llama3", "rope_theta": theta, "factor": float(factors.max()), **_LLAMA3}
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    if scaled.shape != factors.shape or not torch.allclose(scaled, plain / factors, rtol=_SAME, atol=0):
        raise _refusal(name, _FACTORS)


def _factors_of(header: GgufHeader) -> GgufTensor | None:
    return next((tensor for tensor in header.tensors if tensor.name == _FACTORS), None)


def _read(path: Path, start: int, tensor: GgufTensor) -> torch.Tensor:
    with path.open("rb") as file:
        file.seek(start)
        return torch.frombuffer(bytearray(file.read(tensor.n_bytes)), dtype=torch.float32)


def _refusal(name: str, dropped: str) -> ModelLoadError:
    return ModelLoadError(
        f"{name!r} scales its positions ({dropped}), which transformers drops when it opens GGUF, so it would not "
        "run as it was trained; choose its original checkpoint in safetensors."
    )
