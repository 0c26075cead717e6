"""Perplexity, and how an operated model's predictions differ from its base's.

Losses are natural logarithms (nats). Perplexity is exp of the mean loss a token (Jelinek et al. 1977); every token
after a text's first is scored once. Bits per byte is the loss in bits over the UTF-8 bytes that the scored tokens
cover, so that models with different tokenizers compare. Sums are in float64.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from surgery_core.anatomy import context_length, device_of, find_layers
from surgery_core.errors import Stopped
from surgery_core.results import Comparison, ScoreTable, TextComparison, TextScore, TokenLosses
from surgery_core.streams import stream_of
from surgery_core.tail import CHUNK_ELEMENTS, Tail
from surgery_core.text import Text, as_texts, encode, token_bytes, token_strings
from surgery_core.view import operate, plan_of
from surgery_core.windows import DEFAULT_CONTEXT, Batch, Window, batches_of, check_stride, windows_of

Progress = Callable[[int, int], None]

LOGITS_ELEMENTS = 2**26
"""Most logits of one forward pass (256 MB in float32); a larger vocabulary has its head applied in chunks."""

KEPT_BYTES = 2**28
"""Most bytes of logits that a reference keeps; beyond it keeps hidden states and applies the base's head again."""


@dataclass(frozen=True)
class Encoded:
    """Texts as tokens, cut into windows for one model.

    Attributes:
        texts: what was encoded.
        ids: token ids a text.
        sizes: UTF-8 bytes a token.
        context, stride: window and stride in tokens.
        batches: all windows, packed.
    """

    texts: tuple[Text, ...]
    ids: tuple[tuple[int, ...], ...]
    sizes: tuple[tuple[int, ...], ...]
    strings: tuple[tuple[str, ...], ...]
    context: int
    stride: int
    batches: tuple[Batch, ...]


@dataclass(frozen=True, eq=False)
class Reference:
    """The base model's side of a comparison, computed once.

    Attributes:
        encoded: the texts that it is about.
        losses: nats a scored token, one float32 array a text.
        kept: for each batch the base's logits `[n, vocab]`, or the hidden states `[n, d_model]` behind them.
        tail: what turns kept hidden states into logits; None where logits were kept.
    """

    encoded: Encoded
    losses: tuple[np.ndarray[Any, Any], ...]
    kept: tuple[torch.Tensor, ...]
    tail: Tail | None

    @property
    def table(self) -> ScoreTable:
        """Return the base's scores, a row a text."""
        return _table(self.encoded, self.losses)

    def logits(self, number: int, part: slice) -> torch.Tensor:
        """Return the base's logits `[n, vocab]` for a part of batch `number`, in float32."""
        kept = self.kept[number][part]
        return (kept if self.tail is None else self.tail.logits(kept[None])[0]).float()


def score(
    model: nn.Module,
    tokenizer: Any,
    texts: Iterable[Text] | Text | str,
    *,
    stride: int | None = None,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> ScoreTable:
    """Score texts: perplexity, nats and bits a byte, a row a text.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        texts: titled texts, or one string.
        stride: tokens between the windows of a text longer than the context; by default half of it.
        stop: when set, the work ends with `Stopped`.
        on_progress: called with (tokens done, tokens in all).

    Raises:
        TextError: for a text of fewer than two tokens; it is named.
        SettingsError: for a stride that does not fit the context.
        Stopped: when `stop` was set.
    """
    encoded = encode_texts(model, tokenizer, texts, stride)
    losses = _Losses(encoded)
    for number, batch in _walk(encoded, stop, on_progress):
        forward = _Forward(model, batch)
        for part in forward.parts:
            losses.put(batch, part, _nll(forward.logits(part), batch.targets[part]))
        del forward, number
    return _table(encoded, losses.arrays)


def reference(
    model: nn.Module,
    tokenizer: Any,
    texts: Iterable[Text] | Text | str,
    *,
    stride: int | None = None,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> Reference:
    """Score the base once and keep what comparisons with it need. Arguments and errors as for `score`."""
    encoded = encode_texts(model, tokenizer, texts, stride)
    losses, kept = _Losses(encoded), []
    total = sum(len(batch.targets) for batch in encoded.batches) * _vocab(model) * 4
    hidden = total > KEPT_BYTES and len(find_layers(model)[1]) > 0
    for _, batch in _walk(encoded, stop, on_progress):
        forward = _Forward(model, batch, chunked=hidden)
        for part in forward.parts:
            losses.put(batch, part, _nll(forward.logits(part), batch.targets[part]))
        kept.append(forward.scored)
    return Reference(encoded, tuple(losses.arrays), tuple(kept), Tail(model) if hidden else None)


def compare(
    base: nn.Module | Reference,
    operated: nn.Module,
    tokenizer: Any,
    texts: Iterable[Text] | Text | str,
    *,
    stride: int | None = None,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> Comparison:
    """Compare an operated model with its base on texts.

    Args:
        base: the base model, or its `reference` over the same texts, which saves running it again.
        operated: the model to compare.

    Other arguments and errors as for `score`.

    Returns:
        Perplexity on both sides; mean KL(base || operated) in nats a token, at least 0; top-1 agreement (share of
        positions where both predict the same token) and top-5 agreement (share where the base's prediction is
        among the operated model's five likeliest), 0 to 1; and the loss of every token on both sides.
    """
    if not isinstance(base, Reference):
        base = reference(base, tokenizer, texts, stride=stride, stop=stop)
    encoded = base.encoded
    losses, divergence = _Losses(encoded), _Divergence(len(encoded.texts))
    for number, batch in _walk(encoded, stop, on_progress):
        forward = _Forward(operated, batch)
        for part in forward.parts:
            logits = forward.logits(part)
            losses.put(batch, part, _nll(logits, batch.targets[part]))
            divergence.put(batch.texts[part], base.logits(number, part), logits)
    return _comparison(base, losses.arrays, divergence, str(plan_of(operated)))


def encode_texts(
    model: nn.Module, tokenizer: Any, texts: Iterable[Text] | Text | str, stride: int | None = None
) -> Encoded:
    """Return texts as tokens in windows that fit the model. Errors as for `score`."""
    found = as_texts(texts)
    context = context_length(model) or DEFAULT_CONTEXT
    stride = check_stride(stride, context)
    ids = tuple(tuple(encode(tokenizer, text, least=2)) for text in found)
    windows: list[Window] = [w for n, tokens in enumerate(ids) for w in windows_of(n, tokens, context, stride)]
    device = device_of(model)
    return Encoded(
        texts=found,
        ids=ids,
        sizes=tuple(tuple(token_bytes(tokenizer, text, tokens)) for text, tokens in zip(found, ids, strict=True)),
        strings=tuple(tuple(token_strings(tokenizer, tokens)) for tokens in ids),
        context=context,
        stride=stride,
        batches=tuple(batches_of(windows, device)),
    )


class _Forward:
    """One forward pass over a batch; its logits are handed out in parts of bounded size.

    Where all logits would be too large, the model runs up to its last layer, and its own tail makes the logits of
    each part.
    """

    def __init__(self, model: nn.Module, batch: Batch, *, chunked: bool | None = None) -> None:
        vocab = _vocab(model)
        if chunked is None:
            chunked = batch.input_ids.numel() * vocab > LOGITS_ELEMENTS and len(find_layers(model)[1]) > 0
        self.tail = Tail(model) if chunked else None
        states = _last_hidden(model, batch) if chunked else _all_logits(model, batch)
        self.scored = states[batch.rows, batch.columns]
        step = max(1, CHUNK_ELEMENTS // vocab)
        self.parts = [slice(at, at + step) for at in range(0, len(batch.targets), step)]

    def logits(self, part: slice) -> torch.Tensor:
        """Return the logits `[n, vocab]` of a part, in float32."""
        scored = self.scored[part]
        return (scored if self.tail is None else self.tail.logits(scored[None])[0]).float()


class _Losses:
    """Losses by text and position, put together from batches in any order."""

    def __init__(self, encoded: Encoded) -> None:
        self.arrays = [np.full(len(ids) - 1, np.nan, dtype=np.float32) for ids in encoded.ids]

    def put(self, batch: Batch, part: slice, nll: torch.Tensor) -> None:
        """Take the losses `[n]`, in nats, of a part of a batch's scored positions."""
        values = nll.cpu().numpy()
        texts, positions = batch.texts[part].numpy(), batch.positions[part].numpy()
        for text in np.unique(texts):
            here = texts == text
            self.arrays[text][positions[here] - 1] = values[here]


class _Divergence:
    """Sums over each text of KL, top-1 and top-5 agreement, in float64."""

    def __init__(self, n_texts: int) -> None:
        self.sums = torch.zeros((n_texts, 3), dtype=torch.float64)

    def put(self, texts: torch.Tensor, base: torch.Tensor, operated: torch.Tensor) -> None:
        """Add positions: the text of each, `[n]`, and its logits on both sides, `[n, vocab]`."""
        p, q = base.log_softmax(-1), operated.log_softmax(-1)
        weights = p.exp()
        kl = torch.where(weights > 0, weights * (p - q), 0.0).sum(-1)
        top = p.argmax(-1)
        five = q.topk(min(5, q.shape[-1]), dim=-1).indices
        columns = torch.stack([kl, (q.argmax(-1) == top).float(), (five == top[:, None]).any(-1).float()], dim=-1)
        self.sums.index_add_(0, texts, columns.double().cpu())


def _walk(encoded: Encoded, stop: threading.Event | None, on_progress: Progress | None) -> Iterable[tuple[int, Batch]]:
    done, total = 0, sum(len(batch.targets) for batch in encoded.batches)
    for number, batch in enumerate(encoded.batches):
        if stop is not None and stop.is_set():
            raise Stopped("Stopped before all texts were scored.")
        yield number, batch
        done += len(batch.targets)
        if on_progress is not None:
            on_progress(done, total)


def _all_logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    with torch.inference_mode():
        output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    logits: torch.Tensor = output.logits
    return logits


def _last_hidden(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return what leaves the last layer, `[batch, seq, width]`, recorded on a private view."""
    path, layers = find_layers(model)
    view = operate(model, f"0-{len(layers) - 1}")
    seen: list[Any] = [None]

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        seen[0] = output

    # the last that runs: some layers do so only where there is an image
    for layer in view.get_submodule(path):
        layer.register_forward_hook(keep)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    with torch.inference_mode():
        _without_head(view)(**inputs, use_cache=False)
    return stream_of(model).leaving(seen[0])


def _without_head(view: Any) -> Any:
    """Return the view's body where it has one, so that no logits are made."""
    body = view.base_model
    return body if body is not view else view


def _nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, targets, reduction="none")


def _vocab(model: nn.Module) -> int:
    head = model.get_output_embeddings()  # type: ignore[operator]
    return int(head.weight.shape[0]) if head is not None else int(model.config.vocab_size)  # type: ignore[union-attr, arg-type]


def _table(encoded: Encoded, losses: Sequence[np.ndarray[Any, Any]]) -> ScoreTable:
    return ScoreTable(tuple(_row(encoded, number, array) for number, array in enumerate(losses)))


def _row(encoded: Encoded, number: int, losses: np.ndarray[Any, Any]) -> TextScore:
    text = encoded.texts[number]
    return TextScore(
        title=text.title,
        kind=text.kind,
        n_tokens=len(losses),
        n_bytes=sum(encoded.sizes[number][1:]),
        nats=float(losses.astype(np.float64).sum()),
        context=encoded.context,
        stride=encoded.stride if len(encoded.ids[number]) > encoded.context else None,
    )


def _comparison(
    base: Reference, losses: Sequence[np.ndarray[Any, Any]], divergence: _Divergence, plan: str
) -> Comparison:
    encoded, before, after = base.encoded, base.table, _table(base.encoded, losses)
    rows = []
    for number, (left, right) in enumerate(zip(before.rows, after.rows, strict=True)):
        kl, top1, top5 = (divergence.sums[number] / left.n_tokens).tolist()
        tokens = TokenLosses(encoded.strings[number], base.losses[number], losses[number])
        rows.append(TextComparison(left, right, max(kl, 0.0), top1, top5, tokens))
    return Comparison(tuple(rows), plan)
