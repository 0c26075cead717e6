"""The best of many plans on texts that its choice has not seen."""

from __future__ import annotations

import math

import pytest

from surgery_core.sweeps.findings import best_on_unseen
from surgery_core.sweeps.rows import SweepRow

TITLES = [f"text {number}" for number in range(12)]


def row(number: int, losses: list[float]) -> SweepRow:
    return SweepRow(number, "start", None, "", nats=1.0, texts=dict(zip(TITLES, losses, strict=True)))


def test_the_best_is_chosen_on_every_second_text_and_measured_on_the_others() -> None:
    """By hand: the second plan wins by 0.1 nats where it is chosen, and loses about 0.2 where it is not."""
    start = row(-1, [2.0] * 12)
    fair = row(0, [2.05] * 12)
    lucky = row(1, [1.9 if at % 2 == 0 else 2.2 + 0.001 * at for at in range(12)])
    found = best_on_unseen([start, fair, lucky])
    assert found is not None
    assert (found.row.number, found.n_plans, found.n_chosen) == (1, 2, 6)
    assert found.seen == pytest.approx(math.exp(-0.1))
    assert found.unseen.value == pytest.approx(math.exp(0.206) - 1)
    assert found.unseen.word == "worse"


def test_of_one_plan_or_without_the_starting_plan_nothing_is_best() -> None:
    start, one = row(-1, [2.0] * 12), row(0, [2.1] * 12)
    assert best_on_unseen([start, one]) is None
    assert best_on_unseen([one, row(1, [2.1] * 12)]) is None


def test_plans_that_were_left_early_count_among_those_that_it_is_the_best_of() -> None:
    """The more are tried, the luckier the best; that some went early changes nothing of it."""
    start, two = row(-1, [2.0] * 12), [row(0, [2.05] * 12), row(1, [2.1] * 12)]
    left = SweepRow(2, "start", None, "", nats=9.0, loss_change=7.0, texts={"text 0": 9.0}, left="Left after 8 texts.")
    found = best_on_unseen([start, *two, left])
    assert found is not None
    assert (found.row.number, found.n_plans) == (0, 3)
