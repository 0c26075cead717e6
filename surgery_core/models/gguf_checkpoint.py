"""A GGUF file, described from its header as a checkpoint folder is."""

from __future__ import annotations

from pathlib import Path

from surgery_core.errors import ModelLoadError
from surgery_core.models.checkpoint import Checkpoint
from surgery_core.models.gguf_header import read_gguf_header

SUFFIX = ".gguf"
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def read_gguf(path: Path, name: str) -> Checkpoint:
    """Describe the GGUF file at `path`; `name` is what the person called it, for messages.

    Its number format is the one that most of its numbers have, or float32 where those are packed into blocks: what a
    block stands for needs more digits than the half formats have.

    Raises:
        ModelLoadError: when it is no whole GGUF file.
        OSError: when it cannot be read.
    """
    if not path.is_file():
        raise ModelLoadError(f"There is no file {name!r}; check the path, or choose a model from the list.")
    header = read_gguf_header(path, name)
    return Checkpoint(
        folder=path.parent,
        config={"model_type": header.architecture, "num_hidden_layers": header.n_layers},
        weights=(path,),
        n_parameters=header.n_parameters,
        dtype=FLOATS.get(header.kind, "float32"),
        title=(header.text("general.name") or path.stem)[:80],
        licence=header.text("general.license"),
        gguf=header,
    )


def only_gguf(folder: Path, name: str) -> Path | None:
    """Return the GGUF file of a folder without other weights, or None where it has none.

    Raises:
        ModelLoadError: when it has several.
    """
    files = gguf_files(folder)
    if not files or any(folder.glob("*.safetensors")):
        return None
    if len(files) > 1:
        raise ModelLoadError(f"{name!r} holds {len(files)} GGUF files; give one, such as {str(files[0])!r}.")
    return files[0]


def gguf_files(folder: Path) -> list[Path]:
    """Return the GGUF files that lie directly in a folder, by name; OSError where it cannot be read."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == SUFFIX and path.is_file())
