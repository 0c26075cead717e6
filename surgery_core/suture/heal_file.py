"""A heal that can be gone on with: everything that it stands on, in one file that is whole or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from surgery_core.errors import InputError, SettingsError
from surgery_core.suture.healing import HeldOut
from surgery_core.suture.trainer import Standing
from surgery_core.whole_files import written_beside

FILE = "heal.safetensors"
_KEY = "model_surgery_heal"
_PARTS = ("matrices", "best", "moments")
Identity = Mapping[str, Any]
"""What two heals must share for one to go on with the other: model, plan, texts and settings."""


def save_standing(folder: str | Path, standing: Standing, identity: Identity) -> None:
    """Write where a heal stands, in place of what was written before.

    Raises:
        InputError: when it cannot be written, for example on a full disk; what was there stays.
    """
    known = {"step": standing.step, "seconds": standing.seconds, "tokens": standing.tokens, "factor": standing.factor}
    about = {"identity": identity, **known, "held": [asdict(one) for one in standing.held]}
    tensors = {
        f"{part}/{name}": tensor.contiguous() for part in _PARTS for name, tensor in getattr(standing, part).items()
    }
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with written_beside(Path(folder) / FILE) as beside:
            save_file(tensors, beside, metadata={_KEY: json.dumps(about)})
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"Where the heal stands could not be written to {str(folder)!r} ({why}); make room, or name another folder."
        ) from error


def load_standing(folder: str | Path, identity: Identity) -> Standing | None:
    """Return where the heal in a folder stands, or None where there is none.

    Raises:
        SettingsError: when it is another one; says what differs.
        InputError: when the file cannot be read.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
        standing = _standing(about, tensors)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{str(path)!r} is no whole record of a heal ({type(error).__name__}); name another folder."
        ) from error
    _require_same(about["identity"], json.loads(json.dumps(identity)), folder)
    return standing


def _standing(about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Standing:
    parts: dict[str, dict[str, torch.Tensor]] = {part: {} for part in _PARTS}
    for name, tensor in tensors.items():
        part, _, own = name.partition("/")
        parts[part][own] = tensor
    held = tuple(HeldOut(int(one["step"]), float(one["nats"]), float(one["kl"])) for one in about["held"])
    return Standing(
        **parts, step=int(about["step"]), seconds=float(about["seconds"]), tokens=int(about["tokens"]),
        factor=float(about["factor"]), held=held,
    )  # fmt: skip


def _require_same(found: Mapping[str, Any], asked: Mapping[str, Any], folder: str | Path) -> None:
    for name, value in asked.items():
        if found.get(name) != value:
            raise SettingsError(
                f"The heal in {str(folder)!r} was begun with {name} {_short(found.get(name))}, and {_short(value)} is asked "
                "for; ask for the same, or name another folder."
            )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
