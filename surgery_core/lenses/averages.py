"""What a lens reads layer by layer, averaged over many texts, with the spread between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from surgery_core.lenses.reading import Follow, Lens, read_lens
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.states.windows import DEFAULT_CONTEXT, window_length
from surgery_core.text import Text, TextsLike, as_texts, encode

BAND = (0.1, 0.9)
"""Quantiles over the texts between which the band lies."""


def lens_averages(
    lens: Lens,
    model: nn.Module,
    tokenizer: Any,
    texts: TextsLike,
    *,
    follow: Follow = "layer",
    max_window: int | None = None,
    stop: threading.Event | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Read texts through a lens and return the means of each text, one line a text and row.

    A text longer than the model's context (or `max_window`) is read in windows, one after the other; each window is
    read without what comes before it, and the token at its end has no next one.

    Columns: text, tokens, row, layer, origin, depth (mean prediction depth in rows), and the statistics of
    `read_lens`, as means over the text's tokens, in nats.

    Raises:
        TextError: when a text has no token.
        Stopped: when `stop` was set.
    """
    pieces = list(_pieces(model, tokenizer, as_texts(texts), max_window))
    found: dict[str, list[tuple[int, pd.DataFrame]]] = {}
    for done, (text, start, size) in enumerate(pieces):
        read = read_lens(lens, model, tokenizer, text, follow=follow, top_k=1, start=start, max_tokens=size, stop=stop)
        found.setdefault(text.title, []).append((len(read.tokens), _means(read)))
        if on_progress is not None:
            on_progress(done + 1, len(pieces))
    return pd.concat([_merged(title, parts) for title, parts in found.items()], ignore_index=True)


def spread(averages: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the mean of one statistic over all tokens, with the band that holds the middle 80% of the texts.

    Args:
        averages: of `lens_averages`.
        metric: a statistic in it.

    Returns:
        row, layer, mean, low, high.
    """
    low, high = BAND
    rows = []
    for (row, layer), texts in averages.groupby(["row", "layer"], sort=False):
        values = texts[metric].to_numpy(dtype=float)
        there = np.isfinite(values)
        if not there.any():
            continue
        mean = np.average(values[there], weights=texts["tokens"].to_numpy()[there])
        ends = np.quantile(values[there], (low, high))
        rows.append({"row": row, "layer": layer, "mean": float(mean), "low": float(ends[0]), "high": float(ends[1])})
    return pd.DataFrame(rows, columns=["row", "layer", "mean", "low", "high"])


def mean_depth(averages: pd.DataFrame) -> float:
    """Return the mean prediction depth over all tokens of all texts, in rows.

    Args:
        averages: of `lens_averages`.
    """
    texts = averages.drop_duplicates("text")
    return float(np.average(texts["depth"], weights=texts["tokens"]))


def _pieces(
    model: nn.Module, tokenizer: Any, texts: Iterable[Text], max_window: int | None
) -> Iterable[tuple[Text, int, int]]:
    size = window_length(model, min(max_window or DEFAULT_CONTEXT, DEFAULT_CONTEXT))
    for text in texts:
        total = len(encode(tokenizer, text))
        # a last window of one token would have nothing to predict
        for start in range(0, max(1, total - 1), size):
            yield text, start, size


def _means(read: Trajectory) -> pd.DataFrame:
    return read.averages().assign(depth=read.mean_depth)


def _merged(title: str, parts: list[tuple[int, pd.DataFrame]]) -> pd.DataFrame:
    """Return one text's means over its windows, each weighted by its tokens."""
    first = parts[0][1]
    names = [name for name in first.columns if name not in ("row", "layer", "origin")]
    # a window of one token has no next token, hence no value of some statistics
    values = np.stack([part[names].to_numpy(dtype=float) for _, part in parts])
    weights = np.where(np.isnan(values), 0.0, np.array([size for size, _ in parts], dtype=float)[:, None, None])
    total = weights.sum(axis=0)
    sums = np.where(np.isnan(values), 0.0, values * weights).sum(axis=0)
    means = np.divide(sums, total, out=np.full_like(total, np.nan), where=total > 0)
    head = pd.DataFrame({"text": title, "tokens": sum(size for size, _ in parts)}, index=first.index)
    return pd.concat([head, first[["row", "layer", "origin"]], pd.DataFrame(means, columns=names)], axis=1)
