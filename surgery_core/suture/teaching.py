"""What a heal is trained to: the base's own predictions, as KL(base || healed), with its gradient by hand.

With z the healed model's logits of a token, q their softmax and p the base's distribution, the gradient of KL(p || q) by z is
q - p. Logits of both are made for some positions at a time, so memory does not grow with tokens times vocabulary; of the
base only what stands before its head is kept from one round to the next. The gradient goes on from there by autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from surgery_core.measure.divergence import kl_divergence, log_probabilities
from surgery_core.measure.readout import Readout, rows_at_once
from surgery_core.states.windows import Batch
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.recording import watched
from surgery_core.surgery.stream_form import stream_of

KEPT_BYTES = 2**28
"""Most bytes of the base's states that are kept; beyond it the base runs again in every round."""

Look = Callable[[], None]


class Teacher:
    """The base's side: what its head reads at each position, made once a window as far as there is room.

    Args:
        model: the base.
    """

    def __init__(self, model: nn.Module) -> None:
        self.readout = Readout(model)
        self._kept: dict[tuple[int, int], torch.Tensor] = {}
        self._bytes = 0

    def entered(self, batch: Batch, look: Look) -> torch.Tensor:
        """Return what the base's head reads at the scored positions of a batch, `[n, width]`."""
        keys, counts = _rows(batch)
        if not all(key in self._kept for key in keys):
            # what is made in inference mode cannot be mixed into later work
            found = self.readout.read(batch, look).clone()
            self._keep(dict(zip(keys, torch.split(found, counts), strict=True)))
            return found
        return torch.cat([self._kept[key] for key in keys])

    def _keep(self, rows: Mapping[tuple[int, int], torch.Tensor]) -> None:
        if self.readout.whole:  # these are logits already
            return
        for key, row in rows.items():
            if key not in self._kept and self._bytes + row.nbytes <= KEPT_BYTES:
                self._kept[key] = row.clone()
                self._bytes += row.nbytes


def _rows(batch: Batch) -> tuple[list[tuple[int, int]], list[int]]:
    """Return of each window of a batch its text and first scored position, and how many positions it has."""
    counts = batch.rows.bincount(minlength=len(batch.input_ids)).tolist()
    starts = torch.tensor([0, *counts[:-1]]).cumsum(0)
    return list(zip(batch.texts[starts].tolist(), batch.positions[starts].tolist(), strict=True)), counts


class Student:
    """The side that is trained.

    Args:
        view: a private view with updates in it.
        readout: of the base: what stands behind the layers is the same.
    """

    def __init__(self, view: nn.Module, readout: Readout) -> None:
        self.view: Any = view
        self.readout = readout
        self._stream = None if readout.whole else stream_of(view)

    def entered(self, batch: Batch, look: Look) -> torch.Tensor:
        """Return what the head reads at the scored positions, `[n, width]`; gradients flow back from it."""
        rows, columns, last = batch.rows, batch.columns, dict[str, Any]()
        given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
        with (
            torch.enable_grad(),
            watched(find_layers(self.view)[1], lambda *_: look(), lambda number, call, out: last.update(out=out)),
        ):
            if self._stream is None:
                logits = self.view(**given).logits
                return logits[rows.to(logits.device), columns.to(logits.device)].float()  # type: ignore[no-any-return]
            self.view.base_model(**given)
            states = self._stream.leaving(last["out"])
            return self.readout.enter(states[rows.to(states.device), columns.to(states.device)], grad=True)


def divergence(
    readout: Readout, ours: torch.Tensor, base: torch.Tensor, look: Look = lambda: None
) -> tuple[float, torch.Tensor]:  # fmt: skip
    """Return the summed KL(base || ours) in nats, and its gradient by `ours`.

    Args:
        readout: what stands behind the layers of both.
        ours, base: `[n, width]`, what the head reads at the same positions.
        look: called between chunks; it may raise to stop the work.
    """
    gradient, total = torch.zeros_like(ours, dtype=torch.float32), 0.0
    step = rows_at_once(readout.vocab, ours.device)
    for at in range(0, len(ours), step):
        look()
        part = slice(at, at + step)
        with torch.no_grad():
            logp = log_probabilities(readout.logits(base[part]).clone())
        kl, gradient[part] = _part(readout, ours[part].detach(), logp)
        total += kl
    return total, gradient.to(ours.dtype)


def _part(readout: Readout, ours: torch.Tensor, logp: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Return KL and gradient of some positions, whose base has log-probabilities `[n, vocab]`."""
    leaf = ours.clone().requires_grad_()
    with torch.enable_grad():
        logits = _logits(readout, leaf)
    with torch.no_grad():
        logq = log_probabilities(logits)
        kl = float(kl_divergence(logp, logq).double().sum())
        by_logits = logq.exp_().sub_(logp.exp_()).to(logits.dtype)
    (found,) = torch.autograd.grad(logits, leaf, by_logits)
    return kl, found.float()


def _logits(readout: Readout, leaf: torch.Tensor) -> torch.Tensor:
    """Return logits `[n, vocab]` with their graph."""
    if readout.slices:
        bias = None if readout.unembed.bias is None else readout.unembed.bias.detach()
        return nn.functional.linear(leaf, readout.unembed.weight.detach(), bias)
    return leaf.view_as(leaf) if readout.tail is None else readout.tail.logits(leaf[None], grad=True)[0]
