"""Inputs that a decoder computes for each of its layers, picked by the plan (Gemma 3n, Gemma 4)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from surgery_core.surgery.behaviours import mixed
from surgery_core.surgery.marks import needed_mark


@dataclass(frozen=True, eq=False)
class Picked:
    """The owner as it was, and which of the inputs that it computes for each layer go to what runs."""

    whole: Any
    order: tuple[int, ...]


class PerLayerInputs:
    """A decoder that feeds each layer an input of its own: computed for all layers, then `Picked` by the plan."""

    def get_per_layer_inputs(self, *args: Any, **kwargs: Any) -> Any:
        """Return the inputs `[batch, seq, n_layers, d]` for every layer of the base."""
        whole = needed_mark(self, Picked).whole  # type: ignore[arg-type]
        return whole.get_per_layer_inputs(*args, **kwargs)

    def project_per_layer_inputs(self, *args: Any, **kwargs: Any) -> Any:
        """Return the projected inputs `[batch, seq, slots, d]`, one for each slot: that of its layer."""
        picked = needed_mark(self, Picked)  # type: ignore[arg-type]
        whole = picked.whole.project_per_layer_inputs(*args, **kwargs)
        return whole.index_select(2, torch.tensor(picked.order, dtype=torch.long, device=whole.device))


def has_per_layer_inputs(owner: nn.Module) -> bool:
    """Whether the layers' owner computes an input of its own for each of them (Gemma 3n, Gemma 4)."""
    return hasattr(owner, "project_per_layer_inputs")


def kept_inputs(owner: Any, config: Any, order: Sequence[int]) -> tuple[type, Picked]:
    """Return class and record with which a layer list's owner computes inputs for all layers, then picks some.

    Args:
        owner: the module that will compute them.
        config: of the base, before anything is changed in it.
        order: what runs, by original index.
    """
    whole = copy.copy(owner)
    whole.__dict__["config"] = copy.copy(config)
    return mixed(PerLayerInputs, type(owner)), Picked(whole, tuple(order))
