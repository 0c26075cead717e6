"""Train a tuned lens: all layers at once, from one forward pass of the frozen model a step.

Each translator minimises KL(final || lens), the divergence of what it reads from the model's own output (Belrose
et al., arXiv 2303.08112, section 3). The layers' losses are independent, so they are back-propagated one after the
other, and only one layer's logits exist at a time. The paper trains with SGD and Nesterov momentum; Adam with the
settings below gets there with a tenth of the tokens here (see `docs/log.md`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from surgery_core.anatomy import context_length, device_of
from surgery_core.errors import SettingsError, TextError
from surgery_core.residual import residuals
from surgery_core.tail import CHUNK_ELEMENTS, Tail
from surgery_core.text import Text, as_texts, encode
from surgery_core.tuned_lens import Translators, TunedLens, untrained


@dataclass(frozen=True)
class LensTraining:
    """How to train a lens.

    Attributes:
        steps: 1 to 100,000.
        tokens_per_step: tokens of one step.
        window: tokens of one piece of text, at most the model's context.
        learning_rate: of Adam, falling linearly to 0.
        seed: of the order in which pieces of text come.
    """

    steps: int = 150
    tokens_per_step: int = 2048
    window: int = 256
    learning_rate: float = 2e-3
    seed: int = 0

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


@dataclass(frozen=True)
class Progress:
    """Where a training stands: `losses` is KL(final || lens) in nats by translator, `seconds_left` an estimate."""

    step: int
    steps: int
    losses: tuple[float, ...]
    seconds_left: float


def train_lens(
    model: nn.Module,
    tokenizer: Any,
    texts: Iterable[Text] | Text | str,
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
        stop: when set, training ends after the step and what is trained so far is returned.

    Raises:
        TextError: when the texts have too few tokens for one window.
    """
    settings = settings or LensTraining()
    trainer = _Trainer(model, settings, untrained(model, name))
    began = time.perf_counter()
    windows = _windows(model, tokenizer, texts, settings)
    for step in range(1, settings.steps + 1):
        losses = trainer.step(next(windows), step)
        if on_progress is not None:
            left = (time.perf_counter() - began) / step * (settings.steps - step)
            on_progress(Progress(step, settings.steps, losses, left))
        if stop is not None and stop.is_set():
            break
    return trainer.translators()


def lens_quality(model: nn.Module, tokenizer: Any, translators: Translators, texts: Iterable[Text]) -> pd.DataFrame:
    """Return, for what enters each layer, the mean KL(final || lens) in nats of the logit lens and the tuned lens.

    Columns: layer (its number), logit_lens, tuned_lens.
    """
    lens = TunedLens(model, translators)
    totals, count = np.zeros((2, translators.n_layers)), 0
    for text in as_texts(texts):
        ids = encode(tokenizer, text)[: context_length(model)]
        stream = residuals(model, torch.tensor([ids], device=device_of(model)))
        final = stream.logits.float().log_softmax(-1)
        for index in range(translators.n_layers):
            for row, translator in enumerate((None, index)):
                logits = lens.decode(stream.states[index : index + 1], [translator])[0]
                totals[row, index] += float(_kl(final, logits.float()).double().sum())
        count += len(ids)
    return pd.DataFrame(
        {"layer": range(translators.n_layers), "logit_lens": totals[0] / count, "tuned_lens": totals[1] / count}
    )


class _Trainer:
    def __init__(self, model: nn.Module, settings: LensTraining, start: Translators) -> None:
        device = device_of(model)
        self.model, self.settings, self.start = model, settings, start
        self.tail = Tail(model)
        self.weights = [w.to(device).requires_grad_() for w in start.weights.clone()]
        self.biases = [b.to(device).requires_grad_() for b in start.biases.clone()]
        self.optimizer = torch.optim.Adam([*self.weights, *self.biases], lr=settings.learning_rate, betas=(0.9, 0.98))

    def step(self, batch: torch.Tensor, number: int) -> tuple[float, ...]:
        """Train on windows `[batch, seq]` and return the losses before the update."""
        states, final = self._read(batch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * (1 - (number - 1) / self.settings.steps)
        losses = tuple(self._backward(index, states[index], final) for index in range(len(self.weights)))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return losses

    def translators(self) -> Translators:
        weights = torch.stack([w.detach().cpu() for w in self.weights])
        biases = torch.stack([b.detach().cpu() for b in self.biases])
        return Translators(weights, biases, self.start.base_model, self.start.unembed_hash)

    def _read(self, batch: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return what enters each layer, `[tokens, d_model]`, and the model's own log-probabilities."""
        streams = [residuals(self.model, row[None]) for row in batch]
        # tensors made in inference mode cannot take part in a graph; a clone outside of it can
        rows = [torch.cat([s.states[index] for s in streams]).clone() for index in range(len(self.weights))]
        return rows, torch.cat([s.logits for s in streams]).clone().float().log_softmax(-1)

    def _backward(self, index: int, states: torch.Tensor, final: torch.Tensor) -> float:
        """Add a layer's gradients and return its loss.

        The gradient of KL(p || softmax(z)) by the logits z is softmax(z) - p, so no graph is kept behind them.
        """
        total, size = 0.0, max(1, CHUNK_ELEMENTS // final.shape[-1])
        for at in range(0, len(states), size):
            hidden = states[at : at + size].float()
            translated = hidden + hidden @ self.weights[index].T + self.biases[index]
            logits = self.tail.logits(translated[None].to(states.dtype), grad=True)[0]
            logq = logits.detach().float().log_softmax(-1)
            logp = final[at : at + size]
            p = logp.exp()
            total += float((p * (logp - logq)).sum()) / len(states)
            logits.backward(((logq.exp_() - p) / len(states)).to(logits.dtype))  # type: ignore[no-untyped-call]
        return total


def _kl(final: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return KL(final || softmax(logits)) a token; `final` are log-probabilities."""
    return (final.exp() * (final - logits.log_softmax(-1))).sum(-1)


def _windows(
    model: nn.Module, tokenizer: Any, texts: Iterable[Text] | Text | str, settings: LensTraining
) -> Iterator[torch.Tensor]:
    """Yield batches of windows `[batch, window]` for ever, in an order that the seed decides."""
    ids = [token for text in as_texts(texts) for token in encode(tokenizer, text)]
    window = min(settings.window, context_length(model) or settings.window)
    if len(ids) < window:
        raise TextError(f"The texts have {len(ids):,} tokens; training needs at least {window}. Add more text.")
    whole = torch.tensor(ids)
    generator = torch.Generator().manual_seed(settings.seed)
    count = max(1, settings.tokens_per_step // window)
    device = device_of(model)
    while True:
        starts = torch.randint(0, len(ids) - window + 1, (count,), generator=generator)
        yield torch.stack([whole[start : start + window] for start in starts.tolist()]).to(device)
