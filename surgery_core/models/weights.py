"""Reading weights and tokenizer with transformers, and refusing what it would let pass silently.

transformers fills weights that a checkpoint lacks with random numbers, and drops those that the model has no place
for. Both would make every result about some other model, so both are refused here.
"""

from __future__ import annotations

import atexit
import importlib.util
import logging
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from surgery_core.errors import ModelLoadError
from surgery_core.loading import ONE_AT_A_TIME
from surgery_core.models.adapter_checkpoint import CONFIG as ADAPTER_CONFIG
from surgery_core.models.checkpoint import Checkpoint
from surgery_core.models.gguf_weights import (
    gguf_notes,
    read_gguf_tokenizer,
    read_gguf_weights,
)
from surgery_core.text import ROWS

LOAD_FAILURES = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    ImportError,
    AssertionError,
    MemoryError,
    RecursionError,
    SafetensorError,
    StrictDataclassError,
)
"""What transformers is known to raise for checkpoints that do not fit together."""

_HARMLESS = re.compile(r"(rotary_emb\.inv_freq|attn\.(masked_)?bias|attention\.(masked_)?bias|position_ids)$")
"""Buffers that older versions saved and newer ones compute."""

_FORMAT_KEYS = ("dtype", "torch_dtype")

_IN_A_LAYER = re.compile(r"(?:^|\.)(?:h|layers?|blocks?)\.\d+\.")


def load_tokenizer(checkpoint: Checkpoint, name: str, beside: Path | None = None) -> PreTrainedTokenizerBase:
    """Open the tokenizer of a checkpoint, or the one that lies in the folder `beside` for the same model.

    Raises:
        ModelLoadError: when its files are damaged or need code from the repository.
    """
    try:
        with quiet():
            tokenizer = _read_tokenizer(checkpoint, name, beside)
            ids = tokenizer("Once upon a time").input_ids
    except LOAD_FAILURES as error:
        raise _needs_package(beside or checkpoint.folder, name) or _unreadable(name, error) from error
    if not tokenizer.is_fast:
        raise ModelLoadError(
            f"The tokenizer of {name!r} is of the slow kind, which cannot say where a token lies in a text; "
            "save it once as tokenizer.json and put that in its folder."
        )
    if not ids:
        raise ModelLoadError(
            f"The tokenizer of {name!r} turns words into nothing; "
            "put the tokenizer.json that belongs to the model in its folder."
        )
    return tokenizer


def _read_tokenizer(checkpoint: Checkpoint, name: str, beside: Path | None) -> PreTrainedTokenizerBase:
    if checkpoint.gguf is not None and beside is None:
        return read_gguf_tokenizer(checkpoint.weights[0])
    folder, is_packed = beside or checkpoint.folder, checkpoint.gguf is not None
    _require_readable(folder / "tokenizer.json", name)
    needed = (beside is not None and not is_packed) or _has_odd_format(checkpoint.config)
    given = {"config": _read_config(checkpoint)} if needed else {}
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **given)


def _require_readable(path: Path, name: str) -> None:
    """Refuse a damaged `tokenizer.json`, for which the tokenizers library raises a bare `Exception`."""
    try:
        if path.is_file():
            Tokenizer.from_file(str(path))
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise _unreadable(name, error) from error


def _needs_package(folder: Path, name: str) -> ModelLoadError | None:
    """Return the refusal of a tokenizer that stands in a file which another package reads, where that is missing."""
    needed = [("sentencepiece", "tokenizer.model"), ("protobuf", "tokenizer.model"), ("tiktoken", "tiktoken.model")]
    modules = {"protobuf": "google.protobuf"}
    for package, file in needed if not (folder / "tokenizer.json").is_file() else ():
        if (folder / file).is_file() and not _installed(modules.get(package, package)):
            return ModelLoadError(
                f"The tokenizer of {name!r} is in {file}, which could not be read; run pip install {package}, "
                "or put its tokenizer.json beside it."
            )
    return None


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it would be in
        return False


def _unreadable(name: str, error: BaseException) -> ModelLoadError:
    return ModelLoadError(
        f"The tokenizer of {name!r} cannot be opened ({first_line(error)}); "
        "put a tokenizer.json that fits the model in its folder."
    )


def load_weights(
    checkpoint: Checkpoint, name: str, tokenizer: PreTrainedTokenizerBase, dtype: str, *, spread: bool = False
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Open the model of a checkpoint on the CPU, in eval mode and without gradients.

    With `spread`, accelerate places its layers over all GPUs, main memory and, for the rest, a folder on disk.

    Returns:
        The model, and sentences about what its user should know.

    Raises:
        ModelLoadError: when the weights do not fit the config, or the tokenizer does not fit the weights.
    """
    if spread and importlib.util.find_spec("accelerate") is None:
        raise ModelLoadError(
            f"Spreading {name!r} over several devices needs accelerate, which is not installed; "
            "run pip install -r requirements.txt."
        )
    try:
        with ONE_AT_A_TIME, quiet():
            model, report = _from_pretrained(checkpoint, name, getattr(torch, dtype), spread)
    except LOAD_FAILURES as error:
        raise ModelLoadError(
            f"{name!r} cannot be opened ({first_line(error)}); copy or download the model again, or choose another."
        ) from error
    _require_whole(report, name)
    notes = _fit_vocabulary(model, tokenizer, name) + _notes(report) + _unused_adapter(checkpoint)
    model.eval().requires_grad_(False)
    return model, notes + (gguf_notes(checkpoint.gguf, model) if checkpoint.gguf is not None else ())


def _from_pretrained(
    checkpoint: Checkpoint, name: str, dtype: torch.dtype, spread: bool
) -> tuple[PreTrainedModel, dict[str, Collection[Any]]]:
    placement = {"device_map": "auto", "offload_folder": _offload_folder()} if spread else {}
    if checkpoint.gguf is not None:
        return read_gguf_weights(checkpoint.weights[0], checkpoint.gguf, name, dtype, **placement)  # type: ignore[no-any-return]
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        checkpoint.folder,
        config=_read_config(checkpoint),
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        # an adapter that lies beside a whole model would be put on it; looked for elsewhere, there is none
        adapter_kwargs={"subfolder": "nowhere"},
        **placement,
    )
    model, report = loaded
    return model, report


def _offload_folder() -> str:
    """Return a folder for weights that fit nowhere else; it goes when the process ends."""
    folder = tempfile.mkdtemp(prefix="model-surgery-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _read_config(checkpoint: Checkpoint) -> Any:
    """Read the config, with the attention that transformers prefers for the class.

    That is torch's scaled dot product where the class has it, else the eager one: both compute the same function on
    every device. A config may also name a kernel to download, which would be code from elsewhere.
    """
    config: Any
    if _has_odd_format(checkpoint.config):
        plain = {key: value for key, value in checkpoint.config.items() if key not in _FORMAT_KEYS}
        config = CONFIG_MAPPING[str(plain["model_type"])].from_dict(plain)
    else:
        config = AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)
    config._attn_implementation = None
    return config


def _has_odd_format(config: Mapping[str, Any]) -> bool:
    """Whether a config states a number format as transformers cannot read it: "auto", "torch.float16"."""
    return any(isinstance(config.get(key), str) and not hasattr(torch, config[key]) for key in _FORMAT_KEYS)


def _require_whole(report: Mapping[str, Collection[Any]], name: str) -> None:
    """Refuse a checkpoint whose weights do not cover the model exactly."""
    problems = (
        (sorted(report["missing_keys"]), "has no weights for"),
        (sorted(str(key[0]) for key in report["mismatched_keys"]), "has weights of the wrong shape for"),
        (sorted(filter(_IN_A_LAYER.search, _unexpected(report))), "has weights for more than its config describes:"),
    )
    for keys, problem in problems:
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise ModelLoadError(
                f"{name!r} {problem} {keys[0]}{more}, so it would not run as it was trained; "
                "copy or download the model again, with the config.json that belongs to it."
            )


def _unexpected(report: Mapping[str, Collection[Any]]) -> list[str]:
    return [key for key in report["unexpected_keys"] if not _HARMLESS.search(key)]


def _notes(report: Mapping[str, Collection[Any]]) -> tuple[str, ...]:
    unused = sorted(_unexpected(report))
    return (f"{len(unused)} weights of the checkpoint are not used, such as {unused[0]}.",) if unused else ()


def _unused_adapter(checkpoint: Checkpoint) -> tuple[str, ...]:
    beside = checkpoint.gguf is None and (checkpoint.folder / ADAPTER_CONFIG).is_file()
    return ("The adapter that lies beside its weights is not used.",) if beside else ()


def _fit_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> tuple[str, ...]:
    """Refuse a tokenizer of another model; tokens that were only added to it are refused in texts, and are noted.

    Raises:
        ModelLoadError: when words have no row in the embedding.
    """
    rows = cast("torch.Tensor", model.get_input_embeddings().weight).shape[0]
    added = tokenizer.get_added_vocab()
    beyond = {token: index for token, index in tokenizer.get_vocab().items() if index >= rows}
    always = [index for index in tokenizer("Once upon a time").input_ids if index >= rows]
    if always or beyond.keys() - added.keys():
        raise ModelLoadError(
            f"The tokenizer of {name!r} has {len(tokenizer):,} tokens and its model only {rows:,}; "
            "put the tokenizer that belongs to the model in its folder."
        )
    setattr(tokenizer, ROWS, rows)
    if not beyond:
        return ()
    return (f"The model has no row for {_some(beyond)}, so texts with it are refused.",)


def _some(tokens: Mapping[str, int]) -> str:
    first = min(tokens, key=tokens.__getitem__)
    more = f" and {len(tokens) - 1} more" if len(tokens) > 1 else ""
    return f"the added token {first} ({tokens[first]}){more}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from writing bars and reports to the terminal; what matters becomes an error."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, at most 120 characters; its class where it says nothing."""
    text = str(error).strip()
    line = text.splitlines()[0] if text else ""
    return (line[:117] + "...") if len(line) > 120 else line or type(error).__name__
