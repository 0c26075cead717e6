"""Text that somebody broke, for as long as there is time: plans, recipes, tasks and merges. A value or a sentence, soon.

The same inputs as `tests/core/test_bad_input.py` draws some hundred of, with another seed in each round. The first input
that is neither read nor refused in a sentence, or takes longer than it may, is shown as small as it can be made.

    python -m benchmarks.fuzz 600
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from surgery_core import load_model
from surgery_core.keeping.mergekit import from_mergekit
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.recipe import Recipe
from surgery_core.workshops.workshop import Workshop
from tests.core.support.broken import PLANS, RECIPES, WORKSHOPS, broken, broken_merge, read

ROUND = 300
"""Inputs of each kind in a round."""


def kinds() -> dict[str, tuple[st.SearchStrategy[str], Callable[[str], Any]]]:
    """Return what is broken, and what reads it."""
    loaded = load_model("fable")
    return {
        "plans": (PLANS, lambda text: str(LayerPlan.parse(text, 12))),
        "recipes": (broken(RECIPES), Recipe.loads),
        "tasks": (broken(WORKSHOPS), Workshop.read),
        "merges": (broken_merge(), lambda text: from_mergekit(text, loaded)),
    }


def main() -> None:
    """Draw inputs for as many seconds as the command line says, and tell how many there were."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    subjects, counts, longest = kinds(), dict.fromkeys(kinds(), 0), dict.fromkeys(kinds(), 0.0)
    end, number = time.monotonic() + seconds, time.time_ns()
    while time.monotonic() < end:
        for name, (texts, reader) in subjects.items():
            number += 1

            @seed(number)
            @settings(max_examples=ROUND, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(texts)
            def each(text: str, name: str = name, reader: Callable[[str], Any] = reader) -> None:
                began = time.monotonic()
                read(reader, text)
                counts[name] += 1
                longest[name] = max(longest[name], time.monotonic() - began)

            each()
    for name, count in counts.items():
        print(f"{name}: {count:,} inputs, the longest took {longest[name]:.2f} s")


if __name__ == "__main__":
    main()
