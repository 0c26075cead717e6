"""Opening models: which ones are offered, and one of them ready to run, with its facts.

A name is looked up in this order: a model that is offered (a folder in `models/`, or in the folders that the
environment variable `MODEL_SURGERY_MODELS` lists), a path on this machine, a hub id `org/name`.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from surgery_core.errors import ModelLoadError
from surgery_core.models.checkpoint import ITEM_BYTES, Checkpoint, Config, depth, read_checkpoint, require_causal
from surgery_core.models.devices import SPREAD, choose_device, choose_dtype, require_memory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Kind = Literal["bundled", "folder", "hub"]

DEFAULT_MODEL = "fable"
FOLDERS_VARIABLE = "MODEL_SURGERY_MODELS"
BUNDLED_FOLDER = Path(__file__).resolve().parents[2] / "models"
_LOADING = threading.Lock()
_WHOLE_HASH_BYTES = 100_000_000


@dataclass(frozen=True)
class ModelChoice:
    """A model that can be opened by name without a network.

    Attributes:
        name: what `load_model` takes.
        title: what a picker shows.
        kind: `"bundled"` (in `models/`) or `"folder"` (in a folder of `MODEL_SURGERY_MODELS`).
        path: the checkpoint's folder.
        n_layers: depth, or None where the checkpoint cannot be read; opening it then says why.
        n_parameters: numbers in the checkpoint, or None likewise.
    """

    name: str
    title: str
    kind: Kind
    path: Path
    n_layers: int | None
    n_parameters: int | None


@dataclass(frozen=True)
class ModelInfo:
    """The facts of a loaded model.

    Attributes:
        name: the name that it was loaded by.
        title: what a page calls it.
        kind: where it came from: `"bundled"`, `"folder"` or `"hub"`.
        source: the folder's path or the hub id.
        revision: the commit on the hub, or a digest of the folder's files.
        architecture: the model's class.
        n_layers: number of decoder layers.
        d_model: width of the residual stream.
        vocab_size: rows of the output embedding.
        context_length: most tokens that the model reads at once, or None where it states no limit.
        n_parameters: number of parameters; a tied embedding counts once.
        bytes: memory that the parameters and buffers take.
        dtype: number format of most parameters, such as `"float32"`.
        device: where it runs, such as `"cpu"` or `"cuda:0"`.
        licence: the licence that its card names, or None.
        notes: sentences about the checkpoint that its user should know.
    """

    name: str
    title: str
    kind: Kind
    source: str
    revision: str
    architecture: str
    n_layers: int
    d_model: int
    vocab_size: int
    context_length: int | None
    n_parameters: int
    bytes: int
    dtype: str
    device: str
    licence: str | None
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return what a cache must key on: name, revision, dtype and device."""
        return self.name, self.revision, self.dtype, self.device


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run: in eval mode, without gradients, never changed by this package."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    info: ModelInfo


@dataclass(frozen=True)
class _Place:
    """Where a name leads: a checkpoint's folder on this machine."""

    kind: Kind
    folder: Path
    source: str
    revision: str


def list_models(folder: str | Path | None = None) -> tuple[ModelChoice, ...]:
    """Return the models that lie ready, the default one first, then by name.

    Args:
        folder: only look in this folder; by default in `models/` and the folders of `MODEL_SURGERY_MODELS`.
    """
    if folder is not None:
        places: dict[str, tuple[Path, Kind]] = {path.name: (path, "folder") for path in _checkpoints(Path(folder))}
    else:
        places = _offered()
    order = sorted(places, key=lambda name: (name != DEFAULT_MODEL, name.lower()))
    return tuple(_choice(name, *places[name]) for name in order)


def load_model(
    name: str = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    check_memory: bool = True,
    allow_paths: bool = True,
) -> LoadedModel:
    """Open a model by name.

    Args:
        name: a model of `list_models`, a folder's path, or a hub id `org/name`.
        device: `"auto"` (CUDA, then MPS, then CPU), `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`; or `"spread"` for a model
            larger than one device: over all GPUs, main memory and disk, with accelerate.
        dtype: `"auto"` (the checkpoint's on a GPU, float32 on a CPU), `"float32"`, `"bfloat16"`, `"float16"`.
        revision: a branch, tag or commit of a hub model; None for its main branch.
        check_memory: refuse a model that is larger than the free memory before reading its weights.
        allow_paths: whether `name` may be a path; a page that takes names from visitors passes False.

    Raises:
        ModelLoadError: one sentence that says what is wrong with the model and what to do.
        SettingsError: for a device or dtype that this machine does not have.
    """
    spread = device == SPREAD
    target = choose_device("auto" if spread else device)
    check_memory = check_memory and not spread
    check = partial(_check_remote, name, target, dtype, check_memory)
    try:
        place = _locate(name.strip(), revision, allow_paths, check)
        checkpoint = read_checkpoint(place.folder, name)
    except OSError as error:
        reason = error.strerror or error
        raise ModelLoadError(f"{name!r} cannot be read ({reason}); check its files and who may read them.") from error
    require_causal(checkpoint.config, name)
    number_format = choose_dtype(dtype, target, checkpoint.dtype)
    if check_memory:
        require_memory(name, checkpoint.n_parameters, number_format, target)
    return _open(name, place, checkpoint, None if spread else target, number_format)


def _open(name: str, place: _Place, checkpoint: Checkpoint, device: torch.device | None, dtype: str) -> LoadedModel:
    """Open a checkpoint on one device, or spread over all of them when `device` is None."""
    from surgery_core.models.weights import load_tokenizer, load_weights

    with _LOADING:
        tokenizer = load_tokenizer(checkpoint.folder, name)
        model, notes = load_weights(checkpoint.folder, name, tokenizer, dtype, spread=device is None)
    if device is not None:
        model.to(device)  # type: ignore[arg-type]
    return LoadedModel(model, tokenizer, _info(name, place, checkpoint, model, notes))


def _info(
    name: str, place: _Place, checkpoint: Checkpoint, model: PreTrainedModel, notes: tuple[str, ...]
) -> ModelInfo:
    from surgery_core.surgery.anatomy import inspect_model

    anatomy = inspect_model(model)
    parameters = list(model.parameters())
    return ModelInfo(
        name=name,
        title=checkpoint.title if place.kind != "hub" else name,
        kind=place.kind,
        source=place.source,
        revision=place.revision,
        architecture=type(model).__name__,
        n_layers=anatomy.n_layers,
        d_model=anatomy.d_model,
        vocab_size=model.get_output_embeddings().weight.shape[0],
        context_length=anatomy.context_length,
        n_parameters=sum(parameter.numel() for parameter in parameters),
        bytes=sum(tensor.nbytes for tensor in (*parameters, *model.buffers())),
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        licence=checkpoint.licence,
        notes=notes,
    )


def _locate(name: str, revision: str | None, allow_paths: bool, check: partial[None]) -> _Place:
    from surgery_core.models.hub import fetch, is_hub_id

    offered = _offered()
    if name in offered:
        folder, kind = offered[name]
        return _Place(kind, folder, _short(folder), _digest(folder))
    if allow_paths and (path := _folder(name)) is not None:
        return _Place("folder", path, str(path), _digest(path))
    if is_hub_id(name):
        snapshot = fetch(name, revision, check)
        return _Place("hub", snapshot.folder, name, snapshot.revision)
    raise _unknown(name, allow_paths, offered)


def _folder(name: str) -> Path | None:
    """Return the folder that a typed path leads to, or None where it leads to none."""
    try:
        path = Path(name).expanduser()
        return path if name and path.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, an unknown ~person
        return None


def _unknown(name: str, allow_paths: bool, offered: dict[str, tuple[Path, Kind]]) -> ModelLoadError:
    choices = ", ".join(sorted(offered)) or "none here"
    paths = "a folder's path, " if allow_paths else ""
    return ModelLoadError(
        f"There is no model {name!r}; give one that is offered ({choices}), {paths}or a hub id such as org/name."
    )


def _check_remote(name: str, device: torch.device, dtype: str, check_memory: bool, config: Config, size: int) -> None:
    """Refuse a hub model from its config and file sizes, before its weights are fetched."""
    require_causal(config, name)
    if check_memory:
        stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
        n_parameters = size // ITEM_BYTES.get(stored, 4)
        require_memory(name, n_parameters, choose_dtype(dtype, device, stored), device)


def _offered() -> dict[str, tuple[Path, Kind]]:
    """Return the models on offer by name; a folder that the environment names comes before a bundled one."""
    bundled: dict[str, tuple[Path, Kind]] = {path.name: (path, "bundled") for path in _checkpoints(BUNDLED_FOLDER)}
    listed = [Path(part).expanduser() for part in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if part]
    return bundled | {path.name: (path, "folder") for folder in listed for path in _checkpoints(folder)}


def _checkpoints(folder: Path) -> Iterator[Path]:
    """Yield `folder` itself when it is a checkpoint, else the checkpoints directly in it; nothing if unreadable."""
    try:
        if (folder / "config.json").is_file():
            yield folder.resolve()
        elif folder.is_dir():
            yield from sorted(path.resolve() for path in folder.iterdir() if (path / "config.json").is_file())
    except OSError:
        return


def _choice(name: str, path: Path, kind: Kind) -> ModelChoice:
    try:
        checkpoint = read_checkpoint(path, name)
    except (ModelLoadError, OSError):
        return ModelChoice(name, name, kind, path, None, None)
    return ModelChoice(name, checkpoint.title, kind, path, depth(checkpoint.config), checkpoint.n_parameters)


def _digest(folder: Path) -> str:
    """Return 12 hex digits that change when the folder's files do: of their content, or of size and time if large."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".txt", ".model"))
    total = sum(path.stat().st_size for path in files)
    digest = hashlib.sha256()
    for path in files:
        stat = path.stat()
        digest.update(f"{path.name}\0{stat.st_size}\0".encode())
        digest.update(path.read_bytes() if total <= _WHOLE_HASH_BYTES else str(stat.st_mtime_ns).encode())
    return digest.hexdigest()[:12]


def _short(folder: Path) -> str:
    root = BUNDLED_FOLDER.parent
    return folder.relative_to(root).as_posix() if folder.is_relative_to(root) else str(folder)
