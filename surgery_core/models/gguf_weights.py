"""What of a GGUF file is read by transformers: the config, the tokenizer, and the weights as plain numbers.

Nothing that lies beside the file is looked at, since it may belong to another model. What transformers would leave out
without a word is refused where it changes results.
"""

from __future__ import annotations

import importlib.util
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from surgery_core.errors import ModelLoadError
from surgery_core.models.checkpoint import require_causal
from surgery_core.models.gguf_checkpoint import FLOATS
from surgery_core.models.gguf_header import GgufHeader
from surgery_core.models.gguf_positions import require_known_positions, scale_positions

_SPARE = 1.02
"""Some classes have a few parameters that are not stored."""


def require_gguf_support(header: GgufHeader, name: str) -> None:
    """Refuse a file that transformers does not read, or would read as another model than it is.

    Raises:
        ModelLoadError: a package that is missing, an architecture that is not supported, positions that are scaled in
            a way that would be dropped, no tokenizer.
    """
    missing = [package for package in ("gguf", "accelerate") if importlib.util.find_spec(package) is None]
    if missing:
        raise ModelLoadError(
            f"Opening the GGUF file {name!r} needs {' and '.join(missing)}, which is not installed; "
            "run pip install -r requirements.txt."
        )
    known = _architectures()
    if _plain(header.architecture) not in {_plain(one) for one in known}:
        raise ModelLoadError(
            f"{name!r} is a GGUF file of the architecture {header.architecture!r}, which transformers cannot open from "
            f"GGUF; choose its original checkpoint in safetensors, or one of {', '.join(sorted(known))}."
        )
    if "tokenizer.ggml.tokens" not in header.lengths:
        raise ModelLoadError(f"{name!r} is a GGUF file without a tokenizer; choose one with tokenizer.ggml.tokens.")
    require_known_positions(header, name)


def read_gguf_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer that transformers makes of a GGUF file, with its chat template.

    `AutoTokenizer` makes the same one, after having read the file twice more to choose a class.
    """
    from transformers.integrations.gguf import convert_gguf_tokenizer, get_gguf_tokenizer

    architecture, parts, settings = get_gguf_tokenizer(str(path))
    backend, _ = convert_gguf_tokenizer(architecture, parts)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)


def read_gguf_weights(path: Path, header: GgufHeader, name: str, dtype: torch.dtype, **placement: Any) -> Any:
    """Return the model with plain weights, and transformers' report.

    Raises:
        ModelLoadError: no causal language model, or a config that describes a larger model than the tensors fill.
        Exception: whatever `from_pretrained` raises.
    """
    with _alone(path) as place, _thrifty():
        config: Any = AutoConfig.from_pretrained(**place)
        require_causal(config.to_dict(), name)
        scale_positions(config, header, path, name)
        _require_filled(header, config, name)
        config._attn_implementation = None
        return AutoModelForCausalLM.from_pretrained(
            **place,
            config=config,
            dtype=dtype,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
            **placement,
        )


def gguf_notes(header: GgufHeader, model: torch.nn.Module) -> tuple[str, ...]:
    """Return what the user of a model from a GGUF file should know."""
    used = sum(parameter.numel() for parameter in model.parameters())
    used += sum(prod(tensor.shape) for tensor in header.tensors if tensor.name.startswith("rope_"))
    notes = [f"Its weights are stored as {header.kind} and were unpacked."] if header.kind not in FLOATS else []
    if header.n_parameters > used:
        notes.append(f"{header.n_parameters - used:,} of the numbers in the file are not used.")
    return tuple(notes)


def _require_filled(header: GgufHeader, config: PreTrainedConfig, name: str) -> None:
    """Refuse a model that is larger than the file before it takes memory."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    needed = sum(parameter.numel() for parameter in model.parameters())
    if needed > header.n_parameters * _SPARE:
        raise ModelLoadError(
            f"{name!r} describes a model of {needed:,} parameters and holds {header.n_parameters:,}; "
            "copy or download the file again."
        )


def _architectures() -> set[str]:
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    return {*GGUF_SUPPORTED_ARCHITECTURES, *GGUF_CONFIG_ARCHS} - {"general", "tokenizer"}


def _plain(architecture: str) -> str:
    """Return an architecture's name without the signs that llama.cpp and transformers set differently."""
    return architecture.replace("-", "").replace("_", "")


@contextmanager
def _alone(path: Path) -> Iterator[dict[str, Any]]:
    """Give the arguments that name a GGUF file to transformers, as if it lay in an empty folder."""
    with tempfile.TemporaryDirectory(prefix="model-surgery-") as empty:
        yield {
            "pretrained_model_name_or_path": empty,
            "gguf_file": str(path.absolute()),
            "local_files_only": True,
            "trust_remote_code": False,
        }


_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def _thrifty() -> Iterator[None]:
    """Have transformers do once, while one file is opened, what it does again and again, and draw no bar.

    It parses the file for the config and for the weights, and makes the same table of names for every module: more than
    half of the time that SmolLM2 takes. One file at a time: two that are opened side by side would put back each other's.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as reading

    with _ONE_AT_A_TIME, ExitStack() as undo:
        for owner, name, instead in (
            (gguf, "GGUFReader", cache(gguf.GGUFReader)),
            (gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)),
            (reading, "tqdm", partial(reading.tqdm, disable=True)),
        ):
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, instead)
        yield
