"""Items under many plans: skills by layer, the best of few items, and intervals that keep their coverage."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import SettingsError
from surgery_core.measure.skills import Skill, SkillItem, load_skills, score_skills
from surgery_core.plans.plan import LayerPlan
from surgery_core.studies.few_items import best_of_few, fifty_items
from surgery_core.studies.quizzes import SKILLS, Quiz, halves, quiz_of
from surgery_core.studies.skill_layers import own_skill, skill_by_layer, without_main_effects
from surgery_core.surgery.view import operate


def quiz(n_skills: int, n_items: int) -> Quiz:
    items = tuple(SkillItem(f"Item {n}", " a", (" b",)) for n in range(n_items))
    skills = tuple(Skill(f"s{n}", f"Skill {n}", "About.", "", items) for n in range(n_skills))
    return Quiz(skills, np.repeat(np.arange(n_skills), n_items), np.full(n_skills * n_items, 0.5))


def right(model: Any, tokenizer: Any, names: list[str]) -> np.ndarray:
    skills = [skill for skill in load_skills() if skill.name in names]
    return np.array([one.correct for result in score_skills(model, tokenizer, skills) for one in result.items], float)


def test_the_default_skills_are_there_with_their_chances(setup_of: Any) -> None:
    found = quiz_of(setup_of("skill-by-layer"))
    assert [skill.name for skill in found.skills] == SKILLS
    assert len(found) == sum(len(skill.items) for skill in found.skills)
    colours = found.chance[found.of == SKILLS.index("colours")]
    assert set(colours) == {0.25}, "three wrong answers each"
    with pytest.raises(SettingsError, match="'skills' cannot be \\['nothing'\\]; give some of: agreement, "):
        quiz_of(setup_of("skill-by-layer", skills=["nothing"]))


def test_halves_share_every_skill() -> None:
    first, second = halves(quiz(3, 10), seed=4)
    assert sorted([*first, *second]) == list(range(30))
    assert [int(((side >= 10) & (side < 20)).sum()) for side in (first, second)] == [5, 5]
    assert not np.array_equal(first, halves(quiz(3, 10), seed=5)[0])


@given(
    st.lists(st.integers(-1, 1), min_size=4, max_size=4),
    st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=24, max_size=24),
)
def test_layers_that_cost_every_skill_alike_have_no_own_skill(layers: list[int], items: list[float]) -> None:
    # a layer's cost plus an item's: whatever the items are, no layer is special to a skill
    costs = np.array(layers)[:, None] + np.array(items)[None, :]
    found = quiz(3, 8)
    value, low, high = own_skill(costs, found, halves(found, 0))
    assert value == pytest.approx(0, abs=1e-12)
    assert low <= value <= high


def test_a_layer_that_carries_one_skill_is_found() -> None:
    # layer l costs every item of skill l and nothing else: the rest of 1 - 1/3 - 1/3 + 1/3 is the same for each
    found = quiz(3, 8)
    costs = (found.of[None, :] == np.arange(3)[:, None]).astype(float)
    assert own_skill(costs, found, halves(found, 0)) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


def test_luck_alone_is_not_taken_for_an_own_skill() -> None:
    """Costs at random: the interval must leave out 0 in about 5 % of the cases, however many cells there are."""
    random, found, missed = np.random.default_rng(0), quiz(5, 12), 0
    for seed in range(300):
        costs = random.choice([-1.0, 0.0, 0.0, 1.0], size=(8, 60))
        _, low, high = own_skill(costs, found, halves(found, seed))
        missed += not low <= 0 <= high
    # 300 draws of 5 %: 15, within three standard deviations
    assert 4 <= missed <= 27


def test_main_effects_go_from_rows_and_columns() -> None:
    table = np.random.default_rng(0).normal(size=(4, 3))
    rest = without_main_effects(table)
    assert np.abs(rest.mean(0)).max() < 1e-12
    assert np.abs(rest.mean(1)).max() < 1e-12
    np.testing.assert_allclose(without_main_effects(rest), rest, atol=1e-12)


def test_costs_of_layers_are_answers_lost(six_layers: Any, tiny_tokenizer: Any, setup_of: Any) -> None:
    names = ["colours", "pattern"]
    found = skill_by_layer(setup_of("skill-by-layer", skills=names))
    before = right(six_layers, tiny_tokenizer, names)
    sizes = [len(skill.items) for skill in load_skills() if skill.name in names]
    for at in range(1, 5):
        lost = before - right(operate(six_layers, LayerPlan.identity(6).delete(at)), tiny_tokenizer, names)
        rows = found.frame.loc[found.frame["layer"] == f"L{at}", "cost"].tolist()
        assert rows == pytest.approx([lost[: sizes[0]].mean(), lost[sizes[0] :].mean()])
    with pytest.raises(SettingsError, match="One skill cannot be told apart"):
        skill_by_layer(setup_of("skill-by-layer", skills=["colours"]))


@given(st.integers(1, 4), st.integers(4, 9), st.integers(0, 2**32 - 1))
def test_the_best_of_few_equals_trying_one_by_one(plans: int, n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    gains, keys, items = (
        random.integers(-1, 2, (plans, n)).astype(float),
        random.random((5, n)),
        int(random.integers(1, n)),
    )
    seen, unseen = best_of_few(gains, items, keys)
    for draw in range(5):
        few = sorted(range(n), key=lambda item: keys[draw, item])[:items]
        rest = [item for item in range(n) if item not in few]
        best = max(range(plans), key=lambda plan: (sum(gains[plan, few]), -plan))
        assert seen[draw] == pytest.approx(sum(gains[best, few]) / items)
        assert unseen[draw] == pytest.approx(sum(gains[best, rest]) / len(rest))


def test_with_plans_that_do_nothing_but_luck_the_best_looks_better_and_nothing_is_left() -> None:
    random = np.random.default_rng(2)
    gains = random.choice([-1.0, 1.0], size=(40, 300), p=[0.5, 0.5])
    seen, unseen = best_of_few(gains, 50, random.random((500, 300)))
    assert seen.mean() > 0.2
    # what is chosen on 50 items takes from the others what it has too much of
    assert unseen.mean() < 0.1


def test_repeats_are_tried_and_counted(six_layers: Any, tiny_tokenizer: Any, setup_of: Any) -> None:
    names = ["colours", "pattern"]
    found = fifty_items(setup_of("fifty-items", skills=names, longest=2, plans_at_most=100, items=20))
    before = right(six_layers, tiny_tokenizer, names)
    plans = [LayerPlan.parse(text, 6) for text in (
        "0-1,1-5", "0-2,2-5", "0-3,3-5", "0-4,4-5", "0-2,1-5", "0-3,2-5", "0-4,3-5",
    )]  # fmt: skip
    gains = np.array([right(operate(six_layers, plan), tiny_tokenizer, names) - before for plan in plans])
    seen, unseen = best_of_few(gains, 20, np.random.default_rng(0).random((1_000, len(before))))
    assert found.figure.value == pytest.approx(unseen.mean())
    assert found.others[0].value == pytest.approx(seen.mean())
    assert found.figure.name == "Gain of the best of 7 on the items that it was not chosen on"
    assert found.frame["times"].sum() == 1_000
    assert not math.isnan(found.figure.low)
    with pytest.raises(SettingsError, match=r"'items' cannot be 60 here; give 6 to 58"):
        fifty_items(setup_of("fifty-items", skills=names, items=60))
