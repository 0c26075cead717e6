"""What a lens says of the answers to a skill's items, from the residual stream at any layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from surgery_core.errors import AnatomyError
from surgery_core.lenses.translating import TranslatingLens
from surgery_core.measure.readout import Readout
from surgery_core.measure.skills import SkillItem
from surgery_core.measure.skills.asking import Answer, Tokens, answers_of, asked_batch
from surgery_core.surgery.stream_form import stream_of


class AnswerReader:
    """The prompts of some items as one batch, and what the states at its places say of each answer.

    An answer's score is the sum of its tokens' log-probabilities in nats, as `score_skill` has it.

    Args:
        model: the base, or a view of it, whose norm and unembedding decode.
        tokenizer: its tokenizer.
        items: what is asked; each has rows of its own in the batch, one for every different beginning of its answers.
        lens: a tuned or Jacobian lens, for states inside the model; without one they are decoded as they are (the logit lens).

    Attributes:
        batch: the prompts, padded on the right; its scored places are those of the answers' tokens.
        item_of_row: `[rows]`, which item each row of the batch belongs to.

    Raises:
        AnatomyError: when layers hand on more than one state a token, or what comes behind them needs more.
        InputError: when a prompt has no tokens of its own.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, items: Sequence[SkillItem], lens: Any = None) -> None:
        self.readout = Readout(model)
        if self.readout.whole or not stream_of(model).is_plain:
            raise AnatomyError(
                f"The answers of a {type(model).__name__} cannot be read at its layers, which hand on more than one state "
                "for each token. Score the skill on the whole model instead."
            )
        self.lens = lens if isinstance(lens, TranslatingLens) else None
        self.answers = [answers_of(tokenizer, item) for item in items]
        reads = [list(dict.fromkeys(answer.read for answer in group)) for group in self.answers]
        rows: dict[tuple[int, Tokens], int] = {}
        for item, own in enumerate(reads):
            rows |= {(item, read): len(rows) + number for number, read in enumerate(own)}
        asked = [(rows[item, answer.read], answer) for item, group in enumerate(self.answers) for answer in group]
        self.batch = asked_batch(model, [read for _, read in rows], asked)
        self.item_of_row = torch.tensor([item for item, _ in rows])
        self._answer_of_place = torch.tensor(
            [number for number, (_, answer) in enumerate(asked) for _ in range(_scored(answer))]
        )
        self._n_answers = len(asked)
        # answers of one prompt are read at the same positions
        where = torch.stack([self.batch.rows.cpu(), self.batch.columns.cpu()], dim=1)
        unique, self._position_of_place = where.unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
        self._rows, self._columns = unique.T

    def scores(
        self, states: torch.Tensor, translator: int | None, look: Callable[[], None] = lambda: None
    ) -> torch.Tensor:
        """Return the scores `[k, answers]` of all answers, in nats and float64 on the CPU, item after item.

        Args:
            states: `[k, rows, seq, d_model]`, the batch's residual stream in k ways.
            translator: of that lens; None where the states leave the last layer, or are to be decoded as they are.
            look: called between chunks; it may raise to stop the work.
        """
        k, positions = len(states), len(self._rows)
        picked = states[:, self._rows.to(states.device), self._columns.to(states.device)]
        if self.lens is not None:
            picked = self.lens.transform(picked, translator)
        with torch.inference_mode():
            entered = self.readout.enter(picked.reshape(k * positions, -1))
        places = (positions * torch.arange(k)[:, None] + self._position_of_place).flatten()
        nll = self.readout.losses(entered, places, self.batch.targets.repeat(k), look)
        found = torch.zeros((k, self._n_answers), dtype=torch.float64)
        return found.index_add_(1, self._answer_of_place, -nll.reshape(k, -1).cpu().double())

    def margins(self, scores: torch.Tensor, right: Sequence[int]) -> torch.Tensor:
        """Return by how many nats one answer of each item is ahead of the best of its others, `[k, items]`.

        Args:
            scores: `[k, answers]`, of `scores`.
            right: which of each item's answers that is; 0 is the one that is right.
        """
        columns: list[torch.Tensor] = []
        at = 0
        for group, chosen in zip(self.answers, right, strict=True):
            own = scores[:, at : at + len(group)]
            others = torch.cat([own[:, :chosen], own[:, chosen + 1 :]], dim=1)
            # `amax` is NaN where one of them is
            columns.append(own[:, chosen] - others.amax(1))
            at += len(group)
        return torch.stack(columns, dim=1)


def _scored(answer: Answer) -> int:
    return len(answer.tokens) - answer.start
