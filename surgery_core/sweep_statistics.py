"""What a sweep measures of an operated model against its base, from one pass over each chunk of logits.

With z the operated model's logits and p the base's probabilities, the loss of the right token t is lse(z) - z_t and
KL(base || operated) is lse(z) - sum(p z) - H(p): both need only sums over the vocabulary, so no log-probabilities
are made. The base's token counts as kept in the top k when fewer than k logits are above its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from surgery_core.measure import Encoded
from surgery_core.windows import Batch

KEPT_BYTES = 2**28
"""Most bytes of the base's probabilities that are kept; beyond it they are made again from hidden states."""


@dataclass(frozen=True, eq=False)
class BaseChunk:
    """The base's side of some scored positions: `p` `[n, vocab]`, its entropy `[n]` in nats, its top token `[n]`."""

    p: torch.Tensor
    entropy: torch.Tensor
    top: torch.Tensor

    @classmethod
    def of(cls, logits: torch.Tensor) -> BaseChunk:
        """Return the base's side from its logits `[n, vocab]` in float32."""
        logp = logits.log_softmax(-1)
        p = logp.exp()
        return cls(p, -torch.where(p > 0, p * logp, 0.0).sum(-1), logits.argmax(-1))


class Sums:
    """Sums over the tokens of each text, in float64: loss in nats, KL in nats, top-1 and top-5 kept, tokens."""

    COLUMNS = ("nats", "kl", "top1", "top5", "tokens")

    def __init__(self, n_texts: int) -> None:
        self.values = torch.zeros((n_texts, len(self.COLUMNS)), dtype=torch.float64)

    def put(self, batch: Batch, part: slice, logits: torch.Tensor, base: BaseChunk | None) -> None:
        """Add the positions `part` of a batch, whose logits `[n, vocab]` are in float32."""
        targets = batch.targets[part]
        if base is None:
            nll = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
            kept = torch.zeros((3, len(nll)), device=nll.device)
        else:
            nll, kept = _against(logits, targets, base)
        columns = torch.stack([nll, *kept, torch.ones_like(nll)], dim=-1)
        self.values.index_add_(0, batch.texts[part], columns.double().cpu())

    def by_text(self, column: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return one column's sums, a text each."""
        return self.values[:, self.COLUMNS.index(column)].numpy()

    def mean(self, column: str) -> float:
        """Return one column's mean over all tokens."""
        return float(self.by_text(column).sum() / self.by_text("tokens").sum())


def _against(logits: torch.Tensor, targets: torch.Tensor, base: BaseChunk) -> tuple[torch.Tensor, torch.Tensor]:
    lse = logits.logsumexp(-1)
    nll = lse - logits.gather(-1, targets[:, None])[:, 0]
    # the mean of z under p; both sides are shifted by the base token's logit to keep the sums small
    own = logits.gather(-1, base.top[:, None])
    away = logits - own
    mean = torch.linalg.vecdot(base.p, away)
    if mean.isnan().any():
        # a logit of minus infinity where the base has probability 0
        mean = torch.where(base.p > 0, base.p * away, 0.0).sum(-1)
    kl = (lse - own[:, 0]) - mean - base.entropy
    above = (away > 0).sum(-1)
    return nll, torch.stack([kl, (above == 0).to(nll.dtype), (above < 5).to(nll.dtype)])


def text_bytes(encoded: Encoded) -> Sequence[int]:
    """Return the UTF-8 bytes that the scored tokens of each text cover."""
    return [sum(sizes[1:]) for sizes in encoded.sizes]
