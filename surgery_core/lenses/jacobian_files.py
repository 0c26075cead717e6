"""Read and write Jacobian lenses: a folder of our own, or the one file of the reference.

Ours is a folder with `config.json`, which says what the lens is for, and `jacobians.safetensors`, with a matrix a layer
(`J.0`, `J.1`, ...). The reference's is a `torch.save` of `{"J": {layer: matrix}, "n_prompts", "source_layers", "d_model"}`,
which is opened without running anything in it. Both hold float16 unless another format is asked for.
"""

from __future__ import annotations

import io
import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from surgery_core.bounded import is_packed, read_json
from surgery_core.errors import LensError
from surgery_core.lenses.jacobian import Jacobians
from surgery_core.lenses.jacobian_hub import fetch_jacobians
from surgery_core.lenses.translating import is_whole
from surgery_core.models.hub import is_hub_id
from surgery_core.whole_files import write_whole

CONFIG, PARAMS, KIND = "config.json", "jacobians.safetensors", "jacobian_lens"
BESIDE = "jacobian-lens"
"""Folder beside a checkpoint in which its lens lies."""
REFERENCE = ".pt"
"""Ending of the reference's files."""
_SAID = ("n_texts", "target", "n_layers", "base_model", "unembed_hash", "plan", "change")


def save_jacobians(fitted: Jacobians, path: str | Path, *, dtype: torch.dtype = torch.float16) -> Path:
    """Write a lens into a folder; or, where the path ends in `.pt`, as one file that the reference reads.

    Args:
        fitted: what is written.
        path: a folder, which is made, or a file `*.pt`.
        dtype: of the matrices in the file.

    Raises:
        LensError: when it cannot be written, or a matrix has values that the format has no room for.
    """
    target = Path(path)
    matrices = {layer: fitted.matrices[layer].to(dtype).contiguous() for layer in fitted.layers}
    for layer, matrix in matrices.items():
        if not bool(matrix.isfinite().all()):
            raise LensError(f"The matrix of layer {layer} does not fit into {dtype}; write it in torch.float32.")
    try:
        if target.suffix == REFERENCE:
            return write_whole(target, _as_reference(fitted, matrices))
        target.mkdir(parents=True, exist_ok=True)
        write_whole(target / PARAMS, save({f"J.{layer}": matrix for layer, matrix in matrices.items()}))
        write_whole(target / CONFIG, (json.dumps(_manifest(fitted), indent=2) + "\n").encode())
    except OSError as error:
        raise LensError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error
    return target


def load_jacobians(name: str | Path, *, revision: str | None = None) -> Jacobians:
    """Read a lens from a folder of ours, from a file of the reference, or from the hub.

    Args:
        name: a folder or a file; or, where there is neither, a hub id `org/name` of a model that the collection
            `neuronpedia/jacobian-lens` has a lens for.
        revision: a branch, a tag or a commit on the hub.

    Raises:
        LensError: when a file is missing, broken, of the wrong shape, or a pickle with more than tensors in it, or the
            hub has no such lens or cannot be reached.
    """
    source = Path(name)
    if isinstance(name, str) and not source.exists() and is_hub_id(name):
        found = fetch_jacobians(name, revision)
        return read_reference(found.file.read_bytes(), found.file.name, base_model=found.model)
    if source.is_file():
        return read_reference(_bytes(source), str(source))
    return _read_folder(source)


def jacobians_beside(checkpoint: str | Path) -> Path | None:
    """Return the folder of the Jacobian lens that came with a checkpoint, or None where it has none."""
    folder = Path(checkpoint) / BESIDE
    return folder if (folder / CONFIG).is_file() else None


def load_beside(checkpoint: str | Path) -> Jacobians:
    """Return the Jacobian lens that came with a checkpoint.

    Raises:
        LensError: when it came without one, or a file is broken.
    """
    if (folder := jacobians_beside(checkpoint)) is None:
        raise LensError(
            f"{Path(checkpoint).name!r} came without a Jacobian lens; name the file of one, or fit one with fit-lens."
        )
    return _read_folder(folder)


def read_reference(content: bytes, name: str, base_model: str = "") -> Jacobians:
    """Read the reference's file; nothing in it is run.

    Args:
        content: of the file.
        name: as errors call it.
        base_model: the model that it is of, where that is known.

    Raises:
        LensError: when it is damaged, holds more than tensors and numbers, or is no lens.
    """
    if is_packed(content):
        raise LensError(f"{name!r} is compressed, which what torch saves never is; save it again with torch.save.")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise LensError(f"{name!r} holds more than tensors, so it was not opened; nothing in it was run.") from None
    except (RuntimeError, EOFError, ValueError, OSError, KeyError):
        raise LensError(f"{name!r} is damaged or cut short; get it again.") from None
    if not isinstance(state, dict) or not isinstance(state.get("J"), dict) or not state["J"]:
        raise LensError(f"{name!r} is no Jacobian lens: it has no matrices J by layer.")
    matrices = _checked(state["J"], state.get("d_model"), name)
    count = state.get("n_prompts")
    return Jacobians(matrices, count if type(count) is int and count > 0 else 1, base_model=base_model)


def _as_reference(fitted: Jacobians, matrices: Mapping[int, torch.Tensor]) -> bytes:
    data = io.BytesIO()
    content = {"J": dict(matrices), "n_prompts": fitted.n_texts, "source_layers": list(fitted.layers)}
    torch.save(content | {"d_model": fitted.d_model}, data)
    return data.getvalue()


def _manifest(fitted: Jacobians) -> dict[str, Any]:
    said = {what: getattr(fitted, what) for what in _SAID}
    said["change"] = None if math.isnan(fitted.change) else fitted.change
    return {"lens_type": KIND, "d_model": fitted.d_model, "layers": list(fitted.layers)} | said


def _read_folder(folder: Path) -> Jacobians:
    if not (folder / CONFIG).is_file():
        raise LensError(f"{str(folder)!r} holds no Jacobian lens: it has no {CONFIG}.")
    try:
        config = read_json(_bytes(folder / CONFIG))
    except ValueError:
        raise LensError(f"The {CONFIG} of the lens in {str(folder)!r} is not valid JSON.") from None
    if not isinstance(config, dict) or config.get("lens_type") != KIND:
        raise LensError(f"{str(folder)!r} holds no Jacobian lens: its {CONFIG} does not say lens_type {KIND!r}.")
    try:
        state = load(_bytes(folder / PARAMS))
    except (SafetensorError, ValueError):
        raise LensError(
            f"The matrices of the lens in {str(folder)!r} are damaged or cut short; get them again."
        ) from None
    named = {int(key[2:]): value for key, value in state.items() if key[:2] == "J." and key[2:].isdecimal()}
    matrices = _checked(named, config.get("d_model"), str(folder))
    return Jacobians(matrices, **_said(config, str(folder)))


def _said(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what a manifest says beside sizes, each of its own type."""
    kinds: dict[str, tuple[type, ...]] = {
        "n_texts": (int,), "target": (int, type(None)), "n_layers": (int, type(None)), "base_model": (str,),
        "unembed_hash": (str,), "plan": (str,), "change": (float, int, type(None)),
    }  # fmt: skip
    for what, kind in kinds.items():
        if type(config.get(what)) not in kind:
            raise LensError(
                f"The {CONFIG} of the lens in {name!r} says {what} is {config.get(what)!r}, which it cannot be."
            )
    said = {what: config[what] for what in kinds}
    return said | {"change": math.nan if said["change"] is None else float(said["change"])}


def _checked(found: Mapping[Any, Any], width: Any, name: str) -> dict[int, torch.Tensor]:
    """Return the matrices in float32, by layer; each has to be `[d_model, d_model]` and numbers."""
    if type(width) is not int or not 0 < width < 100_000:
        raise LensError(f"The lens in {name!r} says d_model is {width!r}; it must be a positive whole number.")
    for layer, matrix in found.items():
        if type(layer) is not int or layer < 0 or not isinstance(matrix, torch.Tensor):
            raise LensError(f"The lens in {name!r} has something else than a matrix for layer {layer!r}.")
        if tuple(matrix.shape) != (width, width):
            raise LensError(
                f"The matrix of layer {layer} in {name!r} has the shape {list(matrix.shape)}; expected {[width] * 2}."
            )
        if not is_whole(matrix):
            raise LensError(f"The matrix of layer {layer} in {name!r} is not all in the file; get it again.")
        if not matrix.is_floating_point() or not bool(matrix.isfinite().all()):
            raise LensError(
                f"The matrix of layer {layer} in {name!r} has values that are no numbers; get the file again."
            )
    if not found:
        raise LensError(f"The lens in {name!r} has no matrices.")
    return {layer: found[layer].float() for layer in sorted(found)}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LensError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from None
