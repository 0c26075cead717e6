"""Cut texts into windows that fit a model's context, and pack the windows into padded batches.

Every token after a text's first is scored exactly once. A text longer than the context is read in windows that
start every `stride` tokens; each window scores only the tokens that no earlier one has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import nn

from surgery_core.errors import SettingsError
from surgery_core.surgery.anatomy import context_length

BATCH_TOKENS = 2048
"""Tokens of one forward pass (a longer window runs alone); also how soon a stop is noticed."""

PADDING = {"cpu": 96}
"""Padded places of one forward pass at most, by kind of device: more cost a CPU more time than a pass of their own. A
device that is not here runs a pass for many tokens in the time of one for few."""

DEFAULT_CONTEXT = 2048
"""Window of a model that states no context length."""

MAX_CONTEXT = 8192
"""Longest window that texts are scored in: attention over more costs memory and time that grow with its square."""


def window_length(model: nn.Module, most: int = MAX_CONTEXT) -> int:
    """Return how many tokens of a text a model reads at once: its context, or 2,048 where it states none, at most `most`."""
    return min(context_length(model) or DEFAULT_CONTEXT, most)


@dataclass(frozen=True)
class Window:
    """Tokens `begin` to `begin + len(ids)` of text number `text`; those from `first` on are scored."""

    text: int
    begin: int
    ids: tuple[int, ...]
    first: int


@dataclass(frozen=True)
class Batch:
    """Right-padded windows and the places whose logits predict a scored token.

    Attributes:
        input_ids: `[batch, seq]`.
        attention_mask: `[batch, seq]`, 0 where padded.
        rows, columns: `[n]`, where the n predicting logits stand in `[batch, seq]`.
        targets: `[n]`, the tokens that they should predict.
        texts, positions: `[n]`, the text and the position in it of each target.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor
    texts: torch.Tensor
    positions: torch.Tensor


def check_stride(stride: int | None, context: int) -> int:
    """Return the stride, by default half of the context.

    Raises:
        SettingsError: when it is not between 1 and the context.
    """
    if stride is None:
        return max(1, context // 2)
    if not 1 <= stride <= context:
        raise SettingsError(f"The stride is {stride}; it must be between 1 and the context of {context} tokens.")
    return stride


def windows_of(text: int, ids: Sequence[int], context: int, stride: int) -> Iterator[Window]:
    """Yield the windows of one text."""
    scored, begin = 1, 0
    while scored < len(ids):
        end = min(begin + context, len(ids))
        yield Window(text, begin, tuple(ids[begin:end]), scored)
        scored, begin = end, begin + min(stride, context - 1)


def batches_of(windows: Sequence[Window], device: torch.device, passes: int = 1) -> Iterator[Batch]:
    """Yield batches of windows of similar length, longest first.

    Args:
        windows: in any order.
        device: where they run.
        passes: how many plans run a batch in one pass; all of them have its padding.
    """
    pending = sorted(windows, key=lambda window: (-len(window.ids), window.text, window.begin))
    padding = PADDING.get(device.type, BATCH_TOKENS) // passes
    while pending:
        size = _together([len(window.ids) for window in pending], padding)
        yield _batch(pending[:size], device)
        pending = pending[size:]


def _together(lengths: Sequence[int], padding: int) -> int:
    """Return how many of these windows, the longest first, run in one pass."""
    padded = accumulate(lengths[0] - length for length in lengths[: max(1, BATCH_TOKENS // lengths[0])])
    return sum(waste <= padding for waste in padded)


def _batch(windows: Sequence[Window], device: torch.device) -> Batch:
    width = max(len(window.ids) for window in windows)
    ids = torch.zeros((len(windows), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    places: list[torch.Tensor] = []
    for row, window in enumerate(windows):
        length = len(window.ids)
        ids[row, :length] = torch.tensor(window.ids)
        mask[row, :length] = 1
        positions = torch.arange(window.first, window.begin + length)
        columns = positions - window.begin - 1
        targets = ids[row, columns + 1]
        constant = torch.ones_like(positions)
        places.append(torch.stack([constant * row, columns, targets, constant * window.text, positions]))
    rows, columns, targets, texts, positions = torch.cat(places, dim=1)
    return Batch(
        ids.to(device), mask.to(device), rows.to(device), columns.to(device), targets.to(device), texts, positions
    )
