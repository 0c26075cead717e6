"""Every study of this room, on a pretended GPU, on Apple's, and with layers spread over two: the CPU's figures."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from surgery_core.measure.skills import Skill, SkillItem
from surgery_core.studies import programs
from surgery_core.studies.finding import Finding
from tests.core.studies.six import TEXTS, built_anew, run_study
from tests.core.support.pretended_device import pretended, put, spread

SKILL = Skill(
    "letters", "Letters", "Letters.", "",
    tuple(SkillItem(f"the {word} is", word[0], (word[1], word[2])) for word in ("fox", "hen", "owl", "cat")),
)  # fmt: skip
PLACES = {
    "cuda": lambda model: put(model, "cuda:0"),
    "mps": lambda model: put(model, "mps"),
    "two": lambda model: spread(model, "cuda:0", "cuda:1"),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "depth": {},
    "effective-depth": {},
    "programs": {"skills": ["letters"], "beam": 2},
    "calibration": {"sets": ["given", "short"], "texts": 2, "tokens": 12, "remove": 2, "resamples": 2},
    "collapse": {"skills": ["letters"]},
    "curse-of-depth": {},
    "survival": {"words": ["letters"], "sums": ["letters"], "remove": 1},
}


@pytest.fixture(autouse=True)
def _asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "load_skills", lambda: (SKILL,))


def measured(key: str, model: Any) -> Finding:
    return run_study(key, model, TEXTS[:3], **OPTIONS[key])


@cache
def on_the_cpu(key: str) -> Finding:
    return measured(key, built_anew())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("key", OPTIONS)
def test_a_device_gives_what_the_cpu_gives(key: str, place: str) -> None:
    expected = on_the_cpu(key)
    with pretended():
        found = measured(key, PLACES[place](built_anew()))
    figures = [(one.value, one.n_units) for one in (found.figure, *found.others)]
    assert np.array(figures) == pytest.approx(
        np.array([(one.value, one.n_units) for one in (expected.figure, *expected.others)]), abs=1e-4, nan_ok=True
    )
    assert len(found.frame) == len(expected.frame)
    assert found.note == expected.note
