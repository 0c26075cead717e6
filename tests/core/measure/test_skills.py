"""Skills: the files, their checks, and margins against an unbatched computation with plain transformers."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from surgery_core.errors import InputError
from surgery_core.measure.skills import (
    ItemResult,
    Skill,
    SkillItem,
    SkillResult,
    load_skills,
    read_skill,
    score_skill,
    score_skills,
)

GOOD = """
name = "sums"
title = "Sums"
description = "Adds."

[[item]]
prompt = "2 + 2 ="
right = " 4"
wrong = [" 5", " 22"]

[[item]]
prompt = "1 + 1 ="
right = " 2"
wrong = " 3"
"""
SKILL = Skill(
    "mixed",
    "Mixed",
    "Prompts and answers of different lengths.",
    "",
    (
        SkillItem("a", "b", ("c",)),
        SkillItem("The cat sat on", " the mat", (" a", " the dog and the mat")),
        SkillItem("one two three", " four", (" five", " six")),
        SkillItem("é", "ü", ("öö",)),
    ),
)


def write(folder: Path, text: str, name: str = "sums.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def log_probability(model: Any, tokenizer: Any, prompt: str, answer: str) -> float:
    """One row at a time, no padding, a softmax written out."""
    import torch

    start, whole = (tokenizer(text, return_tensors="pt")["input_ids"] for text in (prompt, prompt + answer))
    with torch.no_grad():
        probabilities = model(whole).logits[0].double().exp()
    probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    places = range(start.shape[1], whole.shape[1])
    return sum(math.log(probabilities[place - 1, whole[0, place]]) for place in places)


def test_the_bundled_skills_are_complete() -> None:
    skills = load_skills()
    assert len(skills) >= 6
    assert len({skill.title for skill in skills}) == len(skills)
    for skill in skills:
        assert 24 <= len(skill.items) <= 40
        assert len({(item.prompt, item.right) for item in skill.items}) == len(skill.items)
        assert skill.description.endswith(".")


def test_bundled_answers_cannot_be_guessed_from_their_frequency() -> None:
    for skill in load_skills():
        share = {item.right: 0 for item in skill.items}
        for item in skill.items:
            share[item.right] += 1
        assert max(share.values()) <= 0.55 * len(skill.items), skill.name


NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def calculated(statement: str) -> str:
    """Return what a sum in digits or words comes to, written as it is."""
    words = statement.lower().split()
    if words[1] in "+-":
        return str(int(words[0]) + int(words[2]) if words[1] == "+" else int(words[0]) - int(words[2]))
    one, other = NUMBERS.index(words[0]), NUMBERS.index(words[2])
    return NUMBERS[one + other if words[1] == "and" else one - other]


def test_sums_are_right_and_their_examples_too() -> None:
    skill = next(skill for skill in load_skills() if skill.name == "arithmetic")
    assert len(skill.items) == 40
    assert len({item.prompt for item in skill.items}) == 40
    for item in skill.items:
        *examples, asked = item.prompt.split("; " if item.prompt[0].isdigit() else ". ")
        assert item.right == f" {calculated(asked)}"
        for example in examples:
            assert example.split()[-1] == calculated(example)
            # an example that is the question would give the answer away
            assert example.rsplit(" ", 1)[0] != asked
            assert example.split()[-1] != item.right.strip()
        assert len(set(item.answers)) == 4


def test_brackets_close_the_last_one_that_is_open() -> None:
    skill = next(skill for skill in load_skills() if skill.name == "brackets")
    closing = {"(": ")", "[": "]", "{": "}"}
    assert len({item.prompt for item in skill.items}) == len(skill.items) == 40
    for item in skill.items:
        open_ones: list[str] = []
        for token in item.prompt.split():
            if token in closing:
                open_ones.append(token)
            elif token in closing.values():
                assert closing[open_ones.pop()] == token
        assert item.right == f" {closing[open_ones[-1]]}"
        assert set(item.answers) == {" )", " ]", " }"}


@pytest.mark.parametrize("name", ["arithmetic", "brackets"])
def test_an_answer_is_wrong_as_often_as_it_is_right(name: str) -> None:
    items = next(skill for skill in load_skills() if skill.name == name).items
    for answer in {answer for item in items for answer in item.answers}:
        offered = sum(answer in item.answers for item in items)
        right = sum(answer == item.right for item in items)
        # a share of 1 in 4, or 1 in 3, of the items that offer it
        assert right / offered == pytest.approx(1 / len(items[0].answers), abs=0.1), answer


@pytest.mark.parametrize("name", ["arithmetic", "brackets"])
def test_answers_have_as_many_tokens_as_each_other(name: str) -> None:
    from surgery_core.measure.skills.asking import answers_of
    from surgery_core.models.opening import load_model

    tokenizer = load_model("fable").tokenizer
    for item in next(skill for skill in load_skills() if skill.name == name).items:
        assert len({len(answer.tokens) - answer.start for answer in answers_of(tokenizer, item)}) == 1


def test_no_bundled_prompt_is_a_training_sentence() -> None:
    from training.skill_sentences import documents

    written = "\n".join(documents(seed=0, count=3000))
    assert [item.prompt for skill in load_skills() for item in skill.items if item.prompt in written] == []


@pytest.mark.parametrize(
    ("name", "taught"),
    [("pattern", ("pattern",)), ("agreement", ("singular", "plural"))],
)
def test_answers_that_must_be_generalised_to_are_not_taught(name: str, taught: tuple[str, ...]) -> None:
    from training.skill_sentences import NOUNS

    words = {word for key in taught for word in NOUNS[key]}
    skill = next(skill for skill in load_skills() if skill.name == name)
    asked = {word.strip(".,'s") for item in skill.items for word in item.prompt.split()}
    assert asked & words == set()
    assert {answer.strip() for item in skill.items for answer in item.answers} & words == set()


def test_the_people_of_he_or_she_are_not_taught() -> None:
    from training.skill_sentences import NAMES

    skill = next(skill for skill in load_skills() if skill.name == "he_or_she")
    people = [*NAMES["she"], *NAMES["he"], *(f"The {role}" for role in NAMES["she_roles"] + NAMES["he_roles"])]
    starts = tuple(f"{person} " for person in people)
    assert [item.prompt for item in skill.items if item.prompt.startswith(starts)] == []


def test_read_skill_keeps_every_field(tmp_path: Path) -> None:
    skill = read_skill(write(tmp_path, GOOD))
    assert skill == Skill(
        "sums", "Sums", "Adds.", "", (SkillItem("2 + 2 =", " 4", (" 5", " 22")), SkillItem("1 + 1 =", " 2", (" 3",)))
    )
    assert skill.items[0].answers == (" 4", " 5", " 22")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "sums"', "", "name is None"),
        ('title = "Sums"', "title = 3", "title is 3"),
        ('"Adds."', '"  "', "description is"),
        ('right = " 4"', "", "item 1: right is None"),
        ('right = " 2"', 'right = " 3"', "item 2: ' 3' is both right and wrong"),
        ('wrong = " 3"', "wrong = []", r"item 2: wrong is \[\]"),
        ('wrong = " 3"', "wrong = [1]", r"item 2: wrong is \[1\]"),
        ('"1 + 1 ="', '"1 + 1 = "', "item 2: the prompt ends in a space"),
        ('wrong = " 3"', 'wrong = " 3"\nweight = 2', "item 2: unknown key 'weight'"),
        ("title", "titel", "unknown key 'titel'"),
        ("[[item]]", "[[items]]", "unknown key 'items'"),
        (GOOD[GOOD.index("[[item]]") :], "", "no items"),
        (GOOD[GOOD.index("[[item]]") :], "item = [3]", "item 1 is not a table"),
        ("= ", "= = ", "not a TOML file"),
    ],
)
def test_a_broken_file_says_where_and_what(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_skill(write(tmp_path, GOOD.replace(old, new)))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bytes.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"bytes\.toml"):
        read_skill(path)


def test_two_skills_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, GOOD, "sums2.toml")
    with pytest.raises(InputError, match="'sums'"):
        load_skills(tmp_path)


def test_margins_and_accuracy_by_hand() -> None:
    items = (
        ItemResult(SKILL.items[0], -1.0, (-3.0,)),
        ItemResult(SKILL.items[1], -2.0, (-1.5, -7.0)),
        ItemResult(SKILL.items[2], -2.0, (-2.0, -9.0)),
        ItemResult(SKILL.items[3], -0.5, (-1.0,)),
    )
    result = SkillResult(SKILL, items)
    assert [item.margin for item in items] == [2.0, -0.5, 0.0, 0.5]
    assert [item.correct for item in items] == [True, False, False, True]
    assert result.accuracy == 0.5
    assert result.margin == 0.5


def test_a_model_that_returns_nan_is_not_right() -> None:
    assert not ItemResult(SKILL.items[0], math.nan, (math.nan,)).correct


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_scores_equal_the_unbatched_computation(tiny_llama: Any, tiny_tokenizer: Any, batch_size: int) -> None:
    result = score_skill(tiny_llama, tiny_tokenizer, SKILL, batch_size=batch_size)
    assert [item.item for item in result.items] == list(SKILL.items)
    for item in result.items:
        expected = [log_probability(tiny_llama, tiny_tokenizer, item.item.prompt, text) for text in item.item.answers]
        assert [item.right, *item.wrong] == pytest.approx(expected, abs=1e-4)


def test_absolute_positions_are_right_with_padding(tiny_model: Any, tiny_tokenizer: Any) -> None:
    model = tiny_model("gpt2")
    result = score_skill(model, tiny_tokenizer, SKILL)
    expected = log_probability(model, tiny_tokenizer, "a", "b")
    assert result.items[0].right == pytest.approx(expected, abs=1e-4)


def test_answers_of_one_token_share_one_row(
    tiny_llama: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    body = type(tiny_llama.base_model)
    forward = body.forward
    monkeypatch.setattr(
        body,
        "forward",
        lambda self, input_ids, **rest: rows.append(tuple(input_ids.shape)) or forward(self, input_ids, **rest),
    )
    skill = Skill("x", "X", "X.", "", (SkillItem("abc", "d", ("e", "f", "g")), SkillItem("abc", "h", ("i",))))
    score_skill(tiny_llama, tiny_tokenizer, skill)
    # one run on a single prompt; the others look how the model's layers hand on their states
    assert [shape for shape in rows if shape[1] == 3] == [(1, 3)]


def test_score_skills_reports_progress(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    seen: list[tuple[int, int]] = []
    results = score_skills(tiny_llama, tiny_tokenizer, [SKILL, SKILL], on_progress=lambda *at: seen.append(at))
    assert seen == [(1, 2), (2, 2)]
    assert results[0] == results[1] == score_skill(tiny_llama, tiny_tokenizer, SKILL)


def test_bad_batch_size_and_empty_prompt_are_refused(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(InputError, match="batch size is 0"):
        score_skill(tiny_llama, tiny_tokenizer, SKILL, batch_size=0)
    empty = Skill("x", "X", "X.", "", (SkillItem("", "d", ("e",)),))
    with pytest.raises(InputError, match="no token of its own"):
        score_skill(tiny_llama, tiny_tokenizer, empty)


def test_importing_skills_loads_no_torch() -> None:
    code = "import sys, surgery_core.measure.skills; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
