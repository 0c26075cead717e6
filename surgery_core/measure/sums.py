"""Losses and figures put together from batches, by text."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from surgery_core.measure.encoding import Encoded
from surgery_core.measure.readout import Figures
from surgery_core.states.finite import broken_weights, not_finite
from surgery_core.states.windows import Batch
from surgery_core.statistics.units import Array, Units


class Losses:
    """Losses by text and position, put together from batches in any order."""

    def __init__(self, encoded: Encoded) -> None:
        self.arrays = [np.full(len(ids) - 1, np.nan, dtype=np.float32) for ids in encoded.ids]
        self.broken: Batch | None = None

    def put(self, batch: Batch, nll: torch.Tensor) -> None:
        """Take the losses `[n]`, in nats, of a batch's scored positions."""
        values = nll.cpu().numpy()
        if self.broken is None and np.isnan(values).any():
            self.broken = batch
        texts, positions = batch.texts.numpy(), batch.positions.numpy()
        for text in np.unique(texts):
            here = texts == text
            self.arrays[text][positions[here] - 1] = values[here]

    def not_finite(self, model: nn.Module) -> str:
        """Return where the model that these are of stops computing numbers; empty where it does not."""
        return broken_weights(model) or ("" if self.broken is None else not_finite(model, self.broken))


class Sums:
    """Sums over the tokens of each unit, in float64: loss in nats, KL in nats, top-1 and top-5 kept, tokens."""

    COLUMNS = ("nats", "kl", "top1", "top5", "tokens")

    def __init__(self, units: Units) -> None:
        self.units = units
        self.values = torch.zeros((len(units), len(self.COLUMNS)), dtype=torch.float64)

    def put(self, batch: Batch, figures: Figures) -> None:
        """Add the figures of a batch's scored positions."""
        nll = figures.nll
        kl = torch.zeros_like(nll) if figures.kl is None else figures.kl
        columns = torch.stack([nll, kl, figures.kept(1), figures.kept(5), torch.ones_like(nll)], dim=-1)
        units = torch.from_numpy(self.units.of(batch.texts.numpy(), batch.positions.numpy()))
        # float64 only once it is on the CPU: Apple's GPU has none
        self.values.index_add_(0, units, columns.cpu().double())

    def add(self, other: Sums) -> None:
        """Add the sums over other tokens of the same units."""
        self.values += other.values

    def only(self, numbers: Array, units: Units) -> Sums:
        """Return the sums of some units, by number, which are called `units` now."""
        found = Sums(units)
        found.values = self.values[torch.from_numpy(numbers)]
        return found

    def by_unit(self, column: str) -> Array:
        """Return one column's sums `[n_units]`."""
        return self.values[:, self.COLUMNS.index(column)].numpy()

    def by_text(self, column: str) -> Array:
        """Return one column's sums `[n_texts]`."""
        return self.units.by_text(self.by_unit(column))

    def mean(self, column: str) -> float:
        """Return one column's mean over all tokens."""
        return float(self.by_unit(column).sum() / self.by_unit("tokens").sum())


def at_least_0(value: float) -> float:
    """Return a divergence without what rounding took below 0; NaN stays NaN."""
    return 0.0 if value < 0 else value
