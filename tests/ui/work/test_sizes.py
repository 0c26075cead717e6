"""How much memory a result keeps, and a pool that keeps no more than it may."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from surgery_ui.work.job import Job
from surgery_ui.work.sizes import size_of
from tests.ui.support.pools import free_pool


@dataclass(frozen=True)
class Holder:
    numbers: Any
    more: Any = None


NUMBERS = 1_000_000
"""Bytes of what is counted below; what Python adds is far less."""


@pytest.mark.parametrize(
    "value",
    [
        "x" * NUMBERS, b"x" * NUMBERS, np.zeros(NUMBERS // 8), torch.zeros(NUMBERS // 4),
        torch.zeros(NUMBERS // 2, dtype=torch.bfloat16), pd.DataFrame({"a": np.zeros(NUMBERS // 8)}),
        pd.Series(np.zeros(NUMBERS // 8)), [np.zeros(NUMBERS // 16), np.zeros(NUMBERS // 16)],
        {"a": {"b": (torch.zeros(NUMBERS // 4),)}}, Holder(np.zeros(NUMBERS // 8)),
        np.zeros(NUMBERS // 8)[:1], torch.zeros(NUMBERS // 4)[:1],
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_a_result_keeps_alive_is_counted(value: object) -> None:
    assert size_of(value) == pytest.approx(NUMBERS, rel=0.01)


def test_what_is_shared_counts_once() -> None:
    one = torch.zeros(NUMBERS // 4)
    assert size_of([one, one[:10], Holder(one, one.view(10, -1))]) == pytest.approx(NUMBERS, rel=0.01)


def test_a_model_counts_nothing_and_a_circle_ends() -> None:
    assert size_of(Holder(nn.Linear(1000, 1000))) < 1000
    round_and_round: list[Any] = [np.zeros(NUMBERS // 8)]
    round_and_round.append(round_and_round)
    assert size_of(round_and_round) == pytest.approx(NUMBERS, rel=0.01)


def fill(pool: Any, name: str, megabytes: int) -> Job[Any]:
    job = pool.request("me", "lane", ("k", name), lambda job: np.zeros(megabytes * 125_000))
    assert job.wait(5)
    while pool.load() != (0, 0):  # what goes is gone when the worker is free again
        time.sleep(0.001)
    return job  # type: ignore[no-any-return]


def there(pool: Any, names: str) -> str:
    return "".join(name for name in names if pool.outcome(("k", name)) is not None)


def test_the_oldest_goes_where_results_would_take_more_memory_than_they_may() -> None:
    pool = free_pool(1, most_bytes=10_000_000)
    for name in "abc":
        fill(pool, name, 3)
    assert there(pool, "abc") == "abc"
    assert 9_000_000 < pool.kept_bytes() < 9_100_000
    fill(pool, "a", 3)  # it is there, and is now the newest
    fill(pool, "d", 3)
    assert there(pool, "abcd") == "acd"
    fill(pool, "e", 50)
    assert there(pool, "abcde") == "e", "the newest stays, whatever it takes"
    fill(pool, "f", 1)
    assert there(pool, "abcdef") == "f"
    assert pool.kept_bytes() < 1_100_000


def test_a_result_that_cannot_be_looked_at_does_not_hold_a_worker_up() -> None:
    class Odd:
        __slots__ = ("nbytes",)

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    pool = free_pool(1)
    for number in range(3):
        job = pool.request("me", "lane", ("odd", number), lambda job: Odd())
        assert job.wait(5)
        assert job.error is None
    assert fill(pool, "a", 1).result.nbytes == 1_000_000
