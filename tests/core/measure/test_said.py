"""Sentences about what surgery did; expected ones are written by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.measure.said import answers_said, first_change, loss_said, skills_said, text_said
from surgery_core.measure.skills import ItemResult, Skill, SkillItem, SkillResult
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.verdict import Verdict, judge_losses


def verdict(mean: float, spread: float, n: int = 12) -> Verdict:
    steps = np.linspace(-1, 1, n)
    return judge_losses((mean + spread * steps / steps.std(ddof=1)) * 100, np.full(n, 100))


def test_a_loss_in_a_sentence() -> None:
    plan = LayerPlan.parse("0-4,6-11", 12)
    assert (
        loss_said(verdict(math.log(1.05), 0.02), plan)
        == "Without L5 the model is 5.0 % more surprised by each token; between 3.7 and 6.3 % on texts like these."
    )
    assert loss_said(verdict(1.5, 0.1), plan).startswith(
        "Without L5 the model is 4.48 times as surprised by each token;"
    )
    assert loss_said(verdict(0.0, 0.02), plan).startswith(
        "Without L5 the model is the same within 2 %: between 1.3 % less"
    )
    assert loss_said(verdict(0.01, 0.05), plan).startswith("Without L5 there is no difference seen: between")
    assert loss_said(verdict(0.1, 0.01, n=3), plan) == "Without L5, too few to say: 3 texts, and 6 are the least."


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("the cat sat", "the cat sat", "It writes the same text."),
        ("the cat sat", " the  cat sat\n", "It writes the same text."),
        ("the cat sat", "a cat sat", "Its text is another from the first word on."),
        ("the cat sat", "the dog sat", "Its text changes from the 2nd word on."),
        ("the cat", "the cat sat", "Its text changes from the 3rd word on."),
        ("", "", "It writes the same text."),
        ("", "a", "Its text is another from the first word on."),
        ("w " * 10 + "a", "w " * 10 + "b", "Its text changes from the 11th word on."),
        ("w " * 20 + "a", "w " * 20 + "b", "Its text changes from the 21st word on."),
        ("w " * 111 + "a", "w " * 111 + "b", "Its text changes from the 112th word on."),
    ],
)
def test_where_a_text_changes(before: str, after: str, said: str) -> None:
    assert text_said(before, after) == said


@given(st.lists(st.text("abc", min_size=1), max_size=8), st.lists(st.text("abc", min_size=1), max_size=8))
def test_the_first_change_is_where_common_beginnings_end(left: list[str], right: list[str]) -> None:
    at = first_change(" ".join(left), " ".join(right))
    if at is None:
        assert left == right
    else:
        assert left[: at - 1] == right[: at - 1]
        assert left[at - 1 : at] != right[at - 1 : at]


def test_the_skill_that_suffers_most() -> None:
    assert skills_said({"Counting": -0.25, "Opposites": 0.1}) == "Of its skills “Counting” suffers most (-25 points)."
    assert skills_said({"Counting": 0.0}) == ""
    assert skills_said({}) == ""


def answers(title: str, right: list[bool]) -> SkillResult:
    item = SkillItem("", "a", ("b",))
    results = tuple(ItemResult(item, 0.0, (-1.0 if ok else 1.0,)) for ok in right)
    return SkillResult(Skill(title.lower(), title, "", "", (item,) * len(right)), results)


def test_answers_in_sentences() -> None:
    plan = LayerPlan.parse("0-4,6-11", 12)
    before = [answers("Facts", [True] * 20), answers("Counting", [True] * 15 + [False] * 5)]
    after = [answers("Facts", [True] * 19 + [False]), answers("Counting", [False] * 20)]
    assert (
        answers_said([before], LayerPlan.identity(12))
        == "It answers 35 of 40 prompts right, the fewest in “Counting” (75 %)."
    )
    alike = [answers("Facts", [True, False]), answers("Counting", [True, False])]
    assert answers_said([alike], LayerPlan.identity(12)) == "It answers 2 of 4 prompts right."
    assert answers_said([[answers("Facts", [True])]], LayerPlan.identity(12)) == "It answers 1 of 1 prompts right."
    said = answers_said([before, after], plan)
    assert said.startswith(
        "Without L5 it answers 19 of 40 prompts right, 35 before. Worse: 0 became right and 16 wrong"
    )
    assert said.endswith("Of its skills “Counting” suffers most (-75 points).")
    assert "suffers" not in answers_said([before, before], plan)


def test_answers_that_are_no_numbers_have_no_sentence() -> None:
    item = SkillItem("", "a", ("b",))
    nothing = SkillResult(Skill("facts", "Facts", "", "", (item,)), (ItemResult(item, 0.0, (math.nan,)),))
    assert answers_said([[answers("Facts", [True])], [nothing]], LayerPlan.identity(2)) == ""
