"""Workshop files: read without loss, refused with the field and its line; those that come along lead where they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from surgery_core.errors import RecipeError
from surgery_core.measure.skills import load_skills, score_skill
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.surgery.view import operate
from surgery_core.text import bundled_texts
from surgery_core.workshops.goals import Run, missing
from surgery_core.workshops.workshop import Workshop, load_workshop, workshops

HEAD = 'version = 1\ntitle = "T"\nminutes = 5\nmodel = "fable"\n'
STEP = '[[steps]]\ntitle = "One"\ntext = "Do it."\n'
GOAL = f"{HEAD}{STEP}[steps.goal]\n"


def test_everything_that_a_file_can_say_is_read() -> None:
    found = Workshop.read(
        f'{HEAD}about = "A"\n{STEP}hints = ["a", "b", "c"]\nshow = "0-2"\nquestion = "Why?"\n[steps.goal]\nplans = ["0-2", "2-0"]\n'
        "gone = [3]\nruns_at_most = 3\nruns_at_least = 1\nchanged = true\nwhole = false\nratio_at_most = 1.1\n"
        'ratio_at_least = 1\nkept_at_least = 0.5\nskill = "counting"\nskill_at_most = 0.9\nskill_at_least = 0\n'
        'page = "lens"\nsweep = "delete"\n[challenge]\ntitle = "C"\nratio_at_most = 1.25\n'
    )
    (step,) = found.steps
    assert (found.title, found.minutes, found.model, found.about) == ("T", 5, "fable", "A")
    assert (step.hints, step.show, step.question) == (("a", "b", "c"), "0-2", "Why?")
    assert step.goal is not None
    assert step.goal.plans == ("0-2", "2-0")
    assert step.goal.gone == (3,)
    assert (step.goal.ratio_at_most, step.goal.skill, step.goal.page, step.goal.sweep) == (
        1.1,
        "counting",
        "lens",
        "delete",
    )
    assert step.goal.needs_comparison
    assert step.goal.needs_skills
    assert found.challenge is not None
    assert found.challenge.goal.ratio_at_most == 1.25


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = [", "not valid TOML"),
        (HEAD, "field 'steps' is missing"),
        (HEAD.replace("1", "2", 1) + STEP, r"Line 1: .*'version' is 2; this program reads 1"),
        (HEAD.replace("5", "0", 1) + STEP, r"Line 3: .*'minutes' is 0; give 1 to 600"),
        (f"{HEAD}colour = 1\n{STEP}", r"Line 5: The workshop has an unknown field 'colour'; allowed: version"),
        (f"{HEAD}steps = []\n", "has 0 steps"),
        (f"{HEAD}[[steps]]\ntext = \"x\"\n", r"Line 5: .*'steps\[0\]\.title' is missing"),
        (f"{HEAD}{STEP}{STEP}hints = [\"1\", \"2\", \"3\", \"4\"]\n", r"Line 11: .*'steps\[1\]\.hints' has 4 hints"),
        (f"{HEAD}{STEP}hints = [1]\n", r"'steps\[0\]\.hints\[0\]' must be a text, not 1"),
        (f"{HEAD}{STEP}show = \"0-\"\n", r"Line 8: .*'steps\[0\]\.show' is no plan"),
        (f"{HEAD}{STEP}question = 3\n", "must be a text"),
        (f"{HEAD}{STEP.replace('Do it.', 'x' * 4001)}", r"'steps\[0\]\.text' has 4,001 characters"),
        (f"{GOAL}", r"'steps\[0\]\.goal' is empty"),
        (f"{GOAL}gone = [-1]\n", r"'steps\[0\]\.goal\.gone\[0\]' is -1"),
        (f"{GOAL}page = \"nowhere\"\n", "choose one of lens, sweep"),
        (f"{GOAL}sweep = \"nothing\"\n", "choose one of delete"),
        (f"{GOAL}skill = \"flying\"\n", "choose one of agreement"),
        (f"{GOAL}skill_at_most = 0.5\n", r"'steps\[0\]\.goal\.skill_at_most' needs a skill"),
        (f"{GOAL}kept_at_least = 1.5\n", "give a share from 0 to 1"),
        (f"{GOAL}ratio_at_most = 0\n", "give a positive number"),
        (f"{GOAL}plans = [\"9-\"]\n", r"Line 9: .*plans\[0\]' is no plan"),
        (f"{HEAD}{STEP}[challenge]\ntitle = \"C\"\n", "'challenge' has no bound"),
        ("#" * 600_000, "larger than 500,000 bytes"),
        (f"{HEAD}x = {'[' * 20_000}", "nested more than 32 levels"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Workshop.read(text)


def test_a_long_value_is_quoted_in_short_with_what_is_allowed() -> None:
    with pytest.raises(RecipeError, match=r"^Line 9: .*\(\( … .*; choose one of delete") as caught:
        Workshop.read(f'{GOAL}sweep = "{"(" * 5_000}"\n')
    assert len(str(caught.value)) < 900


def test_a_file_that_is_not_there_or_no_text(tmp_path: Any) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        load_workshop(tmp_path / "none.toml")
    (tmp_path / "odd.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"odd\.toml is not text \(byte 1\)"):
        load_workshop(tmp_path / "odd.toml")


def test_three_come_along_of_20_45_and_90_minutes() -> None:
    assert [one.minutes for one in workshops().values()] == [20, 45, 90]
    for workshop in workshops().values():
        assert workshop.challenge is not None
        for step in workshop.steps:
            assert len(step.hints) == 3, step.title


@pytest.fixture(scope="module")
def fable() -> LoadedModel:
    return load_model("fable")


def perplexity(model: Any, tokenizer: Any) -> float:
    """Return exp of the mean loss over the bundled texts, each for itself, with plain torch."""
    nats, count = 0.0, 0
    for text in bundled_texts():
        ids = torch.tensor([tokenizer(text.text)["input_ids"]])
        with torch.inference_mode():
            losses = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1].float(), ids[0, 1:], reduction="none")
        nats, count = nats + float(losses.sum()), count + len(losses)
    return float(torch.tensor(nats / count).exp())


def test_what_the_last_hint_shows_reaches_the_goal_and_the_unchanged_model_does_not(fable: LoadedModel) -> None:
    base = perplexity(fable.model, fable.tokenizer)
    skills = {skill.name: skill for skill in load_skills()}
    checked = 0
    for workshop in workshops().values():
        for step in workshop.steps:
            if step.goal is None:
                continue
            untouched = Run(LayerPlan.identity(12), ratio=1.0, kept=1.0, skills=dict.fromkeys(skills, 1.0))
            assert missing(step.goal, untouched), f"{step.title} is reached before anything is done"
            if step.show is None:
                assert step.goal.page or step.goal.sweep, step.title
                continue
            plan = LayerPlan.parse(step.show, 12)
            view = operate(fable.model, plan)
            asked = (
                {step.goal.skill: score_skill(view, fable.tokenizer, skills[step.goal.skill]).accuracy}
                if step.goal.skill
                else {}
            )
            ratio = perplexity(view, fable.tokenizer) / base if step.goal.needs_comparison else None
            assert not missing(step.goal, Run(plan, ratio=ratio, kept=1.0, skills=asked)), step.title
            checked += 1
    assert checked >= 12


def test_the_boards_can_be_climbed(fable: LoadedModel) -> None:
    base = perplexity(fable.model, fable.tokenizer)
    ratio = perplexity(operate(fable.model, "0-2,5-6,9-11"), fable.tokenizer) / base
    challenge = workshops()["first-cuts"].challenge
    assert challenge is not None
    assert not missing(challenge.goal, Run(LayerPlan.parse("0-2,5-6,9-11", 12), ratio=ratio, kept=0.0))
