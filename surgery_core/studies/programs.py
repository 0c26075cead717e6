"""Programs for one input, and how much of their success is the search's own (CoLa, arXiv 2507.07996; PoLar, 2606.06574)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from surgery_core.errors import SettingsError
from surgery_core.measure.skills import ItemResult, Skill, SkillItem, load_skills, score_skill
from surgery_core.measure.skills.frames import preferred
from surgery_core.statistics.items import paired_items, wilson
from surgery_core.stopping import looking
from surgery_core.studies.finding import Figure, Finding, Picture
from surgery_core.studies.program_search import Breadth, Found, ProgramSearch
from surgery_core.studies.ratios import nothing
from surgery_core.studies.study import Study, StudySetup
from surgery_core.surgery.anatomy import find_layers

REPAIRED = "wrong answers with a program that makes them right"


@dataclass(frozen=True)
class _Asked:
    """An item, how the unchanged model does on it, and the answer that is declared right in the null column.

    Attributes:
        skill: title of its skill.
        result: of the unchanged model.
        null: which of its answers that is, or 0 where there is none.
    """

    skill: str
    result: ItemResult
    null: int

    @property
    def item(self) -> SkillItem:
        """Return the item."""
        return self.result.item


def _run(setup: StudySetup) -> Finding:
    """Search a program for each item, and for wrong items again with a random wrong answer declared right.

    The figure is the share of wrong items that a program makes right, less the share of the same items for which the
    same search finds a program that makes a random wrong answer win (one that the unchanged model does not give): what
    the right answers have over any answers. Its interval is Newcombe's for paired shares. What is near 0 says that the
    search finds a program for whatever answer it is told.
    """
    skills = chosen_skills(setup.options["skills"])
    asked = _asked(setup, skills)
    look = looking(setup.stop, "Stopped before all programs were searched.")
    nulls = [one for one in asked if one.null]
    told = _told(setup, len(asked) + len(nulls))
    search = ProgramSearch(setup.model, setup.tokenizer, setup.lens, _breadth(setup), look, told)
    found: list[Found] = []
    for items, wanted in ((asked, [0] * len(asked)), (nulls, [one.null for one in nulls])):
        for group in search.find([one.item for one in items], wanted):
            found += group
    real, null = found[: len(asked)], found[len(asked) :]
    left_out = sum(not one.result.correct for one in asked) - len(nulls)
    return Finding(
        figure=_difference(asked, real, null),
        others=(*_shares(asked, real, null), *_shorter(asked, real), _saved(search)),
        frame=_frame(asked, real, null),
        picture=Picture(
            "dots", "number", "slots", series="answers",
            x_title="Item", y_title="Layers of the shortest program that works",
        ),
        note=_note(left_out, setup),
    )  # fmt: skip


def _told(setup: StudySetup, items: int) -> Callable[[int], None]:
    """Return what counts layers of items, of all of them."""
    done, most = 0, items * len(find_layers(setup.model)[1])

    def told(more: int) -> None:
        nonlocal done
        done += more
        if setup.on_progress is not None:
            setup.on_progress(done, most)

    return told


def chosen_skills(names: Any) -> tuple[Skill, ...]:
    """Return the skills with these names.

    Raises:
        SettingsError: when there is no such skill; it names them all.
    """
    known = {skill.name: skill for skill in load_skills()}
    for name in names:
        if name not in known:
            raise SettingsError(f"There is no skill {name!r}; there are: {', '.join(known)}.")
    return tuple(known[name] for name in names)


def _breadth(setup: StudySetup) -> Breadth:
    options: Any = setup.options
    n = len(find_layers(setup.model)[1])
    return Breadth(
        max(1, options["beam"]), max(1, options["times"]), max(0, options["extra"]),
        max(1, math.ceil(options["least"] * n)),
    )  # fmt: skip


def _asked(setup: StudySetup, skills: Sequence[Skill]) -> list[_Asked]:
    """Return the first items of every skill, with the unchanged model's answers."""
    random, found = np.random.default_rng(setup.seed), []
    items: Any = setup.options["items"]
    model: Any = setup.model
    for skill in skills:
        for result in score_skill(model, setup.tokenizer, skill, stop=setup.stop).items[: max(1, items)]:
            others = [
                number for number, answer in enumerate(result.item.answers) if number and answer != preferred(result)
            ]
            # a wrong answer that the model gives already needs no program
            null = int(random.choice(others)) if others and not result.correct else 0
            found.append(_Asked(skill.title, result, null))
    return found


def _wrong(asked: Sequence[_Asked], real: Sequence[Found]) -> list[Found]:
    """Return what was found for the items that have a null column."""
    return [found for one, found in zip(asked, real, strict=True) if one.null]


def _difference(asked: Sequence[_Asked], real: Sequence[Found], null: Sequence[Found]) -> Figure:
    name = f"Share of {REPAIRED}, less that of random answers"
    if not null or any(math.isnan(found.own.margin) for found in real):
        return nothing(name, len(null), unit="item", percent=True)
    pairs = paired_items([one.shortest is not None for one in null], _works(_wrong(asked, real)))
    return Figure(name, pairs.value, pairs.low, pairs.high, pairs.n, "item", percent=True)


def _works(found: Sequence[Found]) -> list[bool]:
    return [one.shortest is not None for one in found]


def _shares(asked: Sequence[_Asked], real: Sequence[Found], null: Sequence[Found]) -> tuple[Figure, Figure]:
    wrong = [found for one, found in zip(asked, real, strict=True) if not one.result.correct]
    return (
        _share(f"Share of {REPAIRED}", _works(wrong)),
        _share("Share of wrong answers with a program that makes a random other answer win", _works(null)),
    )


def _shorter(asked: Sequence[_Asked], real: Sequence[Found]) -> tuple[Figure, ...]:
    right = [found for one, found in zip(asked, real, strict=True) if one.result.correct]
    shorter = [one.shortest is not None and len(one.shortest.layers) < len(one.own.layers) for one in right]
    return (_share("Share of right answers with a shorter program that is still right", shorter),)


def _share(name: str, hits: Sequence[bool]) -> Figure:
    if not hits:
        return nothing(name, unit="item", percent=True)
    return Figure(name, sum(hits) / len(hits), *wilson(sum(hits), len(hits)), len(hits), "item", percent=True)


def _saved(search: ProgramSearch) -> Figure:
    work = search.work
    return Figure(
        "Layer runs, of those without shared beginnings", work.shared / work.alone if work.alone else math.nan,
        n_units=work.shared, unit="layer run", percent=True,
    )  # fmt: skip


def _frame(asked: Sequence[_Asked], real: Sequence[Found], null: Sequence[Found]) -> pd.DataFrame:
    """Return one line an item and kind of answer: number, skill, prompt, wanted, before, answers, slots, plan, margin.

    `before` says whether the unchanged model was right; `slots` and `plan` are those of the shortest program that works,
    NaN and empty where none was found.
    """
    lines = []
    nulls = iter(null)
    for number, (one, found) in enumerate(zip(asked, real, strict=True), 1):
        lines.append(_line(number, one, 0, found))
        if one.null:
            lines.append(_line(number, one, one.null, next(nulls)))
    return pd.DataFrame(lines)


def _line(number: int, one: _Asked, wanted: int, found: Found) -> dict[str, Any]:
    best = found.shortest
    before = "right" if one.result.correct else "wrong"
    return {
        "number": number,
        "skill": one.skill,
        "prompt": one.item.prompt,
        "wanted": one.item.answers[wanted],
        "before": before,
        "answers": "A random answer" if wanted else ("Still right" if one.result.correct else "Repaired"),
        "slots": math.nan if best is None else len(best.layers),
        "plan": "" if best is None else str(best.plan(max(found.own.layers, default=-1) + 1)),
        "margin": math.nan if best is None else best.margin,
    }


def _note(left_out: int, setup: StudySetup) -> str:
    said = []
    if left_out:
        said.append(f"{left_out} wrong items have no other wrong answer to draw, so they have no null column.")
    if setup.lens is None:
        said.append("There is no tuned lens for this model; beginnings were judged by the logit lens.")
    return " ".join(said)


PROGRAMS = Study(
    "programs",
    "Programs for one input",
    "Searches for each prompt a plan that skips and repeats layers and gives the wanted answer; the figure is the share of "
    "wrong answers that are repaired, less the share for random answers.",
    _run,
    {"skills": ["arithmetic"], "items": 40, "beam": 4, "times": 2, "extra": 2, "least": 0.5},
)
