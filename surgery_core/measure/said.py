"""What surgery did, in sentences that anyone reads, made from the figures and their verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from surgery_core.measure.skills.frames import skills_that_suffer, skills_verdict
from surgery_core.measure.skills.scoring import SkillResult
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.words import subject
from surgery_core.statistics.verdict import Verdict


def loss_said(found: Verdict, plan: LayerPlan) -> str:
    """Return what a plan did to the loss, as one sentence or two."""
    begin = _BEGINNINGS.get(found.word)
    return found.sentence if begin is None else subject(plan) + begin + found.sentence[:1].lower() + found.sentence[1:]


_BEGINNINGS = {
    "worse": " the model is ",
    "better": " the model is ",
    "the same": " the model is ",
    "no difference seen": " there is ",
    "too few to say": ", ",
}


def first_change(before: str, after: str) -> int | None:
    """Return the number, from 1, of the first word that differs between two texts; None where none does."""
    left, right = before.split(), after.split()
    if left == right:
        return None
    return next(
        (at for at, (a, b) in enumerate(zip(left, right, strict=False), 1) if a != b), min(len(left), len(right)) + 1
    )


def text_said(before: str, after: str) -> str:
    """Return from where on the text that is written after surgery is another."""
    at = first_change(before, after)
    if at is None:
        return "It writes the same text."
    return (
        "Its text is another from the first word on." if at == 1 else f"Its text changes from the {_nth(at)} word on."
    )


def skills_said(changes: Mapping[str, float]) -> str:
    """Return which skill loses most; empty where none loses.

    Args:
        changes: accuracy after less accuracy before by the skill's title, -1 to 1.
    """
    if not changes:
        return ""
    title, change = min(changes.items(), key=lambda one: one[1])
    return f"Of its skills “{title}” suffers most ({100 * change:+.0f} points)." if change < 0 else ""


def answers_said(sides: Sequence[Sequence[SkillResult]], plan: LayerPlan) -> str:
    """Return how many prompts of all skills are answered right, with the verdict and the skill that suffers most.

    Args:
        sides: results of the base model, and where something is changed those of the operated one.
        plan: the operated model's.
    """
    if any(math.isnan(result.accuracy) for side in sides for result in side):
        return ""
    right, total = zip(*(_answers(side) for side in sides), strict=True)
    if len(sides) == 1:
        return f"It answers {right[0]} of {total[0]} prompts right{_fewest(sides[0])}."
    head = f"{subject(plan)} it answers {right[1]} of {total[1]} prompts right, {right[0]} before."
    suffers = skills_said(skills_that_suffer(*sides))
    return " ".join(part for part in (head, skills_verdict(*sides).sentence, suffers) if part)


def _fewest(side: Sequence[SkillResult]) -> str:
    """Return which skill has the fewest right answers; empty where several have, or where all are right."""
    first, *rest = sorted(side, key=lambda result: result.accuracy)
    if first.accuracy == 1 or not rest or rest[0].accuracy == first.accuracy:
        return ""
    return f", the fewest in “{first.skill.title}” ({100 * first.accuracy:.0f} %)"


def _answers(side: Sequence[SkillResult]) -> tuple[int, int]:
    items = [item for result in side for item in result.items]
    return sum(item.correct for item in items), len(items)


def _nth(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
