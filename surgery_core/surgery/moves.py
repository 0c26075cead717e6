"""Layers that hand on a moved state: a linear change of what leaves them, at all positions or some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from surgery_core.errors import AnatomyError
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.behaviours import mix_in
from surgery_core.surgery.layer_io import hidden_of, with_hidden
from surgery_core.surgery.marks import mark, mark_of, needed_mark


@dataclass(frozen=True, eq=False)
class Move:
    """How a state h becomes h + (h R^T) W.

    Attributes:
        readers: R, `[k, d_model]`, what is read of a state.
        writers: W, `[k, d_model]`, what is added for each value that was read.
        positions: the positions that are moved, counted from the beginning of the text; None for all of them.
    """

    readers: torch.Tensor
    writers: torch.Tensor
    positions: tuple[int, ...] | None = None

    def of(self, hidden: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
        """Return states `[batch, seq, d_model]` moved; `positions` `[batch or 1, seq]` are theirs.

        Raises:
            AnatomyError: when single positions are to be moved, and the layer is not told which ones it reads.
        """
        change = (hidden @ self.readers.T.to(hidden)) @ self.writers.to(hidden)
        if self.positions is None:
            return hidden + change
        if positions is None:
            raise AnatomyError("This model does not tell its layers which positions they read; move all of them.")
        wanted = torch.isin(positions, torch.tensor(self.positions, device=positions.device))
        return hidden + change * wanted[..., None].to(change)


class Moved:
    """A layer whose output is moved by its `Move`."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer and move the state that leaves it, `[batch, seq, d_model]`."""
        output = super().forward(*args, **kwargs)  # type: ignore[misc]
        move = needed_mark(self, Move)  # type: ignore[arg-type]
        return with_hidden(output, move.of(hidden_of(output), kwargs.get("position_ids")))


def put_move(view: nn.Module, place: int, move: Move) -> None:
    """Have a layer of a private copy hand on moved states; `place` counts the layers that run."""
    layer = find_layers(view)[1][place]
    mix_in(layer, Moved)
    mark(layer, move)


def is_moved(model: nn.Module) -> bool:
    """Whether a layer of the model hands on moved states, so that its plan does not say all that it does."""
    return any(mark_of(layer, Move) is not None for layer in find_layers(model)[1])
