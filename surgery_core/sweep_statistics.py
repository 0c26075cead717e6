"""Sums of a sweep's figures over the tokens of each text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from surgery_core.head import Figures
from surgery_core.measure import Encoded
from surgery_core.windows import Batch


class Sums:
    """Sums over the tokens of each text, in float64: loss in nats, KL in nats, top-1 and top-5 kept, tokens."""

    COLUMNS = ("nats", "kl", "top1", "top5", "tokens")

    def __init__(self, n_texts: int) -> None:
        self.values = torch.zeros((n_texts, len(self.COLUMNS)), dtype=torch.float64)

    def put(self, batch: Batch, figures: Figures, part: slice = slice(None)) -> None:
        """Add the figures of a batch's scored positions, or of a part of them.

        The base's token counts as kept in the top k when fewer than k tokens are likelier.
        """
        nll = figures.nll
        zeros, above = torch.zeros_like(nll), figures.above
        kl = zeros if figures.kl is None else figures.kl
        kept = [zeros if above is None else (above < most).to(nll.dtype) for most in (1, 5)]
        columns = torch.stack([nll, kl, *kept, torch.ones_like(nll)], dim=-1)
        self.values.index_add_(0, batch.texts[part], columns.double().cpu())

    def by_text(self, column: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return one column's sums, a text each."""
        return self.values[:, self.COLUMNS.index(column)].numpy()

    def mean(self, column: str) -> float:
        """Return one column's mean over all tokens."""
        return float(self.by_text(column).sum() / self.by_text("tokens").sum())


def text_bytes(encoded: Encoded) -> Sequence[int]:
    """Return the UTF-8 bytes that the scored tokens of each text cover."""
    return [sum(sizes[1:]) for sizes in encoded.sizes]
