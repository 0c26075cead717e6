"""Goals: each bound holds and fails where it should, and says what is missing."""

from __future__ import annotations

import math
from typing import Any

import pytest

from surgery_core.plans.plan import LayerPlan
from surgery_core.workshops.goals import Goal, Run, missing, runs


def run(plan: str = "0-5", **facts: Any) -> Run:
    return Run(LayerPlan.parse(plan, 6), **facts)


@pytest.mark.parametrize(
    ("goal", "good", "bad", "said"),
    [
        (Goal(plans=("0-2,4-5", "0-2,5,4")), run("0,1,2,5-4"), run("0-4"), "The plan is 0-4"),
        (Goal(gone=(5, 3)), run("4,2,0-1"), run("0-2,4-5"), "L3 is gone; that is not"),
        (Goal(gone=()), run("5-0"), run("0-3"), "L4, L5 are gone"),
        (Goal(runs_at_most=5), run("0-4"), run("0-4,0"), "6 layers run; at most 5"),
        (Goal(runs_at_most=5), run("(0|1),2-4"), run("(0|1|2),3-5"), "6 layers run"),
        (Goal(runs_at_least=1), run("3"), run(""), "0 layers run; at least 1"),
        (Goal(changed=True), run("5-0"), run(), "Nothing is changed yet"),
        (Goal(whole=True), run("5-0,0"), run("0-4"), "L5 is gone; every layer"),
        (Goal(ratio_at_most=1.1), run(ratio=1.1, kept=1.0), run(ratio=1.1001, kept=1.0), "1.100 times .* at most 1.1"),
        (Goal(ratio_at_least=2), run(ratio=2.0, kept=1.0), run(ratio=1.999, kept=1.0), "at least 2"),
        (Goal(kept_at_least=0.7), run(ratio=9.0, kept=0.7), run(ratio=1.0, kept=0.699), "69.9% of the likeliest"),
        (Goal(ratio_at_most=1.1), run(ratio=1.0, kept=1.0), run(), "not known yet"),
        (Goal(ratio_at_most=1.1), run(ratio=1.0, kept=1.0), run(ratio=math.nan, kept=1.0), "nan times"),
        (Goal(skill="a_b", skill_at_most=0.5), run(skills={"a_b": 0.5}), run(skills={"a_b": 0.6}), "60% of .*“a b” are still"),
        (Goal(skill="x", skill_at_least=0.5), run(skills={"x": 0.5}), run(skills={"x": 0.4}), "40% of .* at least 50%"),
        (Goal(skill="x"), run(skills={"x": 0.0}), run(skills={"y": 1.0}), "were not asked yet"),
        (Goal(page="lens"), run(page="lens"), run(page=""), "Open the Lens page"),
        (Goal(sweep="delete"), run(sweeps=frozenset({"delete"})), run(), "not been measured"),
    ],
)  # fmt: skip
def test_a_bound_holds_or_says_what_is_missing(goal: Goal, good: Run, bad: Run, said: str) -> None:
    import re

    assert missing(goal, good) == []
    (sentence,) = missing(goal, bad)
    assert re.search(said, sentence), sentence


def test_everything_has_to_hold_at_once() -> None:
    goal = Goal(runs_at_most=4, ratio_at_most=1.1, page="lens")
    assert len(missing(goal, run())) == 3
    assert missing(goal, run("0-3", ratio=1.0, kept=1.0, page="lens")) == []


@pytest.mark.parametrize(("plan", "count"), [("", 0), ("0-5", 6), ("0x3", 3), ("(0|1|2)", 3), ("0.attn,1*0.5", 2)])
def test_layers_count_as_often_as_they_run(plan: str, count: int) -> None:
    assert runs(LayerPlan.parse(plan, 6)) == count
