"""What a sweep knows of the skills: answers prompt by prompt, intervals, and the best plan on prompts its choice has not seen."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import surgery_core as sc
from surgery_core.cli.sweep import rows_text
from surgery_core.measure.skills import load_skills
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.family import discoveries
from surgery_core.statistics.items import mean_share, wilson
from surgery_core.sweeps.file import SweepFile, SweepIdentity, SweepResult
from surgery_core.sweeps.findings import best_on_unseen_items
from surgery_core.sweeps.frames import sweep_frame
from surgery_core.sweeps.kinds import sweep_kind, sweep_points
from surgery_core.sweeps.rows import ANSWERS, SweepRow
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import Sweep
from surgery_core.text import as_texts
from tests.tiny import build_model, build_tokenizer

TEXTS = ("The old woman went to the well.", "A fox ran.")
SKILLS = tuple(skill for skill in load_skills() if skill.name in ("agreement", "counting"))


def plain_answers(plan: str) -> dict[str, str]:
    """Return which prompts are answered right, by whole logits of a model with these layers, an answer at a time."""
    model, tokenizer = build_model("llama"), build_tokenizer()
    layers = [int(part) for part in plan.split(",")]
    model.model.layers = torch.nn.ModuleList([model.model.layers[at] for at in layers])
    model.config.num_hidden_layers = len(layers)
    for position, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = position

    def score(prompt: str, answer: str) -> float:
        start, ids = len(tokenizer(prompt).input_ids), torch.tensor([tokenizer(prompt + answer).input_ids])
        with torch.no_grad():
            logs = model(ids).logits[0].double().log_softmax(-1)
        return sum(float(logs[at - 1, ids[0, at]]) for at in range(start, ids.shape[1]))

    def right(item: Any) -> bool:
        return score(item.prompt, item.right) > max(score(item.prompt, wrong) for wrong in item.wrong)

    return {skill.title: "".join("wr"[right(item)] for item in skill.items) for skill in SKILLS}


@pytest.fixture(scope="module")
def swept() -> list[SweepRow]:
    measures = SweepMeasures(agreement=False, skills=SKILLS)
    return list(sc.sweep(build_model("llama"), build_tokenizer(), TEXTS, "delete", measures=measures))


def test_answers_are_those_of_models_built_by_hand(swept: list[SweepRow]) -> None:
    plans = {row.number: row.plan for row in swept}
    assert plans == {-1: "0-3", 0: "1-3", 1: "0,2-3", 2: "0-1,3", 3: "0-2"}
    for row, layers in zip(swept, ("0,1,2,3", "1,2,3", "0,2,3", "0,1,3", "0,1,2"), strict=True):
        assert dict(row.answers) == plain_answers(layers)
        for skill in SKILLS:
            given = row.answers[skill.title]
            assert row.skills[skill.title] == given.count("r") / len(skill.items)


def test_the_test_against_the_start_is_mcnemars_over_all_prompts(swept: list[SweepRow]) -> None:
    before = "".join(swept[0].answers.values())
    assert math.isnan(swept[0].skill_p)
    for row in swept[1:]:
        after = "".join(row.answers.values())
        gained = sum(a == "w" and b == "r" for a, b in zip(before, after, strict=True))
        lost = sum(a == "r" and b == "w" for a, b in zip(before, after, strict=True))
        p = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
        assert row.skill_p == pytest.approx(p)
        assert row.skill_verdict in ("better", "worse", "no difference seen")
        assert (row.skill_verdict == "no difference seen") == (p > 0.05)


def test_plans_whose_answers_cannot_be_told_apart_are_marked_by_the_answers_and_not_by_the_loss() -> None:
    start = SweepRow(-1, "start", None, "0-3", nats=1.0, answers={"one": "r" * 40})
    ps = [0.001, 0.4, 0.02, 0.9]
    rows = [
        start,
        *(
            SweepRow(at, at, None, str(at), nats=1.0, p=1.0 - p, skill_p=p, skills={"one": 0.5})
            for at, p in enumerate(ps)
        ),
    ]
    frame = sweep_frame(sweep_kind("delete"), ["L0", "L1", "L2", "L3"], rows, rows, "skill_accuracy")
    assert frame["alike"].tolist() == (~discoveries(np.array(ps))).tolist() == [False, True, False, True]


def test_the_interval_of_one_skill_is_wilsons_and_of_several_their_ends_put_together(swept: list[SweepRow]) -> None:
    assert mean_share([(7, 30)]) == pytest.approx(wilson(7, 30))
    (low_1, high_1), (low_2, high_2) = wilson(30, 30), wilson(8, 32)
    assert mean_share([(30, 30), (8, 32)]) == pytest.approx(
        (
            0.625 - math.sqrt((1 - low_1) ** 2 + (0.25 - low_2) ** 2) / 2,
            0.625 + math.sqrt((high_1 - 1) ** 2 + (high_2 - 0.25) ** 2) / 2,
        )
    )
    row = swept[1]
    expected = mean_share([(given.count("r"), len(given)) for given in row.answers.values()])
    assert row.interval("skill_accuracy") == expected
    assert expected[0] < row.skill_accuracy < expected[1]


def test_the_interval_of_a_mean_over_skills_holds_it_about_95_times_of_100() -> None:
    random, true = np.random.default_rng(3), np.array([1.0, 0.97, 0.5, 0.31, 0.8, 0.66])
    held = 0
    for _ in range(400):
        low, high = mean_share([(int(right), 32) for right in random.binomial(32, true)])
        held += low <= true.mean() <= high
    assert 0.92 <= held / 400 <= 0.995


def test_rows_keep_their_answers_in_files_and_files_of_before_go_on_without(tmp_path: Path) -> None:
    measures = SweepMeasures(agreement=False, skills=SKILLS)
    run = Sweep(
        build_model("llama"),
        build_tokenizer(),
        as_texts(TEXTS),
        sweep_points("delete", LayerPlan.identity(4)),
        measures=measures,
    )
    identity, path = SweepIdentity.of("tiny", "delete", run), tmp_path / "rows.csv"
    file, rows = SweepFile(path, run, identity), list(run.rows())
    for row in rows[:3]:
        file.append(row)
    for text in (path.read_text(), SweepResult(identity, tuple(rows[:3])).to_json()):
        for again, row in zip(SweepResult.read(text).rows, rows, strict=False):
            assert dict(again.answers) == dict(row.answers)
            assert again.skill_verdict == row.skill_verdict
            assert again.interval("skill_accuracy") == row.interval("skill_accuracy")
            assert again.skill_p == pytest.approx(row.skill_p, nan_ok=True)
    assert "skill_accuracy_low" in path.read_text().splitlines()[0]
    lines = list(csv.reader(io.StringIO(path.read_text())))
    new = (ANSWERS, "skill_p", "skill_verdict", "skill_accuracy_")
    kept = [at for at, name in enumerate(lines[0]) if not name.startswith(new)]
    assert len(kept) == len(lines[0]) - 4 - len(SKILLS)
    with path.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([[line[at] for at in kept] for line in lines])
    file = SweepFile(path, run, identity)
    assert file.done == {-1, 0, 1}
    for row in rows[3:]:
        file.append(row)
    assert [dict(row.answers) for row in SweepFile(path, run, identity).rows] == [{}] * 5


def answering(number: int, *given: str, nats: float = 1.0) -> SweepRow:
    answers = {f"skill {at}": one for at, one in enumerate(given)}
    skills = {name: one.count("r") / len(one) for name, one in answers.items()}
    return SweepRow(number, number, None, f"plan {number}", nats=nats, answers=answers, skills=skills)


def test_the_best_by_answers_is_chosen_on_every_second_prompt_and_measured_on_the_others() -> None:
    """By hand: the lucky plan has all of the first, third, ... prompts and none of the others; the start has half of each."""
    start, fair = answering(-1, "rrww" * 5, "wwrr" * 5), answering(0, "rrrw" * 5, "wwrr" * 5)
    lucky = answering(1, "rw" * 10, "rw" * 10)
    found = best_on_unseen_items([start, fair, lucky])
    assert found is not None
    assert (found.row.number, found.n_plans, found.n_chosen) == (1, 2, 20)
    assert found.seen == pytest.approx(0.5)
    assert (found.unseen.word, found.unseen.n_units, found.unseen.value) == ("worse", 20, pytest.approx(-0.5))
    said = found.sentence("L1")
    assert said.startswith(
        "No winner among 2 plans by skills; L1 did best. Chosen on every second prompt, where its accuracy is +50.0 points"
    )
    assert "On the 20 others: worse: 0 became right and 10 wrong, of 20 items" in said


def test_of_equal_answers_the_one_of_less_loss_is_best_and_skills_count_alike() -> None:
    start = answering(-1, "ww" * 4, "ww" * 20)
    one_skill, other = answering(0, "rr" * 4, "ww" * 20), answering(1, "ww" * 4, "rr" * 10 + "ww" * 10)
    found = best_on_unseen_items([start, other, one_skill])
    assert found is not None
    assert found.row.number == 0
    again = best_on_unseen_items(
        [start, answering(0, "rr" * 4, "ww" * 20, nats=2.0), answering(1, "rr" * 4, "ww" * 20)]
    )
    assert again is not None
    assert again.row.number == 1


def test_a_map_over_noise_names_no_winner_and_a_real_one_is_named() -> None:
    """Sixty plans whose answers differ from the start's by chance alone, two hundred times; and one that mends a third."""
    random, named = np.random.default_rng(11), 0
    for _ in range(200):
        start = random.random(150) < 0.6
        flips = random.random((60, 150)) < 0.1
        rows = [
            answering(-1, _spelt(start)),
            *(answering(at, _spelt(np.where(flip, random.random(150) < 0.6, start))) for at, flip in enumerate(flips)),
        ]
        found = best_on_unseen_items(rows)
        assert found is not None
        assert found.seen >= 0
        named += found.sentence("L0").startswith("Best of")
    assert named <= 0.05 * 200
    start = random.random(150) < 0.6
    mended = np.where(random.random(150) < 1 / 3, True, start)
    found = best_on_unseen_items(
        [answering(-1, _spelt(start)), answering(0, _spelt(start)), answering(1, _spelt(mended))]
    )
    assert found is not None
    assert found.sentence("L1").startswith("Best of 2 by skills: L1.")


def _spelt(right: Any) -> str:
    return "".join("wr"[int(one)] for one in right)


def test_without_answers_nothing_is_best_by_them_and_figures_that_are_no_numbers_have_no_interval() -> None:
    start, one, two = answering(-1, "rw" * 4), answering(0, "rw" * 4), answering(1, "wr" * 4)
    assert best_on_unseen_items([start, one]) is None
    assert best_on_unseen_items([one, two]) is None
    assert best_on_unseen_items([SweepRow(-1, 0, None, "", nats=1.0), one, two]) is None
    assert best_on_unseen_items([answering(-1, "r"), answering(0, "r"), answering(1, "r")]) is None
    broken = SweepRow(0, 0, None, "", skills={"one": math.nan}, answers={"one": ""})
    assert all(math.isnan(end) for end in broken.interval("skill_accuracy"))


def test_the_command_line_has_accuracy_with_its_interval(swept: list[SweepRow]) -> None:
    head, *_ = (line for line in rows_text(swept).splitlines() if line.strip())
    for name in ("skill accuracy", "skill accuracy low", "skill accuracy high", "skill verdict"):
        assert name in head
    assert "skill" not in rows_text([SweepRow(0, 0, None, "0", nats=1.0)])
