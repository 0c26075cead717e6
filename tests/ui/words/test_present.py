"""How numbers, plans and messages read."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_ui.words import present


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6.214, "6.21"), (62.14, "62.1"), (621.4, "621"), (12345.6, "12,346"), (1.5e9, "1.5e+09"),
        (math.inf, "∞"), (math.nan, "–"), (0.0, "0.00"),
    ],
)  # fmt: skip
def test_amounts(value: float, text: str) -> None:
    assert present.amount(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(940, "940"), (6_099_648, "6.1M"), (1_236_000_000, "1.24B"), (1500, "1.5k")]
)
def test_counts(value: int, text: str) -> None:
    assert present.count(value) == text


@pytest.mark.parametrize(("value", "text"), [(900, "900 bytes"), (24_400_000, "24.4 MB"), (2_470_000_000, "2.47 GB")])
def test_sizes(value: int, text: str) -> None:
    assert present.size(value) == text


def test_figures_that_are_no_numbers_have_no_digits() -> None:
    assert [present.decimals(value) for value in (1.9034, math.nan, math.inf)] == ["1.903", "–", "∞"]
    assert present.decimals(0.0481, signed=True) == "+0.048"


@given(st.text())
def test_markdown_in_a_message_stays_text(text: str) -> None:
    escaped = present.plain(text)
    assert re.sub(r"\\(.)", r"\1", escaped) == " ".join(text.split())
    assert not re.search(r"(?<!\\)[\[\]*_`<>$:!#]", escaped.replace("\\\\", ""))
