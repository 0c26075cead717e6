"""The prompts of skills as tokens: what the model reads, and which tokens of which answers are scored."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from surgery_core.errors import InputError
from surgery_core.measure.skills.items import SkillItem
from surgery_core.text import Text, encode

if TYPE_CHECKING:
    from surgery_core.states.windows import Batch

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """One answer as tokens: `tokens[start:]` are scored, given those before."""

    tokens: Tokens
    start: int

    @property
    def read(self) -> Tokens:
        """What the model has to read; answers of one token to the same prompt share it."""
        return self.tokens[:-1]


def answers_of(tokenizer: Any, item: SkillItem) -> list[Answer]:
    """Return an item's answers as tokens, the right one first.

    Raises:
        InputError: when its prompt has no tokens of its own.
    """
    prompt = encode(tokenizer, Text("The prompt", item.prompt), least=0)
    wholes = [encode(tokenizer, Text("The answer", item.prompt + answer)) for answer in item.answers]
    shared = sum(1 for _ in takewhile(lambda place: len(set(place)) == 1, zip(prompt, *wholes, strict=False)))
    if not shared:
        raise InputError(f"The prompt {item.prompt!r} has no token of its own in this tokenizer; write a longer one.")
    return [Answer(tuple(whole), shared) for whole in wholes]


def asked_batch(model: Any, reads: list[Tokens], answers: list[tuple[int, Answer]]) -> Batch:
    """Return prompts as a batch that scores the tokens of answers, each given with its row. Padding is on the right."""
    import torch

    from surgery_core.states.windows import Batch
    from surgery_core.surgery.anatomy import device_of

    length, device = max(map(len, reads)), device_of(model)
    ids = torch.tensor([[*read, *[0] * (length - len(read))] for read in reads], device=device)
    mask = torch.tensor([[1] * len(read) + [0] * (length - len(read)) for read in reads], device=device)
    places = [
        (row, position - 1, answer.tokens[position])
        for row, answer in answers
        for position in range(answer.start, len(answer.tokens))
    ]
    rows, columns, targets = torch.tensor(places, device=device).T
    return Batch(ids, mask, rows, columns, targets, rows.cpu(), columns.cpu() + 1)
