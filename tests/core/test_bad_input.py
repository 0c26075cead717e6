"""Files and notation that somebody broke: a sentence within a second, or a value, and never anything else.

Every file that comes along is broken in ways that people and editors break files. For longer:
`python -m benchmarks.fuzz SECONDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from surgery_core import load_model
from surgery_core.errors import SurgeryError
from surgery_core.keeping.mergekit import from_mergekit
from surgery_core.models.opening import LoadedModel
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.recipe import Recipe
from surgery_core.workshops.workshop import Workshop
from tests.core.support.broken import PLANS, RECIPES, WORKSHOPS, broken, broken_merge, read

MOST = 250


@pytest.fixture(scope="module")
def fable() -> LoadedModel:
    return load_model("fable")


@pytest.mark.parametrize(
    ("reader", "files"), [(Recipe.loads, RECIPES), (Workshop.read, WORKSHOPS)], ids=["recipe", "task"]
)
def test_a_broken_file_is_a_sentence(reader: Callable[[str], Any], files: list[Path]) -> None:
    assert len(files) >= 3

    @settings(max_examples=MOST, deadline=None, suppress_health_check=list(HealthCheck))
    @given(broken(files))
    def each(text: str) -> None:
        read(reader, text)

    each()


@settings(max_examples=4 * MOST, deadline=None)
@given(PLANS)
def test_a_broken_plan_is_a_sentence(text: str) -> None:
    read(lambda given: str(LayerPlan.parse(given, 12)), text)


def test_a_broken_merge_is_a_sentence(fable: LoadedModel) -> None:
    @settings(max_examples=MOST, deadline=None)
    @given(broken_merge())
    def each(text: str) -> None:
        read(lambda given: from_mergekit(given, fable), text)

    each()


@pytest.mark.parametrize(
    "text", ["(" * 100_000, "0," * 100_000, "0x9" * 30_000, "0" * 100_000, "-" * 100_000, "~" * 100_000]
)
def test_a_hundred_thousand_characters_are_a_sentence(text: str) -> None:
    for reader in (Recipe.loads, Workshop.read, lambda given: LayerPlan.parse(given, 12)):
        with pytest.raises(SurgeryError):
            reader(text)  # type: ignore[operator]
    read(lambda given: LayerPlan.parse(given, 12), text)
