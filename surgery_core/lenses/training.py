"""Train a tuned lens: all layers at once, from one forward pass of the frozen model a step.

Each translator minimises KL(final || lens), the divergence of what it reads from the model's own output (Belrose
et al., arXiv 2303.08112, section 3). The layers' losses are independent, and only one layer's logits exist at a time.
Translators start as the logit lens. Over the first steps sums are taken for a least-squares solution, from which
gradient descent goes on where it is better (`lens_fit`). The paper trains with SGD and Nesterov momentum; from there
on Adam does as well with a learning rate that needs no search (see `docs/log.md`). A part of the text is held out, and
each translator is kept as it was when it read that part best, so that a training on little text, or one that was
stopped, is never worse there than the logit lens.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from surgery_core.errors import SettingsError, TextError
from surgery_core.lenses.gradients import StepGradients, fast_dtype
from surgery_core.lenses.least_squares import TOKENS_A_COORDINATE, LeastSquares
from surgery_core.lenses.tuned import Translators, untrained
from surgery_core.surgery.anatomy import context_length, device_of
from surgery_core.text import TextsLike, as_texts, encode


@dataclass(frozen=True)
class LensTraining:
    """How to train a lens.

    Attributes:
        steps: 1 to 100,000.
        tokens_per_step: tokens of one step.
        window: tokens of one piece of text, at most the model's context.
        learning_rate: of Adam, falling linearly to 0.
        fit: most of the steps that may go into the least-squares solution, as a share, 0 to 0.5; with 0 there is none.
        seed: of the order in which pieces of text come.
        held_out: share of the text that is not trained on but decides which state of a translator is kept, 0 to 0.5;
            with 0 the last state is kept.
        checks: how often the held-out part is read, besides at the end.
        precision: of the products with the unembedding. `auto` takes bfloat16 where the processor multiplies that in
            hardware; everything else is in float32.
    """

    steps: int = 150
    tokens_per_step: int = 2048
    window: int = 256
    learning_rate: float = 2e-3
    seed: int = 0
    fit: float = 0.125
    held_out: float = 0.1
    checks: int = 8
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 100_000:
            raise SettingsError(f"{self.steps:,} steps cannot be trained; give 1 to 100,000.")
        if not 0 < self.learning_rate < 1:
            raise SettingsError(f"The learning rate is {self.learning_rate}; it must be above 0 and below 1.")
        if self.window < 2 or self.tokens_per_step < self.window:
            raise SettingsError(
                f"A step of {self.tokens_per_step} tokens in windows of {self.window} cannot be made; "
                "a window needs at least 2 tokens and a step at least one window."
            )
        if not 0 <= self.fit <= 0.5:
            raise SettingsError(f"A share of {self.fit} of the steps cannot be fitted; give a share from 0 to 0.5.")
        if not 0 <= self.held_out <= 0.5 or self.checks < 1:
            raise SettingsError(
                f"A share of {self.held_out} cannot be held out and read {self.checks} times; "
                "give a share from 0 to 0.5 and at least one check."
            )


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        step: steps done, of `steps`.
        losses: KL(final || lens) in nats by translator, on this step's text.
        seconds_left: an estimate.
        best: the same on the held-out text, of the translators that would be kept now; empty where none is held out.
    """

    step: int
    steps: int
    losses: tuple[float, ...]
    seconds_left: float
    best: tuple[float, ...] = ()


def train_lens(
    model: nn.Module,
    tokenizer: Any,
    texts: TextsLike,
    settings: LensTraining | None = None,
    *,
    name: str = "",
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Translators:
    """Train the translators of a model. The same seed, texts and settings give the same lens.

    Args:
        model: a causal language model; it is not changed.
        tokenizer: its tokenizer.
        texts: what to train on.
        settings: steps, sizes, rate and seed.
        name: of the model, kept with the lens.
        on_progress: called after each step.
        stop: when set, training ends after the step, and the best translators so far are returned.

    Raises:
        TextError: when the texts have too few tokens for one window.
    """
    settings = settings or LensTraining()
    began = time.perf_counter()
    train, held_out = _split(model, tokenizer, texts, settings)
    trainer = _Trainer(model, settings, untrained(model, name), held_out)
    windows = _windows(train, settings, _window(model, settings), device_of(model))
    for step in range(1, settings.steps + 1):
        losses = trainer.step(next(windows), step)
        ending = step == settings.steps or (stop is not None and stop.is_set())
        if ending:
            trainer.finish()
        elif step % max(1, settings.steps // settings.checks) == 0:
            trainer.check()
        if on_progress is not None:
            left = (time.perf_counter() - began) / step * (settings.steps - step)
            on_progress(Progress(step, settings.steps, losses, left, trainer.best_losses()))
        if ending or (stop is not None and stop.is_set()):
            break
    trainer.finish()
    return trainer.translators()


class _Trainer:
    """Translators in training, and of each the state that read the held-out text best."""

    def __init__(
        self, model: nn.Module, settings: LensTraining, start: Translators, held_out: torch.Tensor | None
    ) -> None:
        dtype = fast_dtype(model) if settings.precision == "auto" else getattr(torch, settings.precision)
        self.settings, self.start = settings, start
        self.gradients = StepGradients(model, dtype)
        device = self.gradients.home
        self.weights = start.weights.to(device).clone().requires_grad_()
        self.biases = start.biases.to(device).clone().requires_grad_()
        self.optimizer = torch.optim.Adam([self.weights, self.biases], lr=settings.learning_rate, betas=(0.9, 0.98))
        enough = math.ceil(TOKENS_A_COORDINATE * start.d_model / settings.tokens_per_step)
        self.fitted = min(enough, int(settings.fit * settings.steps))
        self.sums = LeastSquares(start.n_layers, start.d_model, device) if self.fitted else None
        self.latest: tuple[torch.Tensor, torch.Tensor] | None = None
        self.held_out: tuple[torch.Tensor, torch.Tensor] | None = None
        if held_out is not None:
            states, _, final = self.gradients.read(held_out.to(device_of(model)), exactly=True)
            self.held_out = (states, final)
        self.best = (self.weights.detach().clone(), self.biases.detach().clone())
        self.best_loss = torch.full((start.n_layers,), torch.inf, device=device)
        self.changed = True
        self.check()

    def step(self, batch: torch.Tensor, number: int) -> tuple[float, ...]:
        """Train on windows `[batch, seq]` and return the losses before the update."""
        states, last, final = self.gradients.read(batch)
        if self.sums is not None:
            if number <= self.fitted:
                self.sums.add(states, last)
                self.latest = _some(states, final)
                return tuple(self.gradients.losses(*self.latest, self.weights, self.biases).tolist())
            self._adopt(self.sums, *_some(states, final))
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * (1 - (number - 1) / self.settings.steps)
        losses = self.gradients.backward(states, final, self.weights, self.biases)
        self.optimizer.step()
        self.changed = True
        return tuple(losses.tolist())

    def _adopt(self, sums: LeastSquares, states: torch.Tensor, final: torch.Tensor) -> None:
        """Go on from the least-squares solution of every layer for which it reads these tokens better."""
        found = sums.solve()
        with torch.no_grad():
            before = self.gradients.losses(states, final, self.weights, self.biases)
            better = self.gradients.losses(states, final, *found) < before
            self.weights[better], self.biases[better] = found[0][better], found[1][better]
        self.sums, self.latest, self.changed = None, None, True

    def finish(self) -> None:
        """Solve what was summed up where training ends before that, and keep what is best."""
        if self.sums is not None and self.latest is not None:
            self._adopt(self.sums, *self.latest)
        self.check()

    def check(self) -> None:
        """Keep every translator that reads the held-out text better than it ever did."""
        if not self.changed:
            return
        self.changed = False
        with torch.no_grad():
            if self.held_out is None:
                better = torch.ones(len(self.best_loss), dtype=torch.bool, device=self.weights.device)
            else:
                losses = self.gradients.losses(*self.held_out, self.weights, self.biases)
                better = losses < self.best_loss
                self.best_loss = torch.where(better, losses, self.best_loss)
            for kept, now in zip(self.best, (self.weights, self.biases), strict=True):
                kept[better] = now[better]

    def best_losses(self) -> tuple[float, ...]:
        """Return the held-out losses of what is kept; empty where nothing is held out."""
        return () if self.held_out is None else tuple(self.best_loss.tolist())

    def translators(self) -> Translators:
        """Return what is kept."""
        weights, biases = (kept.cpu() for kept in self.best)
        return Translators(weights, biases, self.start.base_model, self.start.unembed_hash)


_SOME = 256
"""Tokens on which two translators of a layer are compared: each takes all logits at every layer."""


def _some(states: torch.Tensor, final: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return states `[n_layers, tokens, d_model]` and logits `[tokens, vocab]` of an even sample of the tokens."""
    every = max(1, len(final) // _SOME)
    return states[:, ::every].contiguous(), final[::every].contiguous()


_HELD_OUT_WINDOWS = 1
"""Most windows that are held out: each one is read by every layer at every check."""


def _split(
    model: nn.Module, tokenizer: Any, texts: TextsLike, settings: LensTraining
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the tokens to train on, `[n]`, and windows `[batch, window]` that are held out, from the end of the text."""
    ids = torch.tensor([token for text in as_texts(texts) for token in encode(tokenizer, text)])
    window = _window(model, settings)
    if len(ids) < window:
        raise TextError(f"The texts have {len(ids):,} tokens; training needs at least {window}. Add more text.")
    size = min(window, int(len(ids) * settings.held_out))
    # what is left must still give more than one window
    if size < 8 or len(ids) - size <= window:
        return ids, None
    count = min(_HELD_OUT_WINDOWS, int(len(ids) * settings.held_out) // size)
    return ids[: -size * count], ids[-size * count :].reshape(count, size)


def _window(model: nn.Module, settings: LensTraining) -> int:
    return min(settings.window, context_length(model) or settings.window)


def _windows(ids: torch.Tensor, settings: LensTraining, window: int, device: torch.device) -> Iterator[torch.Tensor]:
    """Yield batches of windows `[batch, window]` for ever, in an order that the seed decides."""
    generator = torch.Generator().manual_seed(settings.seed)
    count = max(1, settings.tokens_per_step // window)
    while True:
        starts = torch.randint(0, len(ids) - window + 1, (count,), generator=generator)
        yield torch.stack([ids[start : start + window] for start in starts.tolist()]).to(device)
