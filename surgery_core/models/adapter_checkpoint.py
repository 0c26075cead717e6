"""An adapter's folder (PEFT), described from its config and headers: nothing here loads a weight, torch or peft.

An adapter was trained beside a model and is nothing without it. What its config may ask for is listed here; whatever
else one asks for would change what it computes, or what its base computes without it, and is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surgery_core.errors import ModelLoadError
from surgery_core.models.card import read_card
from surgery_core.models.checkpoint import INDEX, SINGLE, read_object, stored_in

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"
_TOKENIZER = "tokenizer.json"
_FIRST = re.compile(r"lora_(embedding_)?A")
"""In the names of the tensors whose smaller side is the rank."""
_ANY_RANK = 256
"""A rank up to which a config may state more than its weights have."""

BUILT_FROM = (
    "r", "lora_alpha", "target_modules", "exclude_modules", "lora_dropout", "fan_in_fan_out", "bias", "use_rslora",
    "modules_to_save", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "use_dora", "lora_bias",
    "ensure_weight_tying",
)  # fmt: skip
"""Entries of a config that say what the adapter is."""

_ASIDE = (
    "peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "peft_version",
    "init_lora_weights", "megatron_core", "qalora_group_size", "loftq_config", "eva_config", "corda_config",
    "lora_ga_config", "runtime_config",
)  # fmt: skip
"""Entries that say nothing about what a trained adapter computes, or are looked at one by one."""

_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways to begin a training that leave the base as it is; PiSSA, OLoRA, LoftQ and their kin change its weights."""


@dataclass(frozen=True)
class AdapterCheckpoint:
    """What an adapter's folder holds.

    Attributes:
        folder: where it lies.
        config: the content of `adapter_config.json`.
        n_parameters: numbers in its weights.
        keys: names of its tensors.
        ranks: of its pairs of matrices, each once, in order.
        title: the first heading of its README, or the folder's name.
        licence: the licence that the README's header names, or None.
    """

    folder: Path
    config: Mapping[str, Any]
    n_parameters: int
    keys: frozenset[str]
    ranks: tuple[int, ...]
    title: str
    licence: str | None

    @property
    def base(self) -> str:
        """Return what it calls the model that it was trained on; empty where it says nothing."""
        return str(self.config.get("base_model_name_or_path") or "").strip()

    @property
    def base_revision(self) -> str | None:
        """Return the revision of that model that it names, or None."""
        found = self.config.get("revision")
        return found if isinstance(found, str) else None

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer lies beside it, which was trained with then."""
        return (self.folder / _TOKENIZER).is_file()


def is_adapter(files: Iterable[str]) -> bool:
    """Whether files are those of an adapter, and not of a whole model."""
    names = set(files)
    return CONFIG in names and not {SINGLE, INDEX} & names


def is_adapter_folder(path: Path) -> bool:
    """Whether an adapter lies in a folder; OSError where that cannot be read."""
    return (path / CONFIG).is_file() and is_adapter(file.name for file in path.iterdir())


def read_adapter(folder: Path, name: str) -> AdapterCheckpoint:
    """Describe the adapter in `folder`; `name` is what the person called it, for messages.

    Raises:
        ModelLoadError: pickles only, a damaged file, or an adapter of a kind that is not opened.
        OSError: when it cannot be read.
    """
    config = read_adapter_config(folder, name)
    require_weights((path.name for path in folder.iterdir()), name)
    found = stored_in(folder / WEIGHTS, name)
    trained = sorted(key for key in found.shapes if key.endswith(".bias") and "lora_" not in key)
    if config.get("bias") not in (None, "none") and trained:
        raise ModelLoadError(
            f"{name!r} has trained biases of its base model ({trained[0]}), which could not be switched off with it; "
            'merge it with merge_and_unload and open that, or train one with bias="none".'
        )
    ranks = tuple(sorted({min(shape) for key, shape in found.shapes.items() if _FIRST.search(key) and shape}))
    _require_ranks(config, ranks, name)
    title, licence = read_card(folder)
    unnamed = title == "Model Card for Model ID"  # of the card that peft writes
    named = folder.name if unnamed else title
    return AdapterCheckpoint(folder, config, found.n_numbers, frozenset(found.shapes), ranks, named, licence)


def read_adapter_config(folder: Path, name: str) -> dict[str, Any]:
    """Read an `adapter_config.json`, and refuse one that asks for what cannot be kept apart from its base.

    Raises:
        ModelLoadError: naming the kind of adapter, or the entry.
    """
    config = read_object(folder / CONFIG, name)
    kind, task, start = (config.get(key) for key in ("peft_type", "task_type", "init_lora_weights"))
    if kind != "LORA":
        raise _refusal(name, f"of the kind {kind or 'unknown'}; LoRA adapters can be opened")
    if task not in (None, "CAUSAL_LM"):
        raise _refusal(name, f"for the task {task}; adapters of causal language models can be opened")
    if start not in _PLAIN_STARTS:
        raise _refusal(
            name, f"whose training began with {start}, which changes its base model; convert it to plain LoRA"
        )
    for key in sorted(config.keys() - {*BUILT_FROM, *_ASIDE}):
        if config[key]:
            raise _refusal(name, f"with {key}, which is not supported; merge it with merge_and_unload and open that")
    return config


def require_weights(files: Iterable[str], name: str) -> None:
    """Refuse an adapter without safetensors weights.

    Raises:
        ModelLoadError: saying so where there are pickles.
    """
    names = set(files)
    if WEIGHTS in names:
        return
    if _PICKLE in names:
        raise ModelLoadError(
            f"{name!r} has only pickled weights ({_PICKLE}), which can run code when they are opened; save it again with "
            "peft's save_pretrained, which writes safetensors."
        )
    raise ModelLoadError(f"{name!r} has no {WEIGHTS}; save the adapter with peft's save_pretrained, which writes it.")


def _require_ranks(config: Mapping[str, Any], ranks: tuple[int, ...], name: str) -> None:
    """Refuse a config whose ranks are far beyond those of the weights: they are what memory is taken for."""
    pattern = config.get("rank_pattern") or {}
    stated = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]
    if not all(type(one) is int and 0 < one <= max(_ANY_RANK, *ranks, 0) for one in stated):
        raise ModelLoadError(
            f"{name!r} states ranks that its weights do not have ({', '.join(map(str, stated[:4]))}; found: "
            f"{', '.join(map(str, ranks[:4])) or 'none'}); copy or download the adapter again."
        )


def _refusal(name: str, what: str) -> ModelLoadError:
    return ModelLoadError(f"{name!r} is an adapter {what}.")
