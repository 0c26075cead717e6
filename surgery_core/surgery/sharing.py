"""Layers that read an earlier layer's keys and values (Gemma 3n, Gemma 4)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from torch import nn


def reads_shared(layer: nn.Module) -> bool:
    """Whether a layer has no keys and values of its own, but reads those of an earlier one."""
    found = sharing_of(layer)
    return found is not None and found.reads


@dataclass(frozen=True)
class Sharing:
    """How a layer takes part in sharing keys and values.

    Attributes:
        kind: under what they are kept.
        reads: whether it only reads them.
        keeps: whether it keeps its own for later layers.
    """

    kind: Hashable
    reads: bool
    keeps: bool


def sharing_of(layer: nn.Module) -> Sharing | None:
    """Return how a layer takes part in sharing keys and values, or None where it does not."""
    for module in layer.modules():
        state = module.__dict__
        if type(reads := state.get("is_kv_shared_layer")) is bool:
            kind = (state.get("layer_type"), state.get("use_rope"))
            return Sharing(kind, reads, bool(state.get("store_full_length_kv", not reads)))
    return None
