"""Values made once for all threads."""

from __future__ import annotations

import threading
import time

import pytest

from surgery_ui.work.kept import Kept


def test_a_value_is_made_once_however_many_ask_at_the_same_time() -> None:
    kept, made, found = Kept[int](4), [], []

    def make() -> int:
        time.sleep(0.05)
        made.append(1)
        return 7

    threads = [threading.Thread(target=lambda: found.append(kept.get("a", make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [7] * 8
    assert len(made) == 1


def test_what_was_asked_for_longest_ago_goes_first_and_a_failure_is_not_kept() -> None:
    kept = Kept[str](2)
    for key in ("a", "b"):
        kept.get(key, lambda key=key: f"first {key}")
    kept.get("a", lambda: "again")
    kept.get("c", lambda: "first c")
    assert kept.get("a", lambda: "again") == "first a"
    assert kept.get("b", lambda: "again") == "again"
    with pytest.raises(ValueError, match="no"):
        kept.get("d", lambda: _fail())
    assert kept.get("d", lambda: "second try") == "second try"


def _fail() -> str:
    raise ValueError("no")


def test_what_was_made_already_is_kept_within_the_bound_and_found() -> None:
    kept: Kept[str] = Kept(2)
    for name in ("a", "b"):
        kept.put(name, name.upper())
    assert kept.find("a") == "A"
    kept.put("c", "C")
    # b was asked for longest ago
    assert [kept.find(name) for name in ("a", "b", "c")] == ["A", None, "C"]
    assert kept.get("a", lambda: "made anew") == "A"
