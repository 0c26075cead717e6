"""Which models lie ready: in `models/`, in the folders that `MODEL_SURGERY_MODELS` lists, and in the hub's cache.

A checkpoint folder is offered by its name, a GGUF file by its name without `.gguf`, a repository by its id. Of two with
one name the folder that is listed later keeps it, and the other is told apart by its parent: `parent/name`.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Literal

from surgery_core.errors import ModelLoadError
from surgery_core.models.adapter_checkpoint import CONFIG, AdapterCheckpoint, is_adapter_folder, read_adapter
from surgery_core.models.checkpoint import Checkpoint, depth, read_checkpoint
from surgery_core.models.gguf_checkpoint import SUFFIX, only_gguf, read_gguf
from surgery_core.models.gguf_header import is_gguf

Kind = Literal["bundled", "folder", "hub"]
Places = dict[str, tuple[Path, Kind]]

DEFAULT_MODEL = "fable"
FOLDERS_VARIABLE = "MODEL_SURGERY_MODELS"
_PACKAGE = Path(__file__).resolve().parents[1]
_SHIPPED = _PACKAGE / "shipped" / "models"
BUNDLED_FOLDER = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parent / "models"
"""Where the bundled models lie: in the installed package, or in the repository."""
_WHOLE_HASH_BYTES = 100_000_000
_COMPUTED_WITH = (".json", ".safetensors", ".txt", ".model", ".jinja", SUFFIX)
_OF_A_MODEL = (*_COMPUTED_WITH, ".md")
_PIECE, _PIECES, _LEAST_STEP = 4_096, 16_384, 65_536
_LEVELS = 2
"""How deep models may lie below a folder: `runs/checkpoint-500` is found from above `runs`."""
_CAUSAL = ("ForCausalLM']", "LMHeadModel']")


@dataclass(frozen=True)
class ModelChoice:
    """A model that can be opened by name without a network.

    Attributes:
        name: what `load_model` takes.
        title: what a picker shows.
        kind: `"bundled"` (in `models/`), `"folder"` (in a folder of `MODEL_SURGERY_MODELS`) or `"hub"` (in its cache).
        path: the checkpoint's folder, or the GGUF file.
        n_layers: depth, or None where the checkpoint cannot be read; opening it then says why.
        n_parameters: numbers in the checkpoint, or None likewise. An adapter counts with its base model.
        adapter_of: what an adapter calls its base model, empty where it says nothing; None for a whole model. Its depth
            is None where that model does not lie ready.
    """

    name: str
    title: str
    kind: Kind
    path: Path
    n_layers: int | None
    n_parameters: int | None
    adapter_of: str | None = None


def list_models(folder: str | Path | None = None) -> tuple[ModelChoice, ...]:
    """Return the models that lie ready, the default one first, then by name.

    Args:
        folder: only look in this folder; by default wherever models are offered from.
    """
    places = offered() if folder is None else _named((path, "folder") for path in _found(Path(folder)))
    choices = [_choice(name, path, kind, places) for name, (path, kind) in places.items()]
    return tuple(sorted(choices, key=lambda choice: (choice.name != DEFAULT_MODEL, choice.name.lower())))


def offered() -> Places:
    """Return the models on offer by name."""
    listed = [Path(part).expanduser() for part in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if part]
    own: Iterator[tuple[Path, Kind]] = ((path, "folder") for folder in reversed(listed) for path in _found(folder))
    bundled: Iterator[tuple[Path, Kind]] = ((path, "bundled") for path in _found(BUNDLED_FOLDER))
    return dict(_downloaded()) | _named(chain(own, bundled))


def base_place(places: Places, wanted: str, *, paths: bool = True) -> tuple[Path, Kind] | None:
    """Return where the model lies that an adapter calls its base, or None where it does not lie ready.

    Args:
        places: the models on offer by name.
        wanted: one of these names; a path; or `org/name` or a path on the machine where the adapter was trained, of
            which the last part is such a name.
        paths: whether it may be a path that is not on offer.
    """
    last = wanted.rstrip("/").rpartition("/")[2]
    if wanted not in places and paths and (typed := path_of(wanted)) is not None:
        return typed, "folder"
    found = (places[name] for name in (wanted, last) if name in places)
    return next((place for place in found if not is_adapter_folder(place[0])), None)


def path_of(name: str) -> Path | None:
    """Return the checkpoint folder or GGUF file that a typed path leads to, or None where it leads to nothing."""
    try:
        path = Path(name).expanduser()
        if name and path.is_dir():
            return path
        return path if name and path.is_file() and (path.suffix.lower() == SUFFIX or is_gguf(path)) else None
    except (ValueError, RuntimeError):  # a NUL byte, an unknown ~person
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise


def adapter_title(adapter: str, base: str) -> str:
    """Return what a model is called that is an adapter on its base model."""
    return f"{adapter} (adapter on {base})"


def stamp(path: Path) -> str:
    """Return what changes when a model's files do, from their sizes and times alone; empty where they are not to be read."""
    try:
        facts = [(file.name, stat.st_size, stat.st_mtime_ns) for file in _files(path) for stat in (file.stat(),)]
    except OSError:
        return ""
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def stamp_of(name: str) -> str:
    """Return the stamp of a model that is offered by this name, or an empty one."""
    places = offered()
    found = places.get(name)
    if found is None:
        return ""
    own, adapter = stamp(found[0]), _adapter(found[0], stamp(found[0]))
    base = None if adapter is None else base_place(places, adapter.base, paths=found[1] != "hub")
    return own if base is None else f"{own}+{stamp(base[0])}"


def weight_bytes(name: str) -> tuple[int, bool] | None:
    """Return how many bytes of weights are read to open an offered model, and whether they are packed ones of a GGUF file.

    None where nothing is offered by this name. Of an adapter these are its own and its base's.
    """
    places = offered()
    found = places.get(name)
    if found is None:
        return None
    adapter = _adapter(found[0], stamp(found[0]))
    base = None if adapter is None else base_place(places, adapter.base, paths=found[1] != "hub")
    files = [file for path in (found[0], *(base or ())[:1]) for file in _files(path)]
    weights = [file for file in files if file.suffix in (".safetensors", ".gguf")]
    return sum(file.stat().st_size for file in weights), any(file.suffix == ".gguf" for file in weights)


def read_place(path: Path, name: str) -> Checkpoint:
    """Describe the checkpoint folder or GGUF file at `path`; errors as `read_checkpoint` and `read_gguf`."""
    if not path.is_dir():
        return read_gguf(path, name)
    packed = only_gguf(path, name)
    return read_checkpoint(path, name) if packed is None else read_gguf(packed, name)


def digest(path: Path) -> str:
    """Return 12 hex digits that change when what a model computes with does, and are the same on every machine.

    The card is not part of it. Of a file of more than 100 MB every 4 KB piece counts that begins at a multiple of 64 KB,
    or of a larger step where that would be more than 16,384 pieces, and so does its beginning.
    """
    found = hashlib.sha256()
    for file in _files(path, _COMPUTED_WITH):
        size = file.stat().st_size
        found.update(f"{file.name}\0{size}\0".encode())
        if size <= _WHOLE_HASH_BYTES:
            found.update(file.read_bytes())
        else:
            for piece in _pieces(file, size):
                found.update(piece)
    return found.hexdigest()[:12]


def _pieces(file: Path, size: int) -> Iterator[bytes]:
    """Yield a large file's beginning, where a checkpoint says what lies where, and pieces from all over it."""
    with file.open("rb", buffering=0) as opened:
        yield opened.read(_LEAST_STEP)
        for at in range(0, size, max(_LEAST_STEP, size // _PIECES)):
            opened.seek(at)
            yield opened.read(_PIECE)


def short(path: Path) -> str:
    """Return a path as people read it: within this repository from its root."""
    root = BUNDLED_FOLDER.parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def located(source: str) -> Path:
    """Return the path that `short` wrote, wherever the program was started."""
    return BUNDLED_FOLDER.parent / source


def _files(path: Path, suffixes: tuple[str, ...] = _OF_A_MODEL) -> list[Path]:
    """Return the files that make a model what it is, its card among them unless `suffixes` leave it out."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in suffixes)


def _named(found: Iterable[tuple[Path, Kind]]) -> Places:
    """Give each path a name of its own; the first that comes has the choice."""
    places: Places = {}
    for path, kind in found:
        if path not in {taken for taken, _ in places.values()}:
            places[next(name for name in _spellings(path) if name not in places)] = (path, kind)
    return places


def _spellings(path: Path) -> Iterator[str]:
    """Yield a path's name, then with its parent before it, and so on to the whole path."""
    stem = path.stem if path.suffix.lower() == SUFFIX else path.name
    for count in range(len(path.parts)):
        yield "/".join((*path.parts[len(path.parts) - 1 - count : -1], stem))
    yield str(path)


def _found(path: Path, levels: int = _LEVELS) -> Iterator[Path]:
    """Yield the model that a path is, or those at most so many levels below it; what cannot be looked into has none.

    A link keeps its own name.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` would follow links
    try:
        if any((path / file).is_file() for file in ("config.json", CONFIG)) or (
            path.suffix.lower() == SUFFIX and path.is_file()
        ):
            yield path
        elif levels and path.is_dir():
            for inside in sorted(path.iterdir()):
                yield from _found(inside, levels - 1)
    except OSError:
        return


def _downloaded() -> Iterator[tuple[str, tuple[Path, Kind]]]:
    """Yield the whole causal language models in the hub's cache, at the commit of their main branch."""
    from huggingface_hub import constants

    for branch in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*/refs/main")):
        repository = branch.parents[1]
        folder = repository / "snapshots" / branch.read_text(encoding="ascii").strip()
        if _is_whole(folder):
            yield repository.name.removeprefix("models--").replace("--", "/", 1), (folder, "hub")


def _is_whole(folder: Path) -> bool:
    """Whether a snapshot of the cache holds all that a causal language model, or an adapter, needs."""
    if _adapter(folder, stamp(folder)) is not None:
        return True
    found = _described(folder, stamp(folder)) if (folder / "config.json").is_file() else None
    return found is not None and str(found.config.get("architectures")).endswith(_CAUSAL)


@lru_cache(maxsize=256)
def _described(path: Path, stamp: str) -> Checkpoint | None:
    """Return what is at a path as of this stamp, or None where it cannot be read."""
    try:
        return read_place(path, path.name)
    except (ModelLoadError, OSError):
        return None


@lru_cache(maxsize=256)
def _adapter(path: Path, stamp: str) -> AdapterCheckpoint | None:
    """Return the adapter that is in a folder as of this stamp, or None for a whole model or a damaged one."""
    try:
        return read_adapter(path, path.name) if is_adapter_folder(path) else None
    except (ModelLoadError, OSError):
        return None


def _choice(name: str, path: Path, kind: Kind, places: Places) -> ModelChoice:
    if (adapter := _adapter(path, stamp(path))) is not None:
        return _adapter_choice(name, path, kind, adapter, places)
    found = _described(path, stamp(path))
    if found is None:
        return ModelChoice(name, name, kind, path, None, None)
    title = name if kind == "hub" else found.title
    return ModelChoice(name, title, kind, path, depth(found.config), found.n_parameters)


def _adapter_choice(name: str, path: Path, kind: Kind, adapter: AdapterCheckpoint, places: Places) -> ModelChoice:
    base = base_place(places, adapter.base, paths=kind != "hub")
    found = None if base is None else _described(base[0], stamp(base[0]))
    title = name if kind == "hub" else adapter.title
    if base is None or found is None:
        return ModelChoice(name, adapter_title(title, adapter.base or "?"), kind, path, None, None, adapter.base)
    total = found.n_parameters + adapter.n_parameters
    of = adapter.base if base[1] == "hub" else found.title
    return ModelChoice(name, adapter_title(title, of), kind, path, depth(found.config), total, adapter.base)
