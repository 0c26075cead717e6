"""Files and notation that somebody broke: a sentence within a second, or a value, and never anything else.

Every file that comes along is broken in ways that people and editors break files. By hand for longer:
`BROKEN_FILES=20000 pytest tests/core/test_bad_input.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surgery_core.errors import SurgeryError
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.recipe import Recipe
from surgery_core.workshops.workshop import Workshop

ROOT = Path(__file__).resolve().parents[2]
MOST = int(os.environ.get("BROKEN_FILES", "250"))
ODD = (
    "nan", "-inf", "1e999", "-1", "0", "9" * 25, "true", '""', "[]", "[[[]]]", "{}", "{ a = 1 }", "1979-05-27", "''",
    '"\\u202e\\u200b"', '"<script>alert(1)</script>"', '"a\\u0000b"', '"../../etc/passwd"', '["", 1]', "[nan]",
    '"' + "(" * 2_000 + '"', '"0x1024"', '"0-4095"', '"9-0,~,7"', "[1, [2, [3]]]",
)  # fmt: skip
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
WORKSHOPS = sorted((ROOT / "workshops").glob("*.toml"))


@st.composite
def broken(draw: st.DrawFn, files: list[Path]) -> str:
    """Draw a file with some of its lines gone, doubled, moved, cut short or with another value."""
    lines = draw(st.sampled_from(files)).read_text(encoding="utf-8").splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["odd", "odd", "odd", "gone", "doubled", "moved", "cut", "name"])):
            case "odd":
                lines[at] = f"{lines[at].partition('=')[0]}= {draw(st.sampled_from(ODD))}"
            case "gone":
                del lines[at]
            case "doubled":
                lines.insert(at, lines[at])
            case "moved":
                lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(at))
            case "cut":
                lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
            case "name":
                lines[at] = draw(st.text(max_size=12)) + lines[at]
        if not lines:
            break
    return "\n".join(lines)


def read(reader: Callable[[str], Any], text: str) -> None:
    began = time.monotonic()
    try:
        reader(text)
    except SurgeryError as error:
        assert 10 < len(str(error)) < 2_000, "a sentence"
    assert time.monotonic() - began < 5, "seconds, on a busy machine"


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
@given(st.text(alphabet="0123456789-,x*.()| ~@'\"attnmlpean \u202e\u200b\u0661\uff11", max_size=60))
def test_a_broken_plan_is_a_sentence(text: str) -> None:
    read(lambda given: str(LayerPlan.parse(given, 12)), text)


@pytest.mark.parametrize(
    "text", ["(" * 100_000, "0," * 100_000, "0x9" * 30_000, "0" * 100_000, "-" * 100_000, "~" * 100_000]
)
def test_a_hundred_thousand_characters_are_a_sentence(text: str) -> None:
    for reader in (Recipe.loads, Workshop.read, lambda given: LayerPlan.parse(given, 12)):
        with pytest.raises(SurgeryError):
            reader(text)  # type: ignore[operator]
    read(lambda given: LayerPlan.parse(given, 12), text)
