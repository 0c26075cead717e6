"""Programs for single inputs, against every plan of a small space, run by hand on models that are built anew."""

from __future__ import annotations

import threading
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery_core.errors import AnatomyError, SettingsError, Stopped
from surgery_core.measure.skills import Skill, SkillItem, score_skill
from surgery_core.models.opening import load_model
from surgery_core.statistics.items import paired_items
from surgery_core.studies import program_search, programs
from surgery_core.studies.finding import Claim
from surgery_core.studies.program_search import Breadth, Found, ProgramSearch
from surgery_core.surgery.view import operate
from tests.core.studies.six import N, broken, built_anew, reordered_logits, run_study, six, tokenizer

# of one length, so that they run by hand in one batch without padding
ITEMS = (
    SkillItem("one two", "x", ("y", "z")),
    SkillItem("a b c d", "e", ("a", "b", "q")),
    SkillItem("the hen", "s", ("t",)),
)
MIXED = (*ITEMS, SkillItem("It was", " so", (" not", " a")), SkillItem("The fox and the wolf", "!", ("?", ".")))
EVERYTHING = Breadth(beam=3**N, times=2, extra=N, least=1)


def ids_of(text: str) -> list[int]:
    return tokenizer()(text)["input_ids"]


@cache
def every_plan() -> dict[tuple[int, ...], list[float]]:
    """Return the margins of `ITEMS` under every plan that runs each layer not at all, once or twice."""
    model, prompts = built_anew(), torch.tensor([ids_of(item.prompt) for item in ITEMS])
    found = {}
    for runs in product(range(3), repeat=N):
        order = tuple(layer for layer, times in enumerate(runs) for _ in range(times))
        if order:
            logits = reordered_logits(model, order, prompts)[:, -1]
            found[order] = [
                float(row[ids_of(item.right)[0]] - max(row[ids_of(wrong)[0]] for wrong in item.wrong))
                for row, item in zip(logits, ITEMS, strict=True)
            ]
    return found


def found_for(search: ProgramSearch, items: Any, wanted: Any = None) -> list[Found]:
    return [one for group in search.find(items, wanted or [0] * len(items)) for one in group]


def test_a_beam_that_leaves_nothing_out_equals_brute_force() -> None:
    search = ProgramSearch(six(), tokenizer(), breadth=EVERYTHING)
    found = found_for(search, ITEMS)
    for number, one in enumerate(found):
        margins = {order: values[number] for order, values in every_plan().items()}
        for length in range(1, 2 * N + 1):
            best = max((order for order in margins if len(order) == length), key=margins.__getitem__)
            mine = next(program for program in one.programs if len(program.layers) == length)
            assert mine.layers == best
            assert mine.margin == pytest.approx(margins[best], abs=1e-4)
        assert one.own.layers == tuple(range(N))
        assert one.own.margin == pytest.approx(margins[tuple(range(N))], abs=1e-4)
        working = [length for length in range(1, 2 * N + 1) if any(
            value > 0 for order, value in margins.items() if len(order) == length)]  # fmt: skip
        assert (one.shortest is None) == (not working)
        if one.shortest is not None:
            assert len(one.shortest.layers) == working[0]


def test_it_needs_at_most_a_fifth_of_the_layer_runs() -> None:
    search = ProgramSearch(six(), tokenizer(), breadth=EVERYTHING)
    found_for(search, ITEMS)
    alone = sum(len(order) for order in every_plan())
    # every plan that is not empty is the end of one run of a layer
    assert search.work.shared == len(ITEMS) * (3**N - 1)
    assert search.work.alone == len(ITEMS) * alone
    assert search.work.shared <= search.work.alone / 5


def test_what_is_counted_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    plain = program_search.call_layer

    def counted(layer: Any, rest: Any, hidden: torch.Tensor) -> torch.Tensor:
        ran.append(len(hidden))
        return plain(layer, rest, hidden)

    monkeypatch.setattr(program_search, "call_layer", counted)
    search = ProgramSearch(six(), tokenizer(), breadth=Breadth(beam=3))
    found_for(search, ITEMS)
    # each of these items has one row
    assert sum(ran) == search.work.shared


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_programs_margin_is_that_of_its_plan(family: str) -> None:
    model = six(family)
    found = found_for(ProgramSearch(model, tokenizer(), breadth=Breadth(beam=2)), MIXED)
    for item, one in zip(MIXED, found, strict=True):
        for program in (one.own, *one.programs):
            skill = Skill("x", "X", "X.", "", (item,))
            scored = score_skill(operate(model, program.plan(N)), tokenizer(), skill)
            assert program.margin == pytest.approx(scored.items[0].margin, abs=1e-4)


def test_groups_that_fit_the_memory_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    together = found_for(ProgramSearch(six(), tokenizer(), breadth=Breadth(beam=3)), MIXED)
    monkeypatch.setattr(program_search, "HELD_BYTES", 1)
    monkeypatch.setattr(program_search, "TOGETHER", {"cpu": 1})
    alone = found_for(ProgramSearch(six(), tokenizer(), breadth=Breadth(beam=3)), MIXED)
    for one, other in zip(together, alone, strict=True):
        assert [program.layers for program in one.programs] == [program.layers for program in other.programs]
        margins = [program.margin for program in other.programs]
        assert [program.margin for program in one.programs] == pytest.approx(margins, abs=1e-4)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 4), st.integers(1, N), st.integers(0, 2))
def test_programs_keep_to_what_is_searched(beam: int, times: int, extra: int, least: int, wanted: int) -> None:
    breadth = Breadth(beam, times, extra, least)
    search = ProgramSearch(six(), tokenizer(), breadth=breadth)
    for one in found_for(search, ITEMS[:2], [wanted, 0]):
        assert one.own.layers == tuple(range(N))
        assert max(program.margin for program in one.programs if len(program.layers) == N) >= one.own.margin
        for program in one.programs:
            assert least <= len(program.layers) <= N + extra
            assert list(program.layers) == sorted(program.layers)
            assert max(map(program.layers.count, program.layers)) <= times
    assert search.work.shared <= search.work.alone


def test_another_wanted_answer_turns_the_margin() -> None:
    item = ITEMS[2]
    search = ProgramSearch(six(), tokenizer(), breadth=EVERYTHING)
    right, wrong = (found_for(search, [item], [wanted])[0] for wanted in (0, 1))
    assert wrong.own.margin == pytest.approx(-right.own.margin, abs=1e-9)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Skill:
    letters = "abcdefghijklmnopqrstuv"
    items = tuple(
        SkillItem(f"the {a} is", a, (b, c)) for a, b, c in zip(letters, letters[1:], letters[2:], strict=False)
    )
    skill = Skill("letters", "Letters", "Letters.", "", items)
    monkeypatch.setattr(programs, "load_skills", lambda: (skill,))
    return skill


def test_the_figure_is_paired_over_wrong_items(asked: Skill) -> None:
    finding = run_study("programs", six(), skills=["letters"], beam=1, extra=0, least=0.8, seed=3)
    frame, base = finding.frame, score_skill(six(), tokenizer(), asked)
    wrong = [number for number, result in enumerate(base.items, 1) if not result.correct]
    assert 6 <= len(wrong) < len(asked.items)
    null = frame[frame["answers"] == "A random answer"].set_index("number")
    real = frame[frame["answers"] == "Repaired"].set_index("number")
    assert sorted(null.index) == sorted(real.index) == wrong
    for number in wrong:
        result = base.items[number - 1]
        scores = dict(zip(result.item.wrong, result.wrong, strict=True))
        # never the right answer, and never the one that the unchanged model gives
        assert null["wanted"][number] == min(scores, key=scores.__getitem__)
    expected = paired_items((null["plan"] != "")[wrong].tolist(), (real["plan"] != "")[wrong].tolist())
    figure = finding.figure
    assert (figure.value, figure.low, figure.high) == (expected.value, expected.low, expected.high)
    assert (figure.n_units, figure.unit) == (len(wrong), "item")
    for line in frame[frame["plan"] != ""].to_dict("records"):
        item = asked.items[line["number"] - 1]
        chosen = SkillItem(item.prompt, line["wanted"], tuple(x for x in item.answers if x != line["wanted"]))
        scored = score_skill(operate(six(), line["plan"]), tokenizer(), Skill("x", "X", "X.", "", (chosen,)))
        assert scored.items[0].correct
        assert line["slots"] >= 5


def test_items_of_two_answers_have_no_null_column(monkeypatch: pytest.MonkeyPatch) -> None:
    items = tuple(SkillItem(f"the {a} is", a, ("z",)) for a in "abcdefgh")
    monkeypatch.setattr(programs, "load_skills", lambda: (Skill("two", "Two", "Two.", "", items),))
    finding = run_study("programs", six(), skills=["two"], beam=1)
    wrong = finding.others[0].n_units
    assert wrong
    assert finding.figure.n_units == 0
    assert f"{wrong} wrong items have no other wrong answer" in finding.note
    assert Claim(0.0).outcome(finding.figure) == "too few texts to say"


def test_a_model_that_is_no_number_says_nothing(asked: Skill) -> None:
    finding = run_study("programs", broken(), skills=["letters"], beam=1)
    assert Claim(0.0).outcome(finding.figure) == "too few texts to say"


def test_progress_reaches_its_end_and_a_stop_ends_it(asked: Skill) -> None:
    seen: list[tuple[int, int]] = []
    run_study("programs", six(), skills=["letters"], beam=1, on_progress=lambda *at: seen.append(at))
    assert seen[-1][0] == seen[-1][1]
    assert seen == sorted(seen)
    stop = threading.Event()
    with pytest.raises(Stopped):
        run_study("programs", six(), skills=["letters"], stop=stop, on_progress=lambda done, most: stop.set())


def test_unknown_skills_and_models_that_run_whole_only_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="There is no skill 'sums'; there are: agreement, arithmetic, brackets"):
        run_study("programs", six(), skills=["sums"])
    monkeypatch.setattr(program_search, "cannot_start_in_the_middle", lambda *args: "It differs.")
    with pytest.raises(AnatomyError, match="cannot be searched on a LlamaForCausalLM.*It differs"):
        found_for(ProgramSearch(six(), tokenizer()), ITEMS)


def test_on_the_bundled_model_it_needs_at_most_a_fifth() -> None:
    from surgery_core.measure.skills import load_skills

    loaded = load_model("fable")
    items = next(skill for skill in load_skills() if skill.name == "arithmetic").items[:2]
    search = ProgramSearch(loaded.model, loaded.tokenizer, breadth=Breadth(beam=2, least=6))
    found = found_for(search, items)
    assert 0 < search.work.shared <= search.work.alone / 5
    for item, one in zip(items, found, strict=True):
        assert one.shortest is not None
        view = operate(loaded.model, one.shortest.plan(len(one.own.layers)))
        assert score_skill(view, loaded.tokenizer, Skill("x", "X", "X.", "", (item,))).items[0].correct
