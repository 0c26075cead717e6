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


class Tried:
    """How many inputs of a kind were read, and how long the longest took.

    Args:
        texts: what is broken.
        reader: what reads it.
    """

    def __init__(self, texts: st.SearchStrategy[str], reader: Callable[[str], Any]) -> None:
        self._texts, self._reader = texts, reader
        self.count, self.longest = 0, 0.0

    def go_on(self, number: int) -> None:
        """Try one more round with this seed."""

        @seed(number)
        @settings(max_examples=ROUND, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(self._texts)
        def each(text: str) -> None:
            began = time.monotonic()
            read(self._reader, text)
            self.count += 1
            self.longest = max(self.longest, time.monotonic() - began)

        each()


def main() -> None:
    """Draw inputs for as many seconds as the command line says, and tell how many there were."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    tried = {name: Tried(*kind) for name, kind in kinds().items()}
    end, number = time.monotonic() + seconds, time.time_ns()
    while time.monotonic() < end:
        for one in tried.values():
            number += 1
            one.go_on(number)
    for name, one in tried.items():
        print(f"{name}: {one.count:,} inputs, the longest took {one.longest:.2f} s")


if __name__ == "__main__":
    main()
