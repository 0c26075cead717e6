"""Which tests take long: `tests/slow.txt`, of which CI runs a sixteenth.

    pytest --junitxml=a.xml ...          # on a machine with two cores that has other work too
    python -m tests.slow a.xml b.xml     # writes the list anew from all of them

A test function stands there if one of its cases took longer than `SECONDS`, and it is not of those that run `ALWAYS`.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

LIST = Path(__file__).with_name("slow.txt")
SECONDS = 2.0
ALWAYS = frozenset(
    {
        "tests/browser/test_browser.py::test_a_dragged_chip_moves_its_layer_and_the_numbers_are_the_cores",
        "tests/browser/test_first_tour.py::test_real_clicks_lead_through_a_first_visit_and_it_stays_away_then",
        "tests/browser/test_real_model.py::test_an_edit_shows_all_figures",
        "tests/browser/test_real_model.py::test_the_lens_map_before_and_after",
        "tests/browser/test_wheel.py::test_the_app_is_drawn_and_works",
        "tests/core/test_examples.py::test_the_notebook",
        "tests/core/proof/test_architectures.py::test_no_wrong_answer_is_let_pass_in_the_sample",
    }
)
"""What everything else stands on, however long it takes."""
ROOT = Path(__file__).resolve().parents[1]


def slow_tests() -> frozenset[str]:
    """Return the functions that take long, as `tests/core/test_axes.py::test_name`."""
    return frozenset(LIST.read_text(encoding="utf-8").split())


def slow_in(report: str) -> set[str]:
    """Return those of a JUnit report."""
    cases = ElementTree.parse(report).iter("testcase")
    return {_function(case) for case in cases if float(case.get("time", 0)) > SECONDS}


def _function(case: ElementTree.Element) -> str:
    parts = str(case.get("classname")).split(".")
    while not (file := ROOT.joinpath(*parts).with_suffix(".py")).is_file():
        parts.pop()  # a class
    return f"{file.relative_to(ROOT).as_posix()}::{str(case.get('name')).split('[')[0]}"


if __name__ == "__main__":
    found = sorted(set().union(*map(slow_in, sys.argv[1:])) - ALWAYS)
    LIST.write_text("\n".join(found) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(found)} functions take longer than {SECONDS:g} s\n")
