"""Which texts a heal trains on and which it is judged by, and in which order pieces of them come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import nn

from surgery_core.errors import TextError
from surgery_core.states.windows import Window, window_length, windows_of
from surgery_core.surgery.anatomy import context_length
from surgery_core.text import Text, TextsLike, as_texts, encode

HELD_OUT = 8
"""Of so many texts one is held out; of fewer the last one, and of a single text its end."""
MOST_HELD = 16
"""Texts that are held out at most: they are read many times."""
LEAST_TRAINED, LEAST_HELD = 256, 32
"""Tokens that there have to be to train on, and to be judged by."""


@dataclass(frozen=True)
class Lessons:
    """Texts of a heal, no two with the same words.

    Attributes:
        trained: what updates are trained on.
        held: what is never trained on: states are chosen and figures made by these.
    """

    trained: tuple[Text, ...]
    held: tuple[Text, ...]


def divided(texts: TextsLike) -> Lessons:
    """Return texts as those that are trained on and those held out.

    Every eighth is held out, 16 at most; of fewer than eight the last one; of a single text its last eighth, cut between
    words. A text that is there twice counts once, so that none can be on both sides.

    Raises:
        TextError: when there is no text, or a single one too short to be cut.
    """
    found = list({text.text: text for text in as_texts(texts)}.values())
    if len(found) == 1:
        found = _in_two(found[0])
    numbers = range(HELD_OUT - 1, len(found), HELD_OUT)[:MOST_HELD] or range(len(found) - 1, len(found))
    held = tuple(found[number] for number in numbers)
    return Lessons(tuple(text for number, text in enumerate(found) if number not in numbers), held)


def _in_two(text: Text) -> list[Text]:
    at = text.text.find(" ", len(text.text) * (HELD_OUT - 1) // HELD_OUT)
    beginning, end = text.text[:at], text.text[at + 1 :]
    if at < 0 or not beginning.strip() or not end.strip():
        raise TextError(
            f"{text.title} is a single text that is too short to hold its end out; give a longer one, or several texts."
        )
    whole = replace(text, window=None)
    return [
        replace(whole, title=f"{text.title}, beginning", text=beginning),
        replace(whole, title=f"{text.title}, end", text=end),
    ]


def pieces(model: nn.Module, tokenizer: Any, lessons: Lessons, window: int) -> list[Window]:
    """Return the texts that are trained on, in windows that the model reads at once.

    Raises:
        TextError: when there are too few tokens on either side; says how many are needed.
    """
    length = min(window, context_length(model) or window, window_length(model))
    ids = [encode(tokenizer, text, least=0) for text in lessons.trained]
    n_held = sum(len(encode(tokenizer, text, least=0)) for text in lessons.held)
    n_trained = sum(map(len, ids))
    if n_trained < LEAST_TRAINED or n_held < LEAST_HELD:
        raise TextError(
            f"The texts have {n_trained:,} tokens to train on and {n_held:,} to be judged by; healing needs at least "
            f"{LEAST_TRAINED} and {LEAST_HELD}. Add more text."
        )
    return [one for number, own in enumerate(ids) for one in windows_of(number, own, length, length)]


def steps_of(windows: Sequence[Window], tokens: int, seed: int, skip: int = 0) -> Iterator[tuple[Window, ...]]:
    """Yield the windows of one step after another, for ever: all of them in a new order in each round.

    Args:
        windows: of all texts.
        tokens: of a step; its last window may reach beyond.
        seed: decides the order.
        skip: steps that are left out, because they are done.
    """
    done = 0
    for turn in count():
        generator = torch.Generator().manual_seed(seed * 1_000_003 + turn)
        order = [windows[at] for at in torch.randperm(len(windows), generator=generator).tolist()]
        for step in _packed(order, tokens):
            done += 1
            if done > skip:
                yield step


def _packed(order: Sequence[Window], tokens: int) -> Iterator[tuple[Window, ...]]:
    held: list[Window] = []
    for window in order:
        held.append(window)
        if sum(len(one.ids) for one in held) >= tokens:
            yield tuple(held)
            held = []
    if held:
        yield tuple(held)
