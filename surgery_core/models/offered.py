"""Which models lie ready: in `models/`, and in the folders that `MODEL_SURGERY_MODELS` lists.

A checkpoint folder is offered by its name, a GGUF file by its name without `.gguf`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from surgery_core.errors import ModelLoadError
from surgery_core.models.checkpoint import Checkpoint, depth, read_checkpoint
from surgery_core.models.gguf_checkpoint import SUFFIX, gguf_files, read_gguf

Kind = Literal["bundled", "folder", "hub"]

DEFAULT_MODEL = "fable"
FOLDERS_VARIABLE = "MODEL_SURGERY_MODELS"
BUNDLED_FOLDER = Path(__file__).resolve().parents[2] / "models"
_WHOLE_HASH_BYTES = 100_000_000


@dataclass(frozen=True)
class ModelChoice:
    """A model that can be opened by name without a network.

    Attributes:
        name: what `load_model` takes.
        title: what a picker shows.
        kind: `"bundled"` (in `models/`) or `"folder"` (in a folder of `MODEL_SURGERY_MODELS`).
        path: the checkpoint's folder, or the GGUF file.
        n_layers: depth, or None where the checkpoint cannot be read; opening it then says why.
        n_parameters: numbers in the checkpoint, or None likewise.
    """

    name: str
    title: str
    kind: Kind
    path: Path
    n_layers: int | None
    n_parameters: int | None


def list_models(folder: str | Path | None = None) -> tuple[ModelChoice, ...]:
    """Return the models that lie ready, the default one first, then by name.

    Args:
        folder: only look in this folder; by default in `models/` and the folders of `MODEL_SURGERY_MODELS`.
    """
    if folder is not None:
        places: dict[str, tuple[Path, Kind]] = {_name(path): (path, "folder") for path in _found(Path(folder))}
    else:
        places = offered()
    choices = [_choice(name, path, kind) for name, (path, kind) in places.items()]
    return tuple(sorted(choices, key=lambda choice: (choice.name != DEFAULT_MODEL, choice.name.lower())))


def offered() -> dict[str, tuple[Path, Kind]]:
    """Return the models on offer by name; a folder that the environment names comes before a bundled one."""
    bundled: dict[str, tuple[Path, Kind]] = {_name(path): (path, "bundled") for path in _found(BUNDLED_FOLDER)}
    listed = [Path(part).expanduser() for part in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if part]
    return bundled | {_name(path): (path, "folder") for folder in listed for path in _found(folder)}


def read_place(path: Path, name: str) -> Checkpoint:
    """Describe the checkpoint folder or GGUF file at `path`; errors as `read_checkpoint` and `read_gguf`."""
    return read_checkpoint(path, name) if path.is_dir() else read_gguf(path, name)


def digest(path: Path) -> str:
    """Return 12 hex digits that change when the files do: of their content, or of size and time if large."""
    files = _files(path)
    total = sum(file.stat().st_size for file in files)
    found = hashlib.sha256()
    for file in files:
        stat = file.stat()
        found.update(f"{file.name}\0{stat.st_size}\0".encode())
        found.update(file.read_bytes() if total <= _WHOLE_HASH_BYTES else str(stat.st_mtime_ns).encode())
    return found.hexdigest()[:12]


def short(path: Path) -> str:
    """Return a path as people read it: within this repository from its root."""
    root = BUNDLED_FOLDER.parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _files(path: Path) -> list[Path]:
    """Return the files that make a model what it is."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in (".json", ".safetensors", ".txt", ".model"))


def _name(path: Path) -> str:
    return path.stem if path.suffix.lower() == SUFFIX else path.name


def _found(folder: Path) -> Iterator[Path]:
    """Yield the model that `folder` is, or those directly in it; nothing if unreadable."""
    try:
        if (folder / "config.json").is_file() or (folder.suffix.lower() == SUFFIX and folder.is_file()):
            yield folder.resolve()
        elif folder.is_dir():
            for path in sorted((*folder.iterdir(),)):
                yield from _models_at(path.resolve())
            yield from (path.resolve() for path in gguf_files(folder))
    except OSError:
        return


def _models_at(path: Path) -> list[Path]:
    """Return the checkpoint that a folder is, or the GGUF files in it."""
    if not path.is_dir():
        return []
    return [path] if (path / "config.json").is_file() else gguf_files(path)


def _choice(name: str, path: Path, kind: Kind) -> ModelChoice:
    try:
        checkpoint = read_place(path, name)
    except (ModelLoadError, OSError):
        return ModelChoice(name, name, kind, path, None, None)
    return ModelChoice(name, checkpoint.title, kind, path, depth(checkpoint.config), checkpoint.n_parameters)
