"""Labels that tell a long list apart, soon."""

from __future__ import annotations

import time

from surgery_ui.words.labels import free, unique


def test_numbers_tell_equal_titles_apart() -> None:
    assert list(unique(dict(enumerate(["a", "a", "b", "a"]))).values()) == ["a", "a (2)", "b", "a (3)"]
    assert free("a", {"a", "a (2)"}) == "a (3)"


def test_a_long_list_takes_no_longer_for_each() -> None:
    """Twenty thousand titles took minutes when every one made all numbers."""
    began = time.perf_counter()
    found = unique({number: f"Text {number}" for number in range(20_000)})
    assert len(set(found.values())) == 20_000
    assert time.perf_counter() - began < 5
