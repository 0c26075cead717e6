"""A checkpoint folder, described from its headers: nothing here loads a weight or imports torch.

A folder is fit when its `config.json` names a causal language model that transformers runs with its own code, its
weights are whole safetensors files, and a tokenizer lies beside them. Anything else is a `ModelLoadError` that says
what was found and what to do.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from surgery_core.bounded import read_json
from surgery_core.errors import ModelLoadError
from surgery_core.models.card import read_card
from surgery_core.models.gguf_header import GgufHeader
from surgery_core.surgery.names import DEPTH_KEYS

Config = Mapping[str, Any]

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_MAX_HEADER_BYTES = 100_000_000
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer_config.json")
_BIDIRECTIONAL = ("xlnet",)
"""Families in the causal list whose tokens see later ones, so that a perplexity would mean nothing."""
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds.

    Attributes:
        folder: where it lies.
        config: the content of `config.json`.
        weights: its safetensors files.
        n_parameters: numbers in those files; a tied embedding counts once.
        dtype: the floating point type of most of them, as torch names it: `"bfloat16"`.
        title: the first heading of its README, or the folder's name.
        licence: the licence that the README's header names, or None.
        gguf: the header, where this is a GGUF file.
    """

    folder: Path
    config: Config
    weights: tuple[Path, ...]
    n_parameters: int
    dtype: str
    title: str
    licence: str | None
    gguf: GgufHeader | None = None

    @property
    def n_layers(self) -> int | None:
        """Return the depth that the config states, or None where it has no such entry."""
        return depth(self.config)

    @property
    def file_bytes(self) -> int:
        """Return the bytes of all weight files."""
        return sum(path.stat().st_size for path in self.weights)


def read_checkpoint(folder: Path, name: str) -> Checkpoint:
    """Describe the checkpoint in `folder`; `name` is what the person called it, for messages.

    Raises:
        ModelLoadError: no folder, no config, pickles only, no tokenizer, or a file that is damaged.
    """
    if not folder.is_dir():
        raise ModelLoadError(f"There is no folder {name!r}; check the path, or choose a model from the list.")
    config = read_config(folder / "config.json", name)
    weights = _weights(folder, name)
    require_tokenizer((path.name for path in folder.iterdir()), name)
    sizes = Counter[str]()
    for path in weights:
        sizes.update(stored_in(path, name).sizes)
    title, licence = read_card(folder)
    return Checkpoint(folder, config, weights, sum(sizes.values()), _main_dtype(sizes), title, licence)


def read_config(path: Path, name: str) -> Config:
    """Read a `config.json`.

    Raises:
        ModelLoadError: when it is missing or is not a JSON object.
    """
    if not path.is_file():
        raise ModelLoadError(
            f"{name!r} has no config.json, so it is not a transformers checkpoint; save the model there first."
        )
    return read_object(path, name)


def require_causal(config: Config, name: str) -> None:
    """Refuse a config that transformers' own code does not run as a causal language model.

    Raises:
        ModelLoadError: remote code, unknown architecture, encoder, encoder-decoder, quantised weights.
    """
    from transformers import CONFIG_MAPPING as KNOWN

    kind = str(config.get("model_type"))
    if kind not in KNOWN and "auto_map" in config:
        raise ModelLoadError(
            f"{name!r} needs Python code from its repository, which Model Surgery never runs; "
            "choose a model that transformers supports itself."
        )
    if kind not in KNOWN:
        raise ModelLoadError(
            f"{name!r} is of the type {kind!r}, which the installed transformers does not know; choose another model."
        )
    if config.get("quantization_config"):
        raise ModelLoadError(
            f"The weights of {name!r} are quantised, which layer surgery does not support; "
            "choose the original checkpoint in bfloat16, float16 or float32."
        )
    if not _is_causal(config):
        raise ModelLoadError(
            f"{name!r} holds {_architecture(config)}{_family(config)}, not a causal language model; "
            "choose one that predicts the next token, such as a ...ForCausalLM."
        )


def require_tokenizer(files: Iterable[str], name: str) -> None:
    """Refuse a checkpoint without tokenizer files.

    Raises:
        ModelLoadError: when none of the known tokenizer files is among `files`.
    """
    if not set(_TOKENIZERS) & set(files):
        raise ModelLoadError(
            f"{name!r} has no tokenizer; put its tokenizer.json and tokenizer_config.json beside config.json."
        )


def choose_weights(files: Iterable[str], name: str) -> str:
    """Return which file to read weights from: the single file, or the index of a split checkpoint.

    Raises:
        ModelLoadError: when there is neither; says so when there are pickles or an adapter.
    """
    names = set(files)
    if SINGLE in names or INDEX in names:
        return SINGLE if SINGLE in names else INDEX
    if any(file.endswith(_PICKLES) for file in names):
        raise ModelLoadError(
            f"{name!r} has only pickled weights (.bin or .pt), which can run code when they are opened; "
            "convert it to safetensors with save_pretrained, or choose a copy that has them."
        )
    raise ModelLoadError(f"{name!r} has no {SINGLE}; save the model with save_pretrained, which writes it.")


def index_files(path: Path, name: str) -> tuple[str, ...]:
    """Return the weight files that a `model.safetensors.index.json` names, in order.

    Raises:
        ModelLoadError: when the index is damaged or names a file outside its folder.
    """
    weight_map = read_object(path, name).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise _damaged(path, name, "it has no weight_map")
    files = sorted({str(file) for file in weight_map.values()})
    for file in files:
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise _damaged(path, name, f"it names {file!r}, which is not a safetensors file beside it")
    return tuple(files)


def depth(config: Config) -> int | None:
    """Return the number of layers that a config states, looking into a multimodal one's text part too."""
    inner = config.get("text_config")
    for source in (config, inner if isinstance(inner, dict) else {}):
        for key in DEPTH_KEYS:
            if isinstance(source.get(key), int):
                return int(source[key])
    return None


def _weights(folder: Path, name: str) -> tuple[Path, ...]:
    first = choose_weights((path.name for path in folder.iterdir()), name)
    if first == SINGLE:
        return (folder / SINGLE,)
    files = tuple(folder / file for file in index_files(folder / INDEX, name))
    for path in files:
        if not path.is_file():
            raise ModelLoadError(f"{name!r} is incomplete: {path.name} is missing; copy or download the model again.")
    return files


def read_object(path: Path, name: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelLoadError: when the file holds something else, or cannot be read.
    """
    try:
        content = read_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, name, "it is not valid JSON") from error
    if not isinstance(content, dict):
        raise _damaged(path, name, "it is not a JSON object")
    return content


@dataclass(frozen=True)
class Stored:
    """What a safetensors file says that it holds.

    Attributes:
        shapes: of its tensors, by name.
        sizes: how many numbers of each safetensors type.
    """

    shapes: Mapping[str, tuple[int, ...]]
    sizes: Counter[str]

    @property
    def n_numbers(self) -> int:
        """Return how many numbers it holds."""
        return sum(self.sizes.values())


def stored_in(path: Path, name: str) -> Stored:
    """Return what a safetensors file holds, after checking that the file is whole.

    Raises:
        ModelLoadError: when it is damaged.
        OSError: when it cannot be read.
    """
    sizes, shapes = Counter[str](), dict[str, tuple[int, ...]]()
    with path.open("rb") as file:
        header, start = _read_header(file, path, name)
    end = 0
    try:
        for key, tensor in header.items():
            if key != "__metadata__":
                shapes[key] = tuple(tensor["shape"])
                sizes[tensor["dtype"]] += math.prod(tensor["shape"])
                end = max(end, tensor["data_offsets"][1])
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise _damaged(path, name, "its header is not readable") from error
    if path.stat().st_size != start + end:
        raise _damaged(path, name, f"it has {path.stat().st_size:,} bytes where its header promises {start + end:,}")
    return Stored(shapes, sizes)


def _read_header(file: BinaryIO, path: Path, name: str) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file and the offset of its first tensor."""
    length = file.read(8)
    size = struct.unpack("<Q", length)[0] if len(length) == 8 else 0
    if not 0 < size <= _MAX_HEADER_BYTES:
        raise _damaged(path, name, "it is not a safetensors file")
    try:
        header = read_json(file.read(size))
    except ValueError as error:
        raise _damaged(path, name, "its header is not readable") from error
    if not isinstance(header, dict):
        raise _damaged(path, name, "its header is not readable")
    return header, 8 + size


def _damaged(path: Path, name: str, why: str) -> ModelLoadError:
    return ModelLoadError(f"{path.name} of {name!r} is damaged ({why}); copy or download the model again.")


def _main_dtype(sizes: Counter[str]) -> str:
    floating = Counter({_DTYPES[key]: count for key, count in sizes.items() if key in _DTYPES})
    return floating.most_common(1)[0][0] if floating else "float32"


def _architecture(config: Config) -> str:
    named = config.get("architectures")
    if isinstance(named, list) and named:
        return str(named[0])
    return str(config.get("model_type") or "model of unknown type")


def _is_causal(config: Config) -> bool:
    """Tell a decoder from an encoder of the same family: BERT-like configs are decoders only when they say so."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    kind, found = str(config.get("model_type")), _architecture(config)
    if kind not in CAUSAL or kind in _BIDIRECTIONAL or config.get("is_encoder_decoder"):
        return False
    named = found in (kind, CAUSAL[kind]) or found.endswith(("ForCausalLM", "LMHeadModel"))
    return named and (not _has_encoders(config) or bool(config.get("is_decoder")))


def _has_encoders(config: Config) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    return config.get("model_type") in MASKED


def _family(config: Config) -> str:
    if config.get("is_encoder_decoder"):
        return " (an encoder-decoder)"
    return " (an encoder)" if _has_encoders(config) else ""
