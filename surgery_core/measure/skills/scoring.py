"""Score skills: compare the summed log-probabilities of the answers."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery_core.errors import InputError
from surgery_core.measure.skills.asking import Answer, Tokens, answers_of, asked_batch
from surgery_core.measure.skills.items import Skill, SkillItem, load_skills

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from surgery_core.measure.readout import Readout


@dataclass(frozen=True)
class ItemResult:
    """Log-probabilities of one item's answers, in nats."""

    item: SkillItem
    right: float
    wrong: tuple[float, ...]

    @property
    def margin(self) -> float:
        """Nats by which the right answer is ahead of the best wrong one; negative when it is behind."""
        return math.nan if any(map(math.isnan, self.wrong)) else self.right - max(self.wrong)

    @property
    def correct(self) -> bool:
        """Whether the right answer is strictly the most probable."""
        return self.margin > 0


@dataclass(frozen=True)
class SkillResult:
    """How a model did on one skill."""

    skill: Skill
    items: tuple[ItemResult, ...]

    @property
    def accuracy(self) -> float:
        """Share of the items answered correctly, 0 to 1; NaN where the model's probabilities are not numbers."""
        if any(math.isnan(result.margin) for result in self.items):
            return math.nan
        return sum(result.correct for result in self.items) / len(self.items)

    @property
    def margin(self) -> float:
        """Mean margin in nats."""
        return sum(result.margin for result in self.items) / len(self.items)


def score_skills(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    skills: Sequence[Skill] | None = None,
    *,
    batch_size: int = 32,
    stop: threading.Event | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[SkillResult, ...]:
    """Score several skills (by default the bundled ones), calling `on_progress(done, total)` after each.

    Raises:
        InputError, Stopped: as `score_skill`.
    """
    chosen = load_skills() if skills is None else tuple(skills)
    results = []
    for skill in chosen:
        results.append(score_skill(model, tokenizer, skill, batch_size=batch_size, stop=stop))
        if on_progress is not None:
            on_progress(len(results), len(chosen))
    return tuple(results)


def score_skill(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    skill: Skill,
    *,
    batch_size: int = 32,
    stop: threading.Event | None = None,
) -> SkillResult:
    """Compare the right with the wrong answers of each item.

    An answer's score is the sum of its tokens' log-probabilities in nats, given the prompt. Where the tokens of
    prompt and answer merge, the answer counts from the first token that differs.

    Raises:
        InputError: the batch size is below one, or a prompt has no tokens of its own.
        Stopped: when `stop` was set.
    """
    from surgery_core.measure.readout import Readout
    from surgery_core.stopping import looking

    if batch_size < 1:
        raise InputError(f"The batch size is {batch_size}; it must be 1 or more.")
    answers = [answers_of(tokenizer, item) for item in skill.items]
    reads = sorted({answer.read for group in answers for answer in group}, key=lambda read: (len(read), read))
    wanted = {answer: 0.0 for group in answers for answer in group}
    readout, look = Readout(model), looking(stop, "Stopped before the whole skill was asked.")
    for start in range(0, len(reads), batch_size):
        wanted.update(_score_batch(model, readout, reads[start : start + batch_size], wanted, look))
    rows = [[wanted[answer] for answer in group] for group in answers]
    results = (ItemResult(item, row[0], tuple(row[1:])) for item, row in zip(skill.items, rows, strict=True))
    return SkillResult(skill, tuple(results))


def _score_batch(
    model: PreTrainedModel,
    readout: Readout,
    reads: list[Tokens],
    answers: dict[Answer, float],
    look: Callable[[], None],
) -> dict[Answer, float]:
    """Return the scores of the answers that these prompts lead to."""
    rows = {read: row for row, read in enumerate(reads)}
    here = [answer for answer in answers if answer.read in rows]
    batch = asked_batch(model, reads, [(rows[answer.read], answer) for answer in here])
    losses = iter(readout.figures(readout.read(batch, look), batch.targets, look=look).nll.tolist())
    return {answer: -math.fsum(next(losses) for _ in answer.tokens[answer.start :]) for answer in here}
