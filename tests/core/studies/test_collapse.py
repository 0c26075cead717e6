"""Collapse at the decision: margins by layer against cut models and plain torch, and both depths by hand."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from surgery_core.errors import Stopped
from surgery_core.lenses.answers import AnswerReader
from surgery_core.lenses.tuned import Translators, TunedLens
from surgery_core.measure.skills import Skill, SkillItem, score_skill
from surgery_core.studies import collapse, programs
from surgery_core.studies.collapse import lasting, margins_by_layer
from surgery_core.studies.finding import Claim
from surgery_core.studies.study import StudySetup
from surgery_core.surgery.view import operate
from tests.core.studies.six import N, broken, built_anew, logits_by_hand, run_study, six, states_by_hand, tokenizer

ITEMS = (
    SkillItem("one two", "x", ("y", "z")),
    SkillItem("It was", " so", (" not", " a")),
    SkillItem("The fox and the wolf", "!", ("?",)),
)


def ids_of(text: str) -> list[int]:
    return tokenizer()(text)["input_ids"]


def guessed(prompts: tuple[str, ...]) -> Skill:
    """Return a skill of which the unchanged model has two items of three right: its own next letter, or another one."""
    items = []
    for number, prompt in enumerate(prompts):
        logits = logits_by_hand("llama", range(N), ids_of(prompt))[-1]
        letters = sorted("abcdefghijklmnop", key=lambda letter: -float(logits[ids_of(letter)[0]]))
        right, wrong = (letters[0], letters[1:3]) if number % 3 else (letters[1], [letters[0], letters[2]])
        items.append(SkillItem(prompt, right, tuple(wrong)))
    return Skill("guessed", "Guessed", "Guessed.", "", tuple(items))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Skill:
    skill = guessed(
        tuple(f"{word} {other} is" for word in ("the", "a", "no", "one") for other in ("fox", "hen", "sea"))
    )
    monkeypatch.setattr(programs, "load_skills", lambda: (skill,))
    return skill


def setup_of(lens: TunedLens | None = None) -> StudySetup:
    return StudySetup(six(), tokenizer(), (), {}, lens=lens)


@pytest.mark.parametrize(
    ("holds", "depths"),
    [([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 0]], [2, 1, 2, 0, 3]), (np.zeros((0, 3)), [])],
)
def test_what_holds_from_where_on(holds: list[list[int]], depths: list[int]) -> None:
    assert lasting(np.array(holds)).tolist() == depths


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_margins_by_layer_are_those_of_models_cut_there(family: str) -> None:
    margins = margins_by_layer(StudySetup(six(family), tokenizer(), (), {}), ITEMS)
    assert margins.shape == (len(ITEMS), N + 1)
    for layers in range(N + 1):
        plan = f"0-{layers - 1}" if layers else ""
        scored = score_skill(operate(six(family), plan), tokenizer(), Skill("x", "X", "X.", "", ITEMS))
        assert margins[:, layers] == pytest.approx([one.margin for one in scored.items], abs=1e-4)


def test_a_tuned_lens_translates_all_but_the_last() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = 0.1 * torch.randn((N, 32, 32), generator=generator)
    biases = 0.1 * torch.randn((N, 32), generator=generator)
    margins = margins_by_layer(setup_of(TunedLens(six(), Translators(weights, biases))), ITEMS[:1])
    model = built_anew()
    states = states_by_hand("llama", range(N), ids_of(ITEMS[0].prompt))[:, -1].float()
    for layers in range(N + 1):
        state = states[layers]
        if layers < N:
            state = state + weights[layers] @ state + biases[layers]
        logits = model.lm_head(model.model.norm(state))
        x, y, z = (float(logits[ids_of(letter)[0]]) for letter in "xyz")
        assert margins[0, layers] == pytest.approx(x - max(y, z), abs=1e-3)


def test_scores_are_the_skills_own() -> None:
    reader = AnswerReader(six(), tokenizer(), ITEMS)
    batch, states = reader.batch, []
    for row in range(len(batch.input_ids)):
        ids = batch.input_ids[row][batch.attention_mask[row].bool()].tolist()
        state = states_by_hand("llama", range(N), ids)[-1].float()
        states.append(torch.nn.functional.pad(state, (0, 0, 0, batch.input_ids.shape[1] - len(ids))))
    scores = reader.scores(torch.stack(states)[None], None)
    own = score_skill(six(), tokenizer(), Skill("x", "X", "X.", "", ITEMS)).items
    assert scores[0].tolist() == pytest.approx([score for one in own for score in (one.right, *one.wrong)], abs=1e-4)


def test_both_depths_by_hand(asked: Skill) -> None:
    finding = run_study("collapse", six(), (), skills=["guessed"])
    decisions, collapses = [], []
    model = built_anew()
    for item in asked.items:
        ids, states = ids_of(item.prompt), states_by_hand("llama", range(N), ids_of(item.prompt))[:, -1].float()
        right, wrong = ids_of(item.right)[0], [ids_of(one)[0] for one in item.wrong]
        logits = model.lm_head(model.model.norm(states))
        decided = [bool(row[right] > row[wrong].max()) for row in logits]
        if not decided[-1]:
            continue
        kept = []
        for layers in range(N):
            order = [*range(layers), N - 1]
            row = logits_by_hand("llama", order, ids)[-1]
            kept.append(bool(row[right] > row[wrong].max()))
        decisions.append(max([-1, *(at for at, holds in enumerate(decided) if not holds)]) + 1)
        collapses.append(max([-1, *(at for at, holds in enumerate(kept) if not holds)]) + 1)
    assert len(decisions) == 8
    figure, *others = finding.figure, *finding.others
    assert figure.n_units == len(decisions)
    # a cut leaves the last layer, so that it can take away no decision of that one
    reached = [min(decision, N - 1) for decision in decisions]
    assert N in decisions
    assert figure.value == pytest.approx(np.mean(np.array(collapses) - reached) / N)
    assert others[0].value == pytest.approx(np.mean(decisions) / N)
    assert others[1].value == pytest.approx(np.mean(collapses) / N)
    curve = finding.frame[finding.frame["curve"] == "Right with the layers between cut out"]
    # the gentlest cut changes nothing: 8 of 12 are right
    assert curve["share"].iloc[-1] == pytest.approx(8 / 12)
    assert len(finding.frame) == N + (N + 1)


def test_groups_of_items_read_the_same(asked: Skill, monkeypatch: pytest.MonkeyPatch) -> None:
    together = run_study("collapse", six(), (), skills=["guessed"])
    monkeypatch.setattr(collapse, "TOGETHER", 5)
    assert run_study("collapse", six(), (), skills=["guessed"]).figure == together.figure


def test_a_model_that_is_no_number_says_nothing(asked: Skill) -> None:
    finding = run_study("collapse", broken(), (), skills=["guessed"])
    assert finding.figure.n_units == 0
    assert Claim(-1.0, 1.0).outcome(finding.figure) == "too few texts to say"


def test_progress_reaches_its_end_and_a_stop_ends_it(asked: Skill) -> None:
    seen: list[tuple[int, int]] = []
    run_study("collapse", six(), (), skills=["guessed"], on_progress=lambda *at: seen.append(at))
    assert seen[-1] == (N, N)
    stop = threading.Event()
    with pytest.raises(Stopped):
        run_study("collapse", six(), (), skills=["guessed"], stop=stop, on_progress=lambda done, most: stop.set())
