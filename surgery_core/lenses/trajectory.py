"""What a lens reads at every layer and token of one text, as arrays and tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from surgery_core.errors import TextError

Array = np.ndarray[Any, Any]

NOTHING = "–"
"""Stands for a token where the model's probabilities are no numbers."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a lens reads at every layer and token of one text.

    Attributes:
        tokens: the text's tokens as written.
        labels: one a row: `"input"`, then a label a slot.
        origins: one a row: which layer of the base it belongs to (`"input"`, `"3"`, `"3 mid"`). Rows of two plans with
            the same origin are compared with each other; a layer that runs twice has it twice.
        statistics: arrays `[rows, seq]` by name, in nats where `lens_metrics.METRICS` says so. Those of the token that
            really comes next (`cross_entropy`, `rank`, `target_probability`) are NaN for the last token.
        top_ids: `[rows, seq, k]`, likeliest first.
        top_probabilities: `[rows, seq, k]`.
        top_tokens: the tokens of `top_ids` as written, by id.
        note: a sentence when only a part of the text was read, else empty.
        start: number of the first token that was read.
        total: tokens of the whole text.
        not_finite: empty, or a sentence that says from which layer on the model's states are not numbers.
    """

    tokens: tuple[str, ...]
    labels: tuple[str, ...]
    origins: tuple[str, ...]
    statistics: dict[str, Array]
    top_ids: Array
    top_probabilities: Array
    top_tokens: dict[int, str]
    note: str = ""
    start: int = 0
    total: int = 0
    not_finite: str = ""

    @property
    def truncated(self) -> bool:
        """Whether the text was longer than what was read of it."""
        return bool(self.note)

    def frame(self) -> pd.DataFrame:
        """Return one line a cell: row, layer, origin, position, token, target, top, depth, and the statistics.

        `depth` is the row at which the token's prediction settles; see `prediction_depth`.
        """
        rows, seq = len(self.labels), len(self.tokens)
        best = self.top_ids[:, :, 0].ravel()
        nothing = np.isnan(self.top_probabilities[:, :, 0]).ravel()
        columns: dict[str, Any] = {
            "row": np.repeat(np.arange(rows), seq),
            "layer": np.repeat(np.array(self.labels, dtype=object), seq),
            "origin": np.repeat(np.array(self.origins, dtype=object), seq),
            "position": np.tile(np.arange(seq), rows),
            "token": list(self.tokens) * rows,
            "target": [*self.tokens[1:], ""] * rows,
            "top": [
                NOTHING if none else self.top_tokens[int(index)] for index, none in zip(best, nothing, strict=True)
            ],
            "depth": np.tile(self.prediction_depth(), rows),
        }
        return pd.DataFrame(columns | {name: values.ravel() for name, values in self.statistics.items()})

    def averages(self) -> pd.DataFrame:
        """Return one line a row: row, layer, origin, and the mean of each statistic over the tokens that have it."""
        means = {name: _mean(values) for name, values in self.statistics.items()}
        rows = {"row": np.arange(len(self.labels)), "layer": list(self.labels), "origin": list(self.origins)}
        return pd.DataFrame(rows | means)

    def prediction_depth(self) -> Array:
        """Return, `[seq]`, the first row from which on the likeliest token stays what it is in the last row.

        0 is the row `input`. A measure of how hard a token is (Baldock et al., arXiv 2106.09647, with a classifier a
        layer); with a lens in its place, Belrose et al., arXiv 2303.08112, section 5.
        """
        best = self.top_ids[:, :, 0]
        changed = best != best[-1]
        behind_last_change = len(best) - np.argmax(changed[::-1], axis=0)
        depth: Array = np.where(changed.any(axis=0), behind_last_change, 0)
        return depth

    @property
    def mean_depth(self) -> float:
        """Return the mean prediction depth over the tokens, in rows."""
        return float(self.prediction_depth().mean())

    def top(self, row: int, position: int) -> pd.DataFrame:
        """Return the likeliest tokens of one cell: rank, token, probability.

        Raises:
            TextError: when there is no such cell.
        """
        if not (0 <= row < len(self.labels) and 0 <= position < len(self.tokens)):
            raise TextError(
                f"There is no cell at row {row}, token {position}; "
                f"rows go to {len(self.labels) - 1} and tokens to {len(self.tokens) - 1}."
            )
        ids = self.top_ids[row, position]
        columns = {
            "rank": np.arange(1, len(ids) + 1),
            "token": [
                NOTHING if np.isnan(value) else self.top_tokens[int(index)]
                for index, value in zip(ids, self.top_probabilities[row, position], strict=True)
            ],
            "probability": self.top_probabilities[row, position],
        }
        return pd.DataFrame(columns)


def _mean(values: Array) -> Array:
    """Return the mean over tokens, `[rows]`; NaN where no token has a value."""
    there = ~np.isnan(values)
    total: Array = np.where(there, values.astype(np.float64), 0.0).sum(axis=1)
    means: Array = np.divide(total, there.sum(axis=1), out=np.full(len(values), np.nan), where=there.any(axis=1))
    return means
