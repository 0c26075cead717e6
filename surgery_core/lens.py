"""Lenses: what each layer would have the model say next.

A lens decodes the residual stream of a layer into next-token logits. The logit lens (nostalgebraist 2020) applies
the model's own final norm and unembedding to it. Statistics follow Belrose et al., "Eliciting Latent Predictions
from Transformers with the Tuned Lens" (arXiv 2303.08112), and are in nats.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
import torch
from torch import nn

from surgery_core.anatomy import context_length, device_of
from surgery_core.errors import Stopped, TextError
from surgery_core.plan import LayerPlan
from surgery_core.residual import Residuals, residuals
from surgery_core.tail import CHUNK_ELEMENTS, Tail
from surgery_core.text import Text, encode, token_strings
from surgery_core.view import plan_of

Array = np.ndarray[Any, Any]

STATISTICS = ("probability", "entropy", "rank", "kl", "target_probability")


class LogitLens:
    """The model's own decoding applied to any layer's residual stream.

    Args:
        model: a causal language model or a view of one.
    """

    name = "logit lens"

    def __init__(self, model: nn.Module) -> None:
        self.tail = Tail(model)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits `[..., seq, vocab]` of residual stream states `[..., seq, d_model]`.

        Everything that the model does behind its layers is applied: norm, unembedding, scales, soft caps.
        """
        return self.tail.logits(hidden)

    def decode(self, states: torch.Tensor, translators: Sequence[int | None]) -> torch.Tensor:
        """Return logits `[rows, seq, vocab]` of states `[rows, seq, d_model]`; there is nothing to translate."""
        return self.tail.logits(states)


class Lens(Protocol):
    """What turns rows of the residual stream into logits, each with a translator or none."""

    name: str

    def decode(self, states: torch.Tensor, translators: Sequence[int | None]) -> torch.Tensor:
        """Return logits `[rows, seq, vocab]` of states `[rows, seq, d_model]`."""


Follow = Literal["layer", "position"]


def translators_of(plan: LayerPlan, follow: Follow = "layer") -> list[int | None]:
    """Return the translator of each row of a trajectory: of `"input"`, then of each slot.

    A translator belongs to what enters a layer of the base. After surgery it follows its layer (what leaves layer
    5, wherever it runs, is read by translator 6) or its position (the third row is read by translator 2, whatever
    ran before). The last row is the model's own output and has none, nor has what leaves the base's last layer.
    """
    if follow == "position":
        rows: list[int | None] = [*range(len(plan) + 1)]
    else:
        rows = [0, *(max(layer.index for layer in slot.layers) + 1 for slot in plan)]
    rows = [row if row is not None and row < plan.n_layers else None for row in rows]
    return [*rows[:-1], None]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a lens reads at every layer and token of one text.

    Attributes:
        tokens: the text's tokens as written.
        labels: one a row: `"input"`, then a label a slot.
        statistics: arrays `[rows, seq]` by name. `probability` of the top prediction, 0 to 1; `entropy` in nats;
            `rank` of the token that really comes next (1 is best; NaN for the last token), and its
            `target_probability`; `kl`, KL(final || row) in nats, where final is the model's own output.
        top_ids: `[rows, seq, k]`, likeliest first.
        top_probabilities: `[rows, seq, k]`.
        top_tokens: the tokens of `top_ids` as written, by id.
        note: a sentence when only the beginning of the text was read, else empty.
    """

    tokens: tuple[str, ...]
    labels: tuple[str, ...]
    statistics: dict[str, Array]
    top_ids: Array
    top_probabilities: Array
    top_tokens: dict[int, str]
    note: str = ""

    @property
    def truncated(self) -> bool:
        """Whether the text was longer than what was read of it."""
        return bool(self.note)

    def frame(self) -> pd.DataFrame:
        """Return one line a cell: row, layer, position, token, target, top, and the statistics."""
        rows, seq = len(self.labels), len(self.tokens)
        best = self.top_ids[:, :, 0].ravel()
        columns: dict[str, Any] = {
            "row": np.repeat(np.arange(rows), seq),
            "layer": np.repeat(np.array(self.labels, dtype=object), seq),
            "position": np.tile(np.arange(seq), rows),
            "token": list(self.tokens) * rows,
            "target": [*self.tokens[1:], ""] * rows,
            "top": [self.top_tokens[int(index)] for index in best],
        }
        return pd.DataFrame(columns | {name: values.ravel() for name, values in self.statistics.items()})

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
            "token": [self.top_tokens[int(index)] for index in ids],
            "probability": self.top_probabilities[row, position],
        }
        return pd.DataFrame(columns)


def read_lens(
    lens: Lens,
    model: nn.Module,
    tokenizer: Any,
    text: Text | str,
    *,
    follow: Follow = "layer",
    top_k: int = 10,
    max_tokens: int | None = None,
    stop: threading.Event | None = None,
) -> Trajectory:
    """Read a text through a lens at every layer.

    Args:
        lens: what turns residual stream states into logits.
        model: the model (or view) whose residual stream is read.
        tokenizer: its tokenizer.
        follow: whether a tuned lens's translators follow their layer or their position; see `translators_of`.
        text: the text; what is beyond the model's context, or `max_tokens`, is left out, and `note` says so.
        top_k: how many of the likeliest tokens are kept a cell.
        stop: when set, the work ends with `Stopped`.

    Raises:
        TextError: when the text has no token.
        Stopped: when `stop` was set.
    """
    text = Text("The text", text) if isinstance(text, str) else text
    ids = encode(tokenizer, text, least=1)
    limit = min(value for value in (context_length(model), max_tokens, len(ids)) if value is not None)
    note = "" if limit == len(ids) else f"Only the first {limit:,} of {len(ids):,} tokens are read."
    ids = ids[:limit]
    stream = residuals(model, torch.tensor([ids], device=device_of(model)))
    reader = _Reader(lens, translators_of(plan_of(model), follow), stream, torch.tensor(ids), top_k)
    reader.read(stop)
    return Trajectory(
        tokens=tuple(token_strings(tokenizer, ids)),
        labels=stream.labels,
        statistics=reader.statistics,
        top_ids=reader.top_ids,
        top_probabilities=reader.top_probabilities,
        top_tokens=_strings(tokenizer, reader.top_ids),
        note=note,
    )


class _Reader:
    """Fills arrays `[rows, seq]` with statistics, a chunk of cells at a time."""

    def __init__(
        self, lens: Lens, translators: list[int | None], stream: Residuals, ids: torch.Tensor, top_k: int
    ) -> None:
        self.lens, self.translators = lens, translators
        self.states, self.final = states, final = stream.states, stream.logits
        self.targets = torch.cat([ids[1:], ids[-1:]]).to(states.device)
        rows, seq = states.shape[:2]
        self.statistics = {name: np.full((rows, seq), np.nan, dtype=np.float32) for name in STATISTICS}
        self.top_k = min(top_k, final.shape[-1])
        self.top_ids = np.zeros((rows, seq, self.top_k), dtype=np.int64)
        self.top_probabilities = np.zeros((rows, seq, self.top_k), dtype=np.float32)

    def read(self, stop: threading.Event | None) -> None:
        rows, seq = self.states.shape[:2]
        width = max(1, min(seq, CHUNK_ELEMENTS // self.final.shape[-1]))
        height = max(1, CHUNK_ELEMENTS // (self.final.shape[-1] * width))
        for left in range(0, seq, width):
            final = self.final[left : left + width].float().log_softmax(-1)
            for top in range(0, rows, height):
                if stop is not None and stop.is_set():
                    raise Stopped("Stopped before the whole text was read.")
                self._chunk(slice(top, top + height), slice(left, left + width), final)
        self.statistics["rank"][:, -1] = np.nan
        self.statistics["target_probability"][:, -1] = np.nan

    def _chunk(self, rows: slice, columns: slice, final: torch.Tensor) -> None:
        logp = self.lens.decode(self.states[rows, columns], self.translators[rows]).float().log_softmax(-1)
        probabilities = logp.exp()
        targets = self.targets[columns].expand(logp.shape[:2])[..., None]
        target_logp = logp.gather(-1, targets)
        top = probabilities.topk(self.top_k, dim=-1)
        values = {
            "probability": top.values[..., 0],
            "entropy": -torch.where(probabilities > 0, probabilities * logp, 0.0).sum(-1),
            "rank": (logp > target_logp).sum(-1) + 1,
            "kl": _kl(final, logp),
            "target_probability": target_logp[..., 0].exp(),
        }
        for name, value in values.items():
            self.statistics[name][rows, columns] = value.cpu().numpy()
        self.top_ids[rows, columns] = top.indices.cpu().numpy()
        self.top_probabilities[rows, columns] = top.values.cpu().numpy()


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Return KL(p || q) in nats of log-probabilities `[..., vocab]`, at least 0."""
    weights = p.exp()
    return torch.where(weights > 0, weights * (p - q), 0.0).sum(-1).clamp_min(0.0)


def _strings(tokenizer: Any, ids: Array) -> dict[int, str]:
    found = [int(index) for index in np.unique(ids)]
    return dict(zip(found, token_strings(tokenizer, found), strict=True))
