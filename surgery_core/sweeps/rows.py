"""Rows of a sweep: what was measured of each plan, the names of the figures, and the rows as a frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from surgery_core.statistics.items import mean_share
from surgery_core.statistics.verdict import checked_margin, same_within
from surgery_core.sweeps.kinds import Axis

NAN = float("nan")

RIGHT, WRONG = "r", "w"
"""How an answer stands in `SweepRow.answers`."""
METRICS = {
    "perplexity": "Perplexity",
    "bits_per_byte": "Bits a byte",
    "loss_change": "Change of loss, nats a token",
    "kl": "KL(base || operated), nats a token",
    "top1": "Top-1 kept",
    "top5": "Top-5 kept",
    "skill_accuracy": "Skill accuracy",
    "distinct_2": "Distinct 2-grams of its text",
}
"""Metrics of a row that can be drawn, and what axes call them."""


@dataclass(frozen=True)
class SweepRow:
    """What one plan of a sweep came to.

    Attributes:
        number: of its point, from 0; -1 for the plan that the sweep starts from.
        x, y: where it stands on the chart.
        plan: in notation.
        nats: mean loss a token.
        loss_change: `nats` less that of the plan that the sweep starts from.
        perplexity, bits_per_byte: over all texts.
        kl: mean KL(base || operated) in nats a token; NaN where it was not asked for.
        top1, top5: share of positions where the base's prediction is the first, or among the first five, 0 to 1.
        texts: mean loss in nats a token by the text's title.
        skills: accuracy by skill, 0 to 1, where asked for.
        answers: which of a skill's prompts were answered right, in their order, by skill: `"rrwr"`; empty where the
            probabilities are no numbers, and for rows of earlier releases.
        skill_p: two-sided, of no change of the answers, prompt by prompt (McNemar); the rows of a sweep are a family of
            such tests. NaN for the plan that the sweep starts from.
        skill_verdict: on the answers in one word, as of `Verdict`.
        distinct: distinct-1, -2 and -3 of the text that it writes (Li et al., arXiv 1510.03055), where asked for.
        change_low, change_high: the 95 % interval of `loss_change`, over the same texts before and after
            (`surgery_core.statistics`); NaN for the plan that the sweep starts from.
        kl_low, kl_high, top1_low, top1_high, top5_low, top5_high: those of the other figures.
        p: two-sided, of no change of the loss; the rows of a sweep are a family of such tests.
        verdict: on the loss in one word, as of `Verdict`; two models count as the same within 2 % (see `within`).
        seconds: that it took.
        refused: why it was not run, or failed while it ran; all figures are NaN then.
        not_finite: where the plan's states are not numbers, as a sentence; figures of texts where they are not are NaN.
        left: after which part of the texts it was left, as a sentence, because it was surely not among the best that
            were looked for; its figures are of those texts only. Empty where it was measured to the end.
        unproved: why it is not known that the figures are right; empty where plans of this kind passed their checks.
    """

    number: int
    x: Axis
    y: Axis | None
    plan: str
    nats: float = NAN
    loss_change: float = NAN
    perplexity: float = NAN
    bits_per_byte: float = NAN
    kl: float = NAN
    top1: float = NAN
    top5: float = NAN
    change_low: float = NAN
    change_high: float = NAN
    kl_low: float = NAN
    kl_high: float = NAN
    top1_low: float = NAN
    top1_high: float = NAN
    top5_low: float = NAN
    top5_high: float = NAN
    p: float = NAN
    verdict: str = ""
    texts: Mapping[str, float] = field(default_factory=dict)
    skills: Mapping[str, float] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    skill_p: float = NAN
    skill_verdict: str = ""
    distinct: tuple[float, ...] = ()
    seconds: float = 0.0
    refused: str = ""
    not_finite: str = ""
    unproved: str = ""
    left: str = ""

    @property
    def skill_accuracy(self) -> float:
        """Return the mean accuracy over the skills, 0 to 1; NaN where none was asked for."""
        return math.fsum(self.skills.values()) / len(self.skills) if self.skills else NAN

    @property
    def skill_accuracy_low(self) -> float:
        """Return the lower end of the 95 % interval of `skill_accuracy`, on prompts like these; NaN where there is none."""
        return self._skill_ends[0]

    @property
    def skill_accuracy_high(self) -> float:
        """Return the upper end, likewise."""
        return self._skill_ends[1]

    @cached_property
    def _skill_ends(self) -> tuple[float, float]:
        if not self.answers or not all(self.answers.values()):
            return NAN, NAN
        return mean_share([(given.count(RIGHT), len(given)) for given in self.answers.values()])

    @property
    def distinct_2(self) -> float:
        """Return the share of different pairs of tokens in the text that it writes, 0 to 1, or NaN."""
        return self.distinct[1] if len(self.distinct) > 1 else NAN

    def interval(self, metric: str) -> tuple[float, float]:
        """Return the 95 % interval of a figure of `METRICS`; NaN where there is none."""
        if metric == "perplexity":
            # what is uncertain is the change against the starting plan, whose texts are the same
            return tuple(self.perplexity * _exp(end - self.loss_change) for end in (self.change_low, self.change_high))  # type: ignore[return-value]
        name = "change" if metric == "loss_change" else metric
        return getattr(self, f"{name}_low", NAN), getattr(self, f"{name}_high", NAN)

    def within(self, margin: float) -> SweepRow:
        """Return the row with the verdict that it has where another share of the perplexity counts as the same.

        Raises:
            SettingsError: when the margin is not between 0 and 1.
        """
        if self.verdict not in ("the same", "no difference seen"):
            return self
        same = same_within(self.change_low, self.change_high, checked_margin(margin))
        return replace(self, verdict="the same" if same else "no difference seen")

    def record(self) -> dict[str, Any]:
        """Return the row flat: a column a figure, `loss: TITLE` a text and `skill: NAME` a skill."""
        plain = {name: getattr(self, name) for name in (*_PLAIN, "skill_accuracy", *_OF_SKILLS)}
        texts = {f"loss: {title}": value for title, value in self.texts.items()}
        skills = {f"skill: {name}": value for name, value in self.skills.items()}
        answers = {f"{ANSWERS}{name}": given for name, given in self.answers.items()}
        distinct = {f"distinct_{n}": value for n, value in enumerate(self.distinct, 1)}
        return plain | distinct | skills | answers | texts

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> SweepRow:
        """Return the row of a flat record, numbers as numbers.

        Raises:
            ValueError: when a figure is no number.
            KeyError: when a column is missing.
        """
        named = {prefix: _named(record, f"{prefix}: ") for prefix in ("loss", "skill")}
        distinct = [float(record[name]) for name in _DISTINCT if record.get(name) not in (None, "")]
        answers = {
            name.removeprefix(ANSWERS): _text(given) for name, given in record.items() if name.startswith(ANSWERS)
        }
        found = {name: record[name] for name in _FIGURES} | {
            name: record.get(name) for name in (*_INTERVALS, "skill_p")
        }
        figures = {name: NAN if _empty(value) else float(value) for name, value in found.items()}
        return cls(
            number=int(record["number"]), x=_axis(record["x"]), y=None if _empty(record["y"]) else _axis(record["y"]),
            plan=_text(record["plan"]), verdict=_text(record.get("verdict")), texts=named["loss"], skills=named["skill"],
            answers=answers if any(answers.values()) else {}, skill_verdict=_text(record.get("skill_verdict")),
            distinct=tuple(distinct), refused=_text(record["refused"]), not_finite=_text(record.get("not_finite")),
            unproved=_text(record.get("unproved")), left=_text(record.get("left")), **figures,
        )  # fmt: skip


def frame(rows: Iterable[SweepRow]) -> pd.DataFrame:
    """Return one line a row, in the order of their numbers; columns as in `SweepRow.record`."""
    return pd.DataFrame([row.record() for row in sorted(rows, key=lambda row: row.number)])


_FIGURES = ("nats", "loss_change", "perplexity", "bits_per_byte", "kl", "top1", "top5", "seconds")
_INTERVALS = (
    "change_low", "change_high", "kl_low", "kl_high", "top1_low", "top1_high", "top5_low", "top5_high", "p",
)  # fmt: skip
_OF_SKILLS = ("skill_accuracy_low", "skill_accuracy_high", "skill_p", "skill_verdict")
LATER = ("not_finite", "unproved", *_INTERVALS, "verdict", "left", *_OF_SKILLS)
"""Columns that results files of version 0.1 do not have; nor those that begin with `ANSWERS`."""
ANSWERS = "answers: "
"""What the columns with the answers to each skill begin with."""
_PLAIN = ("number", "x", "y", "plan", *_FIGURES, "refused", *(name for name in LATER if name not in _OF_SKILLS))
_DISTINCT = ("distinct_1", "distinct_2", "distinct_3")


def _exp(value: float) -> float:
    return math.inf if value >= 700 else math.exp(value)


def _named(record: Mapping[str, Any], prefix: str) -> dict[str, float]:
    return {
        name.removeprefix(prefix): float(value)
        for name, value in record.items()
        if name.startswith(prefix) and not _empty(value)
    }


def _empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _text(value: Any) -> str:
    return "" if _empty(value) else str(value)


def _axis(value: Any) -> Axis:
    """Return a coordinate as the number that it spells, or as text."""
    if not isinstance(value, str):
        return value  # type: ignore[no-any-return]
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() and "." not in value else number
