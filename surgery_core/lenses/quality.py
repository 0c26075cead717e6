"""How well a lens reads: the divergence of each layer's reading from the model's own output."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from surgery_core.lenses.fitted import Fitted, lens_for
from surgery_core.lenses.reading import lens_window
from surgery_core.lenses.translating import TranslatingLens
from surgery_core.measure.divergence import kl_divergence, log_probabilities
from surgery_core.measure.readout import pieces, rows_at_once
from surgery_core.states.residuals import residuals
from surgery_core.stopping import looking
from surgery_core.surgery.anatomy import device_of, plan_of
from surgery_core.text import TextsLike, as_texts, encode


def lens_quality(
    model: nn.Module,
    tokenizer: Any,
    fitted: Fitted,
    texts: TextsLike,
    *,
    stop: threading.Event | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Return, for what enters each layer, the mean KL(final || lens) in nats of the logit lens and of another one.

    Columns: layer (its number), logit_lens, and tuned_lens or jacobian_lens. Of a text that is longer than what a lens reads at once, the
    beginning is read. `on_progress` is told how many texts are read, and how many there are.

    Raises:
        LensError: when the lens is for another model.
        TextError: when a text has no token.
        Stopped: when `stop` was set.
    """
    lens, n_layers = lens_for(model, fitted), len(plan_of(model))
    totals, count, look = np.zeros((2, n_layers)), 0, looking(stop, "Stopped before all texts were read.")
    vocab = model.get_output_embeddings().weight.shape[0]  # type: ignore[operator]
    given = as_texts(texts)
    for number, text in enumerate(given):
        if on_progress is not None:
            on_progress(number, len(given))
        ids, _ = lens_window(model, encode(tokenizer, text))
        states = residuals(model, torch.tensor([ids], device=device_of(model)), look=look).states
        for some in states.split(rows_at_once(vocab, states.device), dim=1):  # type: ignore[no-untyped-call]
            look()
            totals += _divergences(lens, some, n_layers)
        count += len(ids)
    return pd.DataFrame(
        {"layer": range(n_layers), "logit_lens": totals[0] / count, column_of(lens.name): totals[1] / count}
    )


def summed_quality(quality: pd.DataFrame) -> tuple[float, float]:
    """Return the KL of the logit lens and of the other one, each summed over the layers, in nats a token.

    Args:
        quality: of `lens_quality`.
    """
    other = next(name for name in quality.columns if name not in ("layer", "logit_lens"))
    return float(quality["logit_lens"].sum()), float(quality[other].sum())


def column_of(name: str) -> str:
    """Return the column of a lens by its name: `tuned lens` has the column `tuned_lens`."""
    return name.lower().replace(" ", "_")


def _divergences(lens: TranslatingLens, states: torch.Tensor, n_layers: int) -> np.ndarray[Any, Any]:
    """Return the summed KL(final || lens), `[2, n_layers]`, of both lenses over states `[n_layers + 1, tokens, d_model]`."""
    found = np.zeros((2, n_layers))
    with torch.inference_mode():
        final = log_probabilities(lens.decode(states[-1:], [None])[0])
        for index in range(n_layers):
            for row, translator in enumerate((None, index)):
                logits = lens.decode(states[index : index + 1], [translator])
                for part in pieces(logits):
                    kl = kl_divergence(final[part], log_probabilities(logits[0, part]))
                    # float64 only once it is on the CPU: Apple's GPU has none
                    found[row, index] += float(kl.cpu().double().sum())
    return found
