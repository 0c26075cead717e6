"""Lenses: what each layer would have the model say next.

A lens decodes the residual stream of a layer into next-token logits. The logit lens (nostalgebraist 2020) applies
the model's own final norm and unembedding to it. Statistics follow Belrose et al., "Eliciting Latent Predictions
from Transformers with the Tuned Lens" (arXiv 2303.08112), and are in nats.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import nn

from surgery_core.errors import TextError
from surgery_core.lenses.trajectory import Array, Trajectory
from surgery_core.measure.divergence import cell_statistics, likeliest, log_probabilities
from surgery_core.measure.readout import pieces, rows_at_once
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.finite import broken_weights, not_finite
from surgery_core.states.residuals import Point, Residuals, points_of, residuals
from surgery_core.states.tail import Tail
from surgery_core.states.windows import DEFAULT_CONTEXT, Batch, window_length
from surgery_core.stopping import Progress, looking
from surgery_core.surgery.anatomy import device_of, plan_of
from surgery_core.text import Text, encode, token_strings

STOPPED = "Stopped before the whole text was read."

TARGETED = ("rank", "cross_entropy", "target_probability")
"""Statistics of the token that comes next, which the last token has not."""


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


def translators_of(plan: LayerPlan, follow: Follow = "layer", *, sublayers: bool = False) -> list[int | None]:
    """Return the translator of each row of a trajectory: of `"input"`, then of each slot.

    A translator belongs to what enters a layer of the base. After surgery it follows its layer (what leaves layer
    5, wherever it runs, is read by translator 6) or its position (the third row is read by translator 2, whatever
    ran before). The last row is the model's own output and has none, nor has what leaves the base's last layer. A
    point inside a layer, for which no translator is trained, is read by the one of what enters that layer.
    """
    rows = [_translator(plan, point, follow) for point in points_of(plan, sublayers)]
    return [*(row if row < plan.n_layers else None for row in rows[:-1]), None]


def rows_of(lens: Lens, model: nn.Module, follow: Follow = "layer", *, sublayers: bool = False) -> list[int | None]:
    """Return the translator of each row that a lens reads in a model, as `translators_of`.

    A lens that was fitted on an operated model has one for each of its slots, and follows nothing.
    """
    return translators_by(plan_of(model), follow, by_slot=getattr(lens, "by_slot", False), sublayers=sublayers)


def translators_by(
    plan: LayerPlan, follow: Follow = "layer", *, by_slot: bool = False, sublayers: bool = False
) -> list[int | None]:
    """Return the translator of each row as `translators_of`; `by_slot` for those that were fitted on this very plan."""
    if not by_slot:
        return translators_of(plan, follow, sublayers=sublayers)
    return [*(_translator(plan, point, "position") for point in points_of(plan, sublayers)[:-1]), None]


def _translator(plan: LayerPlan, point: Point, follow: Follow) -> int:
    if point.slot < 0:
        return 0
    if follow == "position":
        return point.slot + (not point.mid)
    return max(layer.index for layer in plan[point.slot].layers) + (not point.mid)


def read_lens(
    lens: Lens,
    model: nn.Module,
    tokenizer: Any,
    text: Text | str,
    *,
    follow: Follow = "layer",
    sublayers: bool = False,
    picked: int | None = None,
    top_k: int = 10,
    start: int = 0,
    max_tokens: int | None = None,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> Trajectory:
    """Read a text through a lens at every layer.

    Args:
        lens: what turns residual stream states into logits.
        model: the model (or view) whose residual stream is read.
        tokenizer: its tokenizer.
        text: the text. Of one that is longer than the model's context, or `max_tokens`, a window of that length is
            read; `note` says so.
        follow: whether translators of a tuned or Jacobian lens follow their layer or their position; see `translators_of`.
        sublayers: whether to read after each layer's attention too.
        picked: a token whose log-probability is wanted as the statistic `picked`; see `one_token`.
        top_k: how many of the likeliest tokens are kept a cell.
        start: the first token of the window. The model sees nothing before it.
        max_tokens: most tokens that are read, by default 2,048: every layer's states are held at once.
        stop: when set, the work ends with `Stopped`.
        on_progress: called with (cells read, cells in all), a cell being a row at a token.

    Raises:
        TextError: when the text has no token, or none from `start` on.
        AnatomyError: when `sublayers` is asked of layers that have no point after their attention.
        Stopped: when `stop` was set.
    """
    text = Text("The text", text) if isinstance(text, str) else text
    ids, total = lens_window(model, encode(tokenizer, text, least=1), start, max_tokens)
    inputs, look = torch.tensor([ids], device=device_of(model)), looking(stop, STOPPED)
    stream = residuals(model, inputs, sublayers=sublayers, look=look)
    translators = rows_of(lens, model, follow, sublayers=sublayers)
    reader = _Reader(lens, translators, stream, torch.tensor(ids), top_k, picked)
    reader.read(look, on_progress)
    return Trajectory(
        tokens=tuple(token_strings(tokenizer, ids)),
        labels=stream.labels,
        origins=tuple(point.origin for point in stream.points),
        statistics=reader.statistics,
        top_ids=reader.top_ids,
        top_probabilities=reader.top_probabilities,
        top_tokens=_strings(tokenizer, reader.top_ids),
        note=_note(start, len(ids), total),
        start=start,
        total=total,
        not_finite=broken_weights(model) or (_not_finite(model, inputs) if reader.broken else ""),
    )


def one_token(tokenizer: Any, text: str) -> int:
    """Return the token that a person means: `text` as it stands, or with a space before it.

    Raises:
        TextError: when neither is a single token.
    """
    forms = (text, f" {text}") if text else ()
    tried = [tokenizer(form, add_special_tokens=False)["input_ids"] for form in forms] or [[]]
    ids = next((ids for ids in tried if len(ids) == 1), None)
    if ids is None:
        parts = ", ".join(repr(part) for part in token_strings(tokenizer, tried[0])) or "none"
        raise TextError(f"{text!r} is not one token here (its tokens: {parts}); pick one token.")
    return int(ids[0])


def token_text(tokenizer: Any, index: int) -> str | None:
    """Return a text that `one_token` reads as this token; None where there is none, as for a part of a character."""
    written = token_strings(tokenizer, [index])[0]
    for text in (written, written.removeprefix(" ")):
        try:
            if one_token(tokenizer, text) == index:
                return text
        except TextError:
            continue
    return None


def chunks(states: torch.Tensor, vocab: int, look: Callable[[], None]) -> Iterator[tuple[slice, slice]]:
    """Yield (rows, tokens) of chunks of the cells `[rows, seq, d_model]` that are decoded at once; `look` is called before each."""
    (rows, seq), at_once = states.shape[:2], rows_at_once(vocab, states.device)
    # as many at a time, so that no product has few
    width = max(1, -(-seq // max(1, -(-seq // at_once))))
    height = max(1, at_once // width)
    for left in range(0, seq, width):
        for top in range(0, rows, height):
            look()
            yield slice(top, top + height), slice(left, left + width)


def lens_window(
    model: nn.Module, ids: list[int], start: int = 0, max_tokens: int | None = None
) -> tuple[list[int], int]:
    """Return the tokens that a lens reads at once, and how many there are in all.

    Args:
        model: whose context bounds the window.
        ids: of the whole text.
        start: the first token.
        max_tokens: most tokens, by default 2,048.

    Raises:
        TextError: when there is no token `start`.
    """
    if not 0 <= start < len(ids):
        raise TextError(f"There is no token {start}; the text's {len(ids):,} tokens are 0 to {len(ids) - 1}.")
    limit = window_length(model, DEFAULT_CONTEXT if max_tokens is None else max_tokens)
    return ids[start : start + limit], len(ids)


def _not_finite(model: nn.Module, input_ids: torch.Tensor) -> str:
    nothing = torch.zeros(0, dtype=torch.long)
    mask = torch.ones_like(input_ids)
    return not_finite(model, Batch(input_ids, mask, nothing, nothing, nothing, nothing, nothing))


def _note(start: int, count: int, total: int) -> str:
    if count == total:
        return ""
    before = " The model sees nothing before them." if start else ""
    return f"Tokens {start:,} to {start + count - 1:,} of {total:,} are read, counted from 0.{before}"


class _Reader:
    """Fills arrays `[rows, seq]` with statistics, a chunk of cells at a time."""

    def __init__(
        self,
        lens: Lens,
        translators: list[int | None],
        stream: Residuals,
        ids: torch.Tensor,
        top_k: int,
        picked: int | None,
    ) -> None:
        self.lens, self.translators, self.picked = lens, translators, picked
        self.states, self.broken = stream.states, False
        with torch.inference_mode():
            self.vocab = lens.decode(self.states[-1:, :1], [None]).shape[-1]
        self.targets = torch.cat([ids[1:], ids[-1:]]).to(self.states.device)
        self.rows, self.seq = self.states.shape[:2]
        self.statistics: dict[str, Array] = {}
        self.top_k = min(top_k, self.vocab)
        self.top_ids = np.zeros((self.rows, self.seq, self.top_k), dtype=np.int64)
        self.top_probabilities = np.zeros((self.rows, self.seq, self.top_k), dtype=np.float32)

    def read(self, look: Callable[[], None], on_progress: Progress | None = None) -> None:
        """Fill all figures in chunks; `look` may raise to stop the work."""
        done = 0
        columns, final = slice(0, 0), torch.empty(0)
        with torch.inference_mode():
            for rows, tokens in chunks(self.states, self.vocab, look):
                if tokens != columns:
                    # the last row is the model's own output
                    own = self.lens.decode(self.states[-1:, tokens], [None])[0]
                    columns, final = tokens, log_probabilities(own)
                self._chunk(rows, columns, final)
                done += self.states[rows, tokens, 0].numel()
                if on_progress is not None:
                    on_progress(done, self.rows * self.seq)
        for name in TARGETED:
            self.statistics[name][:, -1] = np.nan

    def _chunk(self, rows: slice, columns: slice, final: torch.Tensor) -> None:
        logits = self.lens.decode(self.states[rows, columns], self.translators[rows])
        for part in pieces(logits):
            where = slice(columns.start + part.start, columns.start + part.stop)
            self._cells(rows, where, logits[:, part], final[part])

    def _cells(self, rows: slice, columns: slice, logits: torch.Tensor, final: torch.Tensor) -> None:
        logp = log_probabilities(logits)
        targets = self.targets[columns].to(logp.device)
        for name, value in cell_statistics(logp, final, targets, self.picked).items():
            if name not in self.statistics:
                self.statistics[name] = np.full((self.rows, self.seq), np.nan, dtype=np.float32)
            self.statistics[name][rows, columns] = value.cpu().numpy()
        self.broken = self.broken or bool(logp[..., 0].isnan().any())
        values, indices = likeliest(logp, self.top_k)
        self.top_ids[rows, columns] = indices.cpu().numpy()
        self.top_probabilities[rows, columns] = values.exp().cpu().numpy()


def _strings(tokenizer: Any, ids: Array) -> dict[int, str]:
    found = [int(index) for index in np.unique(ids)]
    return dict(zip(found, token_strings(tokenizer, found), strict=True))
