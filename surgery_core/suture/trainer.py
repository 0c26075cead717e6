"""The training of a heal: steps, readings of the texts held out, and of all states the one that read those best."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from surgery_core.errors import RefusedPlanError
from surgery_core.measure.compare import Reference
from surgery_core.states.windows import Batch, Window, batches_of
from surgery_core.suture.healing import Healing, HealProgress, HeldOut, Span, best_of
from surgery_core.suture.low_rank import LowRank
from surgery_core.suture.teaching import Look, Student, Teacher, divergence

_WARM = 0.03
"""Share of the span over which the learning rate rises."""
_BETAS = (0.9, 0.98)
_REST = 6.0
"""How many times as long as a reading takes there is training before the next, where time is short."""
_WORSE = 0.02
"""Nats by which a reading may be above the first one before training goes back to the best state with half the rate."""


@dataclass
class Standing:
    """Where a training stands, as far as it has to be known to go on with it.

    Attributes:
        step, seconds, tokens: that were trained so far.
        held: readings of the texts held out.
        factor: of the learning rate, halved when training went astray.
        matrices, best: as they are now, and as they read the texts held out best.
        moments: of Adam, by name; none before the first step.
    """

    matrices: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor]
    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    factor: float = 1.0
    held: tuple[HeldOut, ...] = ()
    moments: dict[str, torch.Tensor] = field(default_factory=dict)


class Trainer:
    """Trains updates until a span is over.

    Args:
        updates: in the student's view.
        teacher, student: both sides.
        judge: the base's reference over the texts held out.
        settings, span: how, and how long.
        standing: to go on from; None for the beginning.
    """

    def __init__(
        self, updates: LowRank, teacher: Teacher, student: Student, judge: Reference, settings: Healing, span: Span,
        standing: Standing | None = None,
    ) -> None:  # fmt: skip
        self.updates, self.teacher, self.student, self.judge = updates, teacher, student, judge
        self.settings, self.span = settings, span
        self.now = standing or Standing(updates.state(), updates.state())
        updates.take(self.now.matrices)
        self._matrices = updates.matrices
        self._adam = self._new_adam()
        self._set_moments(self.now.moments)
        self._began = time.monotonic() - self.now.seconds
        self._read_at = self._reading_took = 0.0

    @property
    def share(self) -> float:
        """Return which share of the span is over, 0 to 1."""
        return self.span.share(self.now.step, self.now.seconds)

    @property
    def is_check_due(self) -> bool:
        """Whether the texts held out are to be read: after even parts of the span, and by the clock not too often."""
        if len(self.now.held) >= 1 + int(self.share * self.settings.checks):
            return False
        return self.span.steps is not None or self.now.seconds - self._read_at >= _REST * self._reading_took

    def step(self, windows: tuple[Window, ...], look: Look) -> float:
        """Train on some windows; return the mean KL in nats a token before the update."""
        self._adam.param_groups[0]["lr"] = self._rate()
        batches = list(batches_of(windows, self.judge.encoded.batches[0].input_ids.device))
        count = sum(len(batch.targets) for batch in batches)
        total = sum(self._add_gradients(batch, count, look) for batch in batches)
        if math.isfinite(total):
            self._adam.step()
        else:
            self._go_back()
        self._adam.zero_grad(set_to_none=True)
        self.now.step += 1
        self.now.tokens += count
        self._tick()
        return total / count

    def check(self, look: Look) -> None:
        """Read the texts held out, and keep the state where it reads them better than any before."""
        self._tick()
        before, read = self.now.seconds, self._reading(look)
        self.now.held = (*self.now.held, read)
        if best_of(self.now.held) is read:
            self.now.best = self.updates.state()
        elif not read.nats <= self.now.held[0].nats + _WORSE:
            self._go_back()
        self._tick()
        self._read_at, self._reading_took = self.now.seconds, self.now.seconds - before

    def progress(self, kl: float) -> HealProgress:
        """Return where the training stands, after a step with this divergence."""
        now, share = self.now, self.share
        left = now.seconds * (1 - share) / share if share else math.nan
        return HealProgress(now.step, share, now.seconds, left, kl, now.held)

    def standing(self) -> Standing:
        """Return where the training stands, to go on from."""
        self.now.matrices, self.now.moments = self.updates.state(), dict(self._moments())
        return self.now

    def finish(self) -> None:
        """Give the view the best state."""
        self.updates.take(self.now.best)

    def _tick(self) -> None:
        self.now.seconds = time.monotonic() - self._began

    def _rate(self) -> float:
        share = self.span.share(self.now.step, self.now.seconds)
        rise = min(1.0, (share + _WARM / 10) / _WARM)
        return self.settings.learning_rate * self.now.factor * rise * (1 - share)

    def _add_gradients(self, batch: Batch, count: int, look: Look) -> float:
        """Add a batch's part of the gradient of the mean KL over `count` positions; return its summed KL."""
        base, ours = self.teacher.entered(batch, look), self.student.entered(batch, look)
        if not ours.requires_grad:
            raise RefusedPlanError(
                f"Layers of a {type(self.student.view).__name__} hand on states that no gradient leads back through, so nothing "
                "in them can be trained."
            )
        kl, gradient = divergence(self.teacher.readout, ours, base, look)
        names = list(self._matrices)
        wanted = [self._matrices[name] for name in names]
        for matrix, found in zip(
            wanted, torch.autograd.grad(ours, wanted, gradient / count, allow_unused=True), strict=True
        ):
            if found is not None:
                matrix.grad = found if matrix.grad is None else matrix.grad + found
        return kl

    def _reading(self, look: Look) -> HeldOut:
        readout, nats, kl, count = self.teacher.readout, 0.0, 0.0, 0
        for number, batch in enumerate(self.judge.encoded.batches):
            side = self.judge.side(number, look)
            figures = readout.figures(readout.read(batch, look, self.student.view), batch.targets, side, look)
            nats += float(figures.nll.double().sum())
            kl += 0.0 if figures.kl is None else float(figures.kl.double().sum())
            count += len(batch.targets)
        return HeldOut(self.now.step, nats / count, kl / count)

    def _go_back(self) -> None:
        """Go on from the best state, with half the learning rate."""
        self.updates.take(self.now.best)
        self.now.factor /= 2
        self._adam = self._new_adam()

    def _new_adam(self) -> torch.optim.Adam:
        return torch.optim.Adam(self._matrices.values(), lr=self.settings.learning_rate, betas=_BETAS)

    def _moments(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, matrix in self._matrices.items():
            for key, value in self._adam.state.get(matrix, {}).items():
                yield f"{name}.{key}", value.detach().clone()

    def _set_moments(self, moments: Mapping[str, torch.Tensor]) -> None:
        state: Any = self._adam.state
        for name, tensor in moments.items():
            owner, _, key = name.rpartition(".")
            state[self._matrices[owner]][key] = tensor.clone()
