"""Adapters that tests make with peft itself, and base models with an adapter merged by hand."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def base_model(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Return a base model as plain transformers opens it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def save_adapter(base: Path, folder: Path, *, seed: int = 0, **settings: Any) -> Path:
    """Train nothing, but give an adapter of rank 4 numbers that show, and save it as peft does."""
    from peft import LoraConfig, get_peft_model

    given: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": list(ALL), "task_type": "CAUSAL_LM"}
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(base_model(base), LoraConfig(**given | settings))
        for name, tensor in adapted.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                torch.nn.init.normal_(tensor, std=0.1) if "magnitude" not in name else tensor.data.mul_(1.1)
        adapted.save_pretrained(folder)
    return folder


def peft_model(base: Path, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Return base and adapter as plain peft opens them."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(base_model(base, dtype), str(folder)).eval()


def merged_by_hand(base: Path, folder: Path, layers: Iterable[int], scale: Callable[[int], float]) -> Any:
    """Return the base model with `scale(rank) * B @ A` added to the weights of some of its layers."""
    model, tensors = base_model(base), load_file(folder / "adapter_model.safetensors")
    wanted = tuple(f"base_model.model.model.layers.{layer}." for layer in layers)
    with torch.no_grad():
        for name in (name for name in tensors if name.startswith(wanted) and name.endswith("lora_A.weight")):
            first, second = tensors[name], tensors[name.replace("lora_A", "lora_B")]
            module = model.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
            module.weight += scale(len(first)) * second @ first
    return model


def edit_config(folder: Path, **changes: Any) -> Path:
    """Change entries of an `adapter_config.json`; `...` takes one out."""
    path = folder / "adapter_config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
    return folder


def logits(model: Any, length: int = 20) -> torch.Tensor:
    """Return the logits of some tokens `[1, length, vocab]`."""
    vocab = min(250, model.config.vocab_size)
    with torch.inference_mode():
        return model(torch.arange(length)[None] * 7 % vocab, use_cache=False).logits  # type: ignore[no-any-return]
