"""A fit that goes on after it was killed: the running mean as one file, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from surgery_core.errors import LensError, SettingsError
from surgery_core.lenses.translating import unembed_hash
from surgery_core.surgery.anatomy import find_layers, plan_of, root_of
from surgery_core.whole_files import write_whole

RECENT = 10
"""Texts over which the change of the mean is averaged."""


@dataclass(frozen=True, eq=False)
class FitState:
    """What a fit came to so far.

    Attributes:
        mean: `[layers, d_model, d_model]` in float32.
        texts: how many texts it is of.
        changes: by how much of its norm the mean changed with each of the last ten texts, averaged over the layers.
    """

    mean: torch.Tensor
    texts: int = 0
    changes: tuple[float, ...] = ()

    @staticmethod
    def empty() -> FitState:
        """Return what a fit begins with."""
        return FitState(torch.zeros(0))

    @property
    def change(self) -> float:
        """Return the mean of the last changes; NaN where there is none."""
        return sum(self.changes) / len(self.changes) if self.changes else math.nan

    def with_one_more(self, found: torch.Tensor) -> FitState:
        """Return the state with the Jacobians of one more text, `[layers, d_model, d_model]`."""
        if not self.texts:
            return FitState(found, 1)
        step = (found - self.mean) / (self.texts + 1)
        mean = self.mean + step
        shares = step.flatten(1).norm(dim=1) / mean.flatten(1).norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
        return FitState(mean, self.texts + 1, (*self.changes, float(shares.mean()))[-RECENT:])


def identity_of(
    model: nn.Module, pieces: Sequence[Sequence[int]], layers: Sequence[int], target: int, skip: int
) -> dict[str, str]:
    """Return what two fits have to share for one to go on from the other, by its name in an error."""
    tokens = hashlib.sha256(json.dumps([list(piece) for piece in pieces]).encode()).hexdigest()
    return {
        "model": f"{unembed_hash(root_of(model))}/{len(find_layers(model)[1])}",
        "plan": str(plan_of(model)),
        "texts": tokens,
        "layers": ",".join(map(str, layers)),
        "target": str(target),
        "skip": str(skip),
    }


def write_state(path: str | Path, identity: dict[str, str], state: FitState) -> None:
    """Write the state in place of the one before it.

    Raises:
        LensError: when it cannot be written.
    """
    kept = identity | {"n": str(state.texts), "changes": json.dumps(state.changes)}
    try:
        write_whole(path, save({"mean": state.mean}, kept))
    except OSError as error:
        raise LensError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error


def read_state(path: str | Path, identity: dict[str, str]) -> FitState:
    """Return the state that was kept, or an empty one where there is no such file.

    Raises:
        SettingsError: when it is of another fit; names what differs.
        LensError: when it is no such file.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return FitState.empty()
    except OSError as error:
        raise LensError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    try:
        mean = load(content)["mean"]
        kept = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        texts, changes = int(kept["n"]), tuple(map(float, json.loads(kept["changes"])))
    except (SafetensorError, KeyError, ValueError, TypeError):
        raise LensError(f"{str(path)!r} is no kept fit; name another file, or remove it to begin anew.") from None
    other = next((what for what, value in identity.items() if kept.get(what) != value), None)
    if other is not None:
        raise SettingsError(
            f"{str(path)!r} is of a fit with another {other}; give it the same again, or another file to begin anew."
        )
    return FitState(mean, texts, changes)
