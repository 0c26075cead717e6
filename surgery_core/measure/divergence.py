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
    found = logits.float().log_softmax(-1)
    return found.clamp_min(_LOWEST) if found.requires_grad else found.clamp_min_(_LOWEST)


def entropy(logp: torch.Tensor) -> torch.Tensor:
    """Return the entropy `[...]` in nats, 0 to ln(vocab)."""
    return _restored(-(logp.exp() * logp).sum(-1))


def kl_divergence(logp: torch.Tensor, logq: torch.Tensor) -> torch.Tensor:
    """Return KL(p || q) `[...]` in nats, at least 0; not symmetric.

    The differences of the logarithms are summed, and not two sums subtracted: of a distribution against itself the
    result is 0, however large the vocabulary is.
    """
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


def count_above(values: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    """Return how many of `values` `[..., n]` are above `limits` `[...]`, as float32, which counts to 16 million.

    Comparisons that are written as numbers are summed several times faster than booleans.
    """
    return torch.gt(values, limits[..., None], out=torch.empty_like(values)).sum(-1)


def next_below(values: torch.Tensor) -> torch.Tensor:
    """Return the largest numbers below `values`: what is above them is at least as large as `values`."""
    return torch.nextafter(values, torch.full_like(values, -torch.inf))


def ranks(logp: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the place of `targets` `[...]` among all tokens, from 1: those before are likelier, or as likely with a lower id.

    NaN where probabilities are.
    """
    own = logp.gather(-1, targets[..., None])[..., 0]
    found = count_above(logp, own) + 1
    tied = (count_above(logp, next_below(own)) > found).nonzero(as_tuple=True)
    if len(tied[0]):
        ids = torch.arange(logp.shape[-1], device=logp.device)
        found[tied] += ((logp[tied] == own[tied][:, None]) & (ids < targets[tied][:, None])).sum(-1)
    return torch.where(own.isnan(), torch.nan, found)


def likeliest(logp: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the values and ids `[..., count]` of the likeliest tokens; of equally likely ones the lower id comes first.

    `topk` leaves the order of ties open, and in half precision logits often tie.
    """
    if count == 1:
        first = logp.argmax(-1, keepdim=True)
        return logp.gather(-1, first), first
    ids = logp.topk(count, dim=-1).indices.sort(dim=-1).values
    values, order = logp.gather(-1, ids).sort(dim=-1, descending=True, stable=True)
    ids = ids.gather(-1, order)
    # more tokens than asked for may share the highest value; the first of them all must be there
    tied = (~(values[..., 0] > values[..., -1])).nonzero(as_tuple=True)
    if len(tied[0]):
        some = ids[tied]
        first = logp[tied].argmax(-1, keepdim=True)
        missing = (some != first).all(-1, keepdim=True)
        ids[tied] = torch.where(missing, torch.cat([first, some[..., :-1]], dim=-1), some)
        values = logp.gather(-1, ids)
    return values, ids


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
    q = logp.exp()
    likeliest_one = q.amax(-1)
    # differences are taken before they are summed, and by `sum`, whose error does not grow with the vocabulary; products
    # are put where a factor was that is needed no more, for new memory costs as much as a product
    change = final - logp
    forward = (final.exp() * change).sum(-1)
    reverse = change.mul_(q).sum(-1)
    own = q.mul_(logp).sum(-1)
    values = {
        "probability": likeliest_one,
        "entropy": (-own).clamp_min(0.0),
        "cross_entropy": -target_logp,
        "kl": _restored(forward.clamp_min(0.0)),
        "kl_reverse": _restored((-reverse).clamp_min(0.0)),
        "rank": ranks(logp, targets),
        "target_probability": target_logp.exp(),
    }
    if picked is not None:
        values["picked"] = _restored(logp[..., picked])
    return values


def _restored(values: torch.Tensor) -> torch.Tensor:
    """Return values in which what came from a probability of 0 is infinite again."""
    return torch.where(values.abs() > _INFINITE, torch.copysign(torch.full_like(values, math.inf), values), values)
