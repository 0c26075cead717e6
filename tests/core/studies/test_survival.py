"""What survives pruning: shares above chance by hand, over plans that the removal of the Sweep page finds."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from surgery_core.errors import SettingsError, Stopped
from surgery_core.measure.skills import Skill, SkillItem, score_skill
from surgery_core.studies import programs
from surgery_core.studies.finding import Claim, Figure
from surgery_core.studies.ratios import ratio_figure
from surgery_core.studies.survival import SUMS, WORDS, _difference, _Kind
from surgery_core.sweeps.removal import remove_greedily
from tests.core.studies.six import TEXTS, N, broken, logits_by_hand, run_study, six, tokenizer

OPTIONS = {"words": ["first"], "sums": ["second"], "remove": 2}


def ids_of(text: str) -> list[int]:
    return tokenizer()(text)["input_ids"]


def known(name: str, prompts: list[str], wrong: int) -> Skill:
    """Return a skill that the unchanged model has right, all items but the first."""
    items = []
    for number, prompt in enumerate(prompts):
        logits = logits_by_hand("llama", range(N), ids_of(prompt))[-1]
        letters = sorted("abcdefghijklmnop", key=lambda letter: -float(logits[ids_of(letter)[0]]))
        answers = letters[: wrong + 1] if number else letters[1::-1]
        items.append(SkillItem(prompt, answers[0], tuple(answers[1:])))
    return Skill(name, name.title(), f"{name}.", "", tuple(items))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> tuple[Skill, Skill]:
    first = known("first", [f"the {word} is" for word in ("fox", "hen", "sea", "sun", "owl", "bee", "cat", "dog")], 1)
    second = known("second", [f"{word} and two" for word in ("one", "two", "six", "ten", "red", "old", "big")], 2)
    monkeypatch.setattr(programs, "load_skills", lambda: (first, second))
    return first, second


def test_what_is_left_above_chance_by_hand(asked: tuple[Skill, Skill]) -> None:
    finding = run_study("survival", six(), **OPTIONS)
    plans = [step.plan for step in remove_greedily(six(), tokenizer(), TEXTS, least=N - 2)][1:]
    shares = []
    for skill in asked:
        chance = np.array([1 / (1 + len(item.wrong)) for item in skill.items])
        before = np.array([number > 0 for number in range(len(skill.items))], float)
        after = np.zeros(len(skill.items))
        for plan in plans:
            order = [layer for layer in range(N) if layer not in plan.deleted]
            for number, item in enumerate(skill.items):
                row = logits_by_hand("llama", order, ids_of(item.prompt))[-1]
                right = row[ids_of(item.right)[0]] > max(row[ids_of(one)[0]] for one in item.wrong)
                after[number] += bool(right) / len(plans)
        shares.append(ratio_figure("x", after - chance, before - chance))
    words, sums = shares
    figure = finding.figure
    assert figure.value == pytest.approx(words.value - sums.value)
    assert figure.low == pytest.approx(figure.value - math.hypot(words.value - words.low, sums.high - sums.value))
    assert figure.high == pytest.approx(figure.value + math.hypot(words.high - words.value, sums.value - sums.low))
    assert figure.n_units == len(asked[1].items)
    assert [one.value for one in finding.others[:2]] == pytest.approx([words.value, sums.value])
    assert [one.value for one in finding.others[2:]] == pytest.approx([7 / 8, 6 / 7])
    assert finding.note == ""
    right = finding.frame.set_index(["kind", "removed"])["right"]
    assert (right[WORDS, 0], right[SUMS, 0]) == pytest.approx((7 / 8, 6 / 7))
    assert len(finding.frame) == 6


def test_what_a_model_only_guesses_cannot_be_lost(asked: tuple[Skill, Skill], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = asked
    swapped = [
        SkillItem(item.prompt, item.wrong[0], (item.right, *item.wrong[1:])) if number < 5 else item
        for number, item in enumerate(second.items)
    ]
    guessed = Skill("second", "Second", "Second.", "", tuple(swapped))
    monkeypatch.setattr(programs, "load_skills", lambda: (first, guessed))
    finding = run_study("survival", six(), **OPTIONS)
    right = sum(one.correct for one in score_skill(six(), tokenizer(), guessed).items)
    assert finding.note.startswith(f"Sums and brackets: the unchanged model has {right / 7:.0%} of 7 items right")
    assert Claim(0.0).outcome(finding.figure) == "too few texts to say"
    assert np.isfinite(finding.others[0].value)


def test_shares_over_removals_are_means_of_shares() -> None:
    right = np.array([[1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 1, 0, 0]], float)
    kind = _Kind("X", right, np.full(8, 0.5))
    # above chance: 4 of 4, then 2 and 0 of 4
    assert kind.retained(right[1]).value == pytest.approx(0.5)
    assert kind.retained(right[2]).value == pytest.approx(0.0)
    assert kind.retained().value == pytest.approx(0.25)


def test_independent_intervals_add_up_as_squares() -> None:
    figure = _difference(Figure("a", 0.8, 0.5, 0.9, 20), Figure("b", 0.3, 0.2, 0.7, 10))
    assert figure.value == pytest.approx(0.5)
    assert (figure.low, figure.high) == pytest.approx((0.5 - 0.5, 0.5 + math.hypot(0.1, 0.1)))
    assert figure.n_units == 10


def test_a_model_that_is_no_number_says_nothing(asked: tuple[Skill, Skill]) -> None:
    finding = run_study("survival", broken(), **OPTIONS)
    assert Claim(0.0).outcome(finding.figure) == "too few texts to say"
    assert "does not compute numbers" in finding.note


def test_wrong_numbers_progress_and_a_stop(asked: tuple[Skill, Skill]) -> None:
    with pytest.raises(SettingsError, match="6 layers cannot be removed of 6; give 1 to 5"):
        run_study("survival", six(), **{**OPTIONS, "remove": N})
    seen: list[tuple[int, int]] = []
    run_study("survival", six(), **OPTIONS, on_progress=lambda *at: seen.append(at))
    # six and five plans are tried, and two skills asked three times
    assert seen[-1] == (17, 17)
    stop = threading.Event()
    with pytest.raises(Stopped):
        run_study("survival", six(), **OPTIONS, stop=stop, on_progress=lambda done, most: stop.set())
