"""Read and write lenses in the format of the tuned-lens library.

A folder with `config.json` and the parameters as `params.pt` (read without executing anything) or
`params.safetensors`. Parameters are named `i.weight` and `i.bias`.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from surgery_core.bounded import is_packed, read_json
from surgery_core.errors import LensError
from surgery_core.lenses.hub import fetch_lens
from surgery_core.lenses.translating import is_whole
from surgery_core.lenses.tuned import Translators
from surgery_core.models.hub import is_hub_id

CONFIG, PARAMS, SAFE = "config.json", "params.pt", "params.safetensors"


def save_lens(translators: Translators, folder: str | Path, *, pickled: bool = True) -> Path:
    """Write a lens, so that the tuned-lens library opens it too (with `pickled`), or smaller, as safetensors.

    Raises:
        LensError: when the folder cannot be written.
    """
    target = Path(folder)
    config = {
        "base_model_name_or_path": translators.base_model,
        "d_model": translators.d_model,
        "num_hidden_layers": translators.n_layers,
        "bias": True,
        "base_model_revision": None,
        "unembed_hash": translators.unembed_hash or None,
        "lens_type": "linear_tuned_lens",
    }
    state = {f"{i}.weight": w.contiguous() for i, w in enumerate(translators.weights)}
    state |= {f"{i}.bias": b.contiguous() for i, b in enumerate(translators.biases)}
    try:
        target.mkdir(parents=True, exist_ok=True)
        (target / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if pickled:
            torch.save(state, target / PARAMS)
        else:
            save_file(state, target / SAFE)
    except OSError as error:
        raise LensError(f"{str(folder)!r} cannot be written: {error.strerror or error}.") from error
    return target


def load_lens(name: str | Path, *, revision: str | None = None) -> Translators:
    """Read a lens from a folder or from the hub.

    Args:
        name: a folder; or, where there is no such folder, a hub id `org/name`: of a model that the tuned-lens library's
            collection has a lens for, or of a repository that is a lens. See `lens_hub`.
        revision: a branch, a tag or a commit on the hub.

    Raises:
        LensError: when a file is missing, broken, of the wrong shape, or a pickle with more than tensors in it, or the
            hub has no such lens or cannot be reached.
    """
    source = Path(name)
    if isinstance(name, str) and not source.exists() and is_hub_id(name):
        source = fetch_lens(name, revision)
    config = _config(source)
    n_layers, d_model = _size(config, "num_hidden_layers"), _size(config, "d_model")
    state = _state(source)
    bias = bool(config.get("bias", True))
    expected: dict[str, tuple[int, ...]] = {f"{i}.weight": (d_model, d_model) for i in range(n_layers)}
    if bias:
        expected |= {f"{i}.bias": (d_model,) for i in range(n_layers)}
    _check_shapes(source, state, expected)
    weights = torch.stack([state[f"{i}.weight"].float() for i in range(n_layers)])
    zeros = torch.zeros(d_model)
    biases = torch.stack([state[f"{i}.bias"].float() if bias else zeros for i in range(n_layers)])
    return Translators(
        weights, biases, str(config.get("base_model_name_or_path", "")), config.get("unembed_hash") or ""
    )


def lens_beside(checkpoint: str | Path) -> Path | None:
    """Return the folder of the lens that came with a checkpoint, or None where it has none."""
    folder = Path(checkpoint) / "lens"
    return folder if (folder / CONFIG).is_file() else None


def _config(source: Path) -> dict[str, Any]:
    try:
        config = read_json((source / CONFIG).read_text(encoding="utf-8"))
    except OSError:
        raise LensError(f"{str(source)!r} holds no lens: it has no {CONFIG}.") from None
    except ValueError:
        raise LensError(f"The {CONFIG} of the lens in {str(source)!r} is not valid JSON.") from None
    if not isinstance(config, dict):
        raise LensError(f"The {CONFIG} of the lens in {str(source)!r} is not a table of settings.")
    return config


def _size(config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or not 0 < value < 100_000:
        raise LensError(f"The lens's {CONFIG} says {key} is {value!r}; it must be a positive whole number.")
    return value


def _state(source: Path) -> dict[str, torch.Tensor]:
    if not (source / SAFE).exists() and not (source / PARAMS).exists():
        raise LensError(f"{str(source)!r} holds no lens parameters: neither {SAFE} nor {PARAMS}.")
    if not (source / SAFE).exists() and is_packed((source / PARAMS).read_bytes()):
        raise LensError(f"The {PARAMS} in {str(source)!r} is compressed; save it again with torch.save.")
    try:
        if (source / SAFE).exists():
            return load_file(source / SAFE)
        state = torch.load(source / PARAMS, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise LensError(
            f"The {PARAMS} in {str(source)!r} holds more than tensors, so it was not opened; nothing in it was run."
        ) from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError):
        raise LensError(
            f"The parameters of the lens in {str(source)!r} are damaged or cut short; get them again."
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise LensError(f"The {PARAMS} in {str(source)!r} is not a table of tensors.")
    return state


def _check_shapes(source: Path, state: dict[str, torch.Tensor], expected: dict[str, tuple[int, ...]]) -> None:
    for name, shape in expected.items():
        if name not in state:
            raise LensError(f"The lens in {str(source)!r} has no {name}, which its {CONFIG} asks for.")
        if tuple(state[name].shape) != shape:
            raise LensError(
                f"{name} of the lens in {str(source)!r} has the shape {list(state[name].shape)}; expected {list(shape)}."
            )
        if not is_whole(state[name]):
            raise LensError(f"{name} of the lens in {str(source)!r} is not all in the file; get it again.")
