"""The tour's steps point at controls that there are, and say what they have to say in few words."""

from __future__ import annotations

import ast
import re
from typing import get_args

from surgery_ui.words.tour import CHAPTERS, END, PAGES, Until
from tests.ui.support.sources import ROOT, trees

STEPS = [step for steps in CHAPTERS.values() for step in steps]


def strings() -> set[str]:
    """Return every string of the app's sources, and how those begin that are made of parts."""
    nodes = [node for tree in trees().values() for node in ast.walk(tree)]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_the_tour_has_five_steps_and_a_chapter_two_or_three() -> None:
    assert {name: len(steps) for name, steps in CHAPTERS.items()} == {"": 5, "lens": 3, "sweep": 3}
    assert set(END) == set(CHAPTERS) == set(PAGES)
    assert all(len(step.text) <= 130 for step in STEPS)


def test_the_keys_that_steps_point_at_are_keys_of_the_app() -> None:
    known = strings()
    wanted = {key for step in STEPS for at in step.at for key in re.findall(r"st-key-([a-z-]*[a-z])", at)}
    assert {"strip", "undo", "said", "map", "sweep-questions"} <= wanted
    assert not {key for key in wanted if not any(one == key or one == f"{key}-" for one in known)}


def test_what_ends_a_step_is_known_to_the_browser() -> None:
    script = (ROOT / "surgery_ui" / "components" / "tour" / "tour.js").read_text(encoding="utf-8")
    table = script.partition("isDone(step) {")[2].partition("}[step.until]")[0]
    assert set(re.findall(r"^ {6}(\w+):", table, re.MULTILINE)) == set(get_args(Until))
    assert {step.until for step in STEPS} == set(get_args(Until))
