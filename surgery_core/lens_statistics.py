"""Statistics of next-token distributions, from log-probabilities `[..., vocab]`, in nats.

Where a probability is 0 its logarithm is replaced by a very small finite number, so that 0 log 0 is 0 and a
divergence from it is infinite.
"""

from __future__ import annotations

import math

import torch

_LOWEST = -1e30
_INFINITE = 1e20


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Return finite log-probabilities `[..., vocab]` in float32 of logits."""
    return logits.float().log_softmax(-1).clamp_min(_LOWEST)


def entropy(logp: torch.Tensor) -> torch.Tensor:
    """Return the entropy `[...]` in nats, 0 to ln(vocab)."""
    return _restored(-(logp.exp() * logp).sum(-1))


def kl_divergence(logp: torch.Tensor, logq: torch.Tensor) -> torch.Tensor:
    """Return KL(p || q) `[...]` in nats, at least 0; not symmetric."""
    return _restored((logp.exp() * (logp - logq)).sum(-1).clamp_min(0.0))


def js_divergence(logp: torch.Tensor, logq: torch.Tensor) -> torch.Tensor:
    """Return the Jensen-Shannon divergence `[...]` in nats, 0 to ln 2; symmetric.

    It is the mean of KL(p || m) and KL(q || m), m the mean of p and q.
    """
    p, q = logp.exp(), logq.exp()
    logm = torch.logaddexp(logp, logq) - math.log(2)
    halves = (p * (logp - logm)).sum(-1) + (q * (logq - logm)).sum(-1)
    return (halves / 2).clamp(0.0, math.log(2))


def total_variation(logp: torch.Tensor, logq: torch.Tensor) -> torch.Tensor:
    """Return the total variation distance `[...]`, half of the summed differences, 0 to 1; symmetric."""
    return (logp.exp() - logq.exp()).abs().sum(-1) / 2


def ranks(logp: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return how many tokens are likelier than `targets` `[...]`, plus one."""
    own = logp.gather(-1, targets[..., None])
    return (logp > own).sum(-1) + 1


def cell_statistics(
    logp: torch.Tensor, final: torch.Tensor, targets: torch.Tensor, picked: int | None
) -> dict[str, torch.Tensor]:
    """Return every statistic that one side has by itself, each `[rows, seq]`.

    Args:
        logp: `[rows, seq, vocab]`, what the lens reads.
        final: `[seq, vocab]`, the model's own output.
        targets: `[seq]`, the tokens that come next.
        picked: a token whose log-probability is wanted, or None.
    """
    targets = targets.expand(logp.shape[:2])
    target_logp = _restored(logp.gather(-1, targets[..., None])[..., 0])
    p, q = final.exp(), logp.exp()
    # sums of products go through one pass over the vocabulary each
    own, crossed = torch.einsum("rsv,rsv->rs", q, logp), torch.einsum("rsv,sv->rs", q, final)
    reverse = _restored((own - crossed).clamp_min(0.0))
    forward = (torch.einsum("sv,sv->s", p, final) - torch.einsum("sv,rsv->rs", p, logp)).clamp_min(0.0)
    values = {
        "probability": q.amax(-1),
        "entropy": (-own).clamp_min(0.0),
        "cross_entropy": -target_logp,
        "kl": _restored(forward),
        "kl_reverse": reverse,
        "rank": ranks(logp, targets),
        "target_probability": target_logp.exp(),
    }
    if picked is not None:
        values["picked"] = _restored(logp[..., picked])
    return values


def _restored(values: torch.Tensor) -> torch.Tensor:
    """Return values in which what came from a probability of 0 is infinite again."""
    return torch.where(values.abs() > _INFINITE, torch.copysign(torch.full_like(values, math.inf), values), values)
