"""Skill results as tables, against values worked out by hand."""

from __future__ import annotations

import pandas as pd

from surgery_core.measure.skills import ItemResult, Skill, SkillItem, SkillResult
from surgery_core.measure.skills.frames import (
    SkillMeans,
    item_frame,
    preferred,
    skill_frame,
    skill_means,
    skills_that_suffer,
)

ITEMS = (SkillItem("One", " a", (" b", " c")), SkillItem("Two", " d", (" e",)), SkillItem("Three", " f", (" g",)))
SKILL = Skill("letters", "Letters", "about", "", ITEMS)
BEFORE = (SkillResult(SKILL, (
    ItemResult(ITEMS[0], -1.0, (-2.0, -3.0)), ItemResult(ITEMS[1], -4.0, (-1.0,)), ItemResult(ITEMS[2], -1.0, (-1.0,)),
)),)  # fmt: skip
AFTER = (SkillResult(SKILL, (
    ItemResult(ITEMS[0], -5.0, (-6.0, -2.0)), ItemResult(ITEMS[1], -1.0, (-4.0,)), ItemResult(ITEMS[2], -2.0, (-1.0,)),
)),)  # fmt: skip


def test_a_skill_has_a_line_a_side() -> None:
    frame = skill_frame(BEFORE, AFTER)
    assert list(frame["side"]) == ["Before", "After"]
    assert list(frame["accuracy"]) == [1 / 3, 1 / 3]
    assert list(frame["margin"]) == [(1 - 3 + 0) / 3, (-3 + 3 - 1) / 3]
    assert list(skill_frame(BEFORE)["side"]) == ["Before"]


def test_a_prompt_has_both_answers_and_what_became_of_it() -> None:
    frame = item_frame(BEFORE, AFTER)
    assert list(frame["prompt"]) == ["One", "Two", "Three"]
    assert list(frame["prefers_before"]) == [" a", " e", " g"]
    assert list(frame["prefers_after"]) == [" c", " d", " g"]
    assert list(frame["change"]) == ["lost", "gained", "same"]
    assert list(frame["margin_after"]) == [-3.0, 3.0, -1.0]
    assert frame["wrong"][0] == " b ·  c"


def test_without_surgery_there_is_one_side() -> None:
    frame = item_frame(BEFORE)
    assert "prefers_after" not in frame
    assert list(frame["correct_before"]) == [True, False, False]


def test_a_tie_is_a_wrong_answer() -> None:
    assert preferred(BEFORE[0].items[2]) == " g"


def test_means_count_every_skill_alike() -> None:
    """Two skills, of which one is answered worse after surgery: (0.5 + 1) / 2, then (0.25 + 0.75) / 2."""
    frame = pd.DataFrame({
        "skill": ["A", "B", "A", "B"], "side": ["Before", "Before", "After", "After"],
        "accuracy": [0.5, 1.0, 0.25, 0.75], "margin": [1.0, 3.0, -1.0, 2.0],
    })  # fmt: skip
    assert skill_means(frame) == SkillMeans(0.5, 0.5, -0.25, -1.5)
    assert skill_means(frame[:2]) == SkillMeans(0.75, 2.0, 0.0, 0.0)


def test_a_skill_suffers_where_its_items_say_so_and_not_by_chance() -> None:
    """By hand: 12 of 12 items lost have p = 2 / 4096; 1 of 12 lost has p = 1, which nobody calls suffering."""

    def answered(title: str, right: list[bool]) -> SkillResult:
        item = SkillItem("One", " a", (" b",))
        asked = tuple(ItemResult(item, -1.0, (-2.0 if one else -0.5,)) for one in right)
        return SkillResult(Skill(title, title, "about", "", (item,) * len(right)), asked)

    every = [True] * 12
    before = [answered(title, every) for title in ("lost", "one off", "kept")]
    after = [
        answered("lost", [False] * 12), answered("one off", [False, *every[1:]]), answered("kept", every),
    ]  # fmt: skip
    assert skills_that_suffer(before, after) == {"lost": -1.0}
    assert skills_that_suffer(after, before) == {}
    assert skills_that_suffer(before, before) == {}
