"""Results on skills as tables: a line a skill, and a line a prompt with what each model prefers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from surgery_core.measure.skills.scoring import ItemResult, SkillResult
from surgery_core.statistics.family import discoveries
from surgery_core.statistics.items import paired_items, wilson
from surgery_core.statistics.verdict import Verdict, judge_items

SIDES = ("Before", "After")


@dataclass(frozen=True)
class SkillMeans:
    """Means over the skills, each of which counts alike, on the last side, and their changes against the first.

    Attributes:
        accuracy: 0 to 1.
        margin: in nats.
        accuracy_change, margin_change: 0 where there is one side.
    """

    accuracy: float
    margin: float
    accuracy_change: float
    margin_change: float


def skill_frame(before: Sequence[SkillResult], after: Sequence[SkillResult] | None = None) -> pd.DataFrame:
    """Return one line a skill and side: skill, side ("Before" or "After"), accuracy (0 to 1), margin (nats), items.

    `accuracy_low` and `accuracy_high` are Wilson's 95 % interval, on items like these.

    Args:
        before: results of the base.
        after: those of the operated model, if there is one.
    """
    sides = zip(SIDES, (before, after), strict=True)
    return pd.DataFrame(
        {
            "skill": result.skill.title,
            "side": side,
            "accuracy": result.accuracy,
            "margin": result.margin,
            "items": len(result.items),
        }
        | _interval(result)
        for side, results in sides
        if results is not None
        for result in results
    )


def _interval(result: SkillResult) -> dict[str, float]:
    known = not math.isnan(result.accuracy)
    right = sum(one.correct for one in result.items)
    low, high = wilson(right, len(result.items)) if known else (math.nan, math.nan)
    return {"accuracy_low": low, "accuracy_high": high}


def skills_verdict(before: Sequence[SkillResult], after: Sequence[SkillResult]) -> Verdict:
    """Return whether the answers to all items of all skills differ, item by item (`surgery_core.statistics`)."""
    sides = [[one.correct for result in side for one in result.items] for side in (before, after)]
    return judge_items(paired_items(*sides))


def skills_that_suffer(before: Sequence[SkillResult], after: Sequence[SkillResult]) -> dict[str, float]:
    """Return the change of accuracy, by title, of the skills that are worse after surgery.

    Each skill is one McNemar test and all of them are a family: those count that are told apart at a false discovery rate
    of 5 % (`discoveries`).
    """
    answers = [[[item.correct for item in result.items] for result in side] for side in (before, after)]
    asked = [paired_items(*sides) for sides in zip(*answers, strict=True)]
    seen = discoveries(np.array([items.p for items in asked]))
    return {
        result.skill.title: items.value
        for result, items, told_apart in zip(before, asked, seen, strict=True)
        if told_apart and items.value < 0
    }


def skill_means(frame: pd.DataFrame) -> SkillMeans:
    """Return the means over the skills.

    Args:
        frame: of `skill_frame`.
    """
    sides = [frame[frame["side"] == side] for side in SIDES if (frame["side"] == side).any()]
    (accuracy, margin), first = (
        (float(side["accuracy"].mean()), float(side["margin"].mean())) for side in (sides[-1], sides[0])
    )
    return SkillMeans(accuracy, margin, accuracy - first[0], margin - first[1])


def item_frame(before: Sequence[SkillResult], after: Sequence[SkillResult] | None = None) -> pd.DataFrame:
    """Return one line a prompt, with both sides' answers.

    Columns: skill, prompt, right, wrong, then for each side prefers_before (the answer that is found most probable),
    correct_before, margin_before (nats by which the right answer is ahead of the best wrong one), and with `after`
    the same of the operated model, and change, what became of the answer: "same", "lost", "gained".
    """
    lines = []
    for number, result in enumerate(before):
        others = after[number].items if after is not None else (None,) * len(result.items)
        for one, other in zip(result.items, others, strict=True):
            line = {"skill": result.skill.title, "prompt": one.item.prompt, "right": one.item.right}
            line["wrong"] = " · ".join(one.item.wrong)
            lines.append(line | _side(one, "before") | (_side(other, "after") | _change(one, other) if other else {}))
    return pd.DataFrame(lines)


def preferred(result: ItemResult) -> str:
    """Return the answer that the model finds most probable; on a tie a wrong one, as the item counts as wrong then."""
    if result.correct:
        return result.item.right
    return result.item.wrong[max(range(len(result.wrong)), key=result.wrong.__getitem__)]


def _side(result: ItemResult, side: str) -> dict[str, object]:
    return {
        f"prefers_{side}": preferred(result),
        f"correct_{side}": result.correct,
        f"margin_{side}": result.margin,
    }


def _change(before: ItemResult, after: ItemResult) -> dict[str, str]:
    if before.correct == after.correct:
        return {"change": "same"}
    return {"change": "lost" if before.correct else "gained"}
