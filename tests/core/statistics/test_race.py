"""What is left early is not among the best: on the 66 swapped pairs of `fable`'s layers over 60 passages.

`benchmarks/race.py --save` made the fixture: the change of the loss of every passage under every pair that is swapped.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from surgery_core.statistics.race import expected_share, in_rounds, looks_at, surely_behind

DATA = np.load(Path(__file__).parent / "swaps.npz")
CHANGE, TOKENS = DATA["change"].astype(np.float64), DATA["tokens"].astype(float)
BEST = 10


@pytest.mark.parametrize(
    ("n_texts", "looks"),
    [(1, (1,)), (8, (8,)), (9, (8, 9)), (12, (8, 12)), (60, (8, 16, 32, 60)), (64, (8, 16, 32, 64))],
)
def test_looks_double_and_end_with_all_texts(n_texts: int, looks: tuple[int, ...]) -> None:
    assert looks_at(n_texts) == looks
    rounds = in_rounds(n_texts, looks)
    assert [len(one) for one in rounds] == np.diff([0, *looks]).tolist()
    assert sorted(np.concatenate(rounds).tolist()) == list(range(n_texts))


def race(change: np.ndarray, tokens: np.ndarray, order: np.ndarray) -> tuple[set[int], float]:
    """Run a race over texts in some order; return the plans that are measured to the end, and the share of the work."""
    alive, work, n = np.arange(len(change)), 0.0, len(tokens)
    looks = looks_at(n)
    for before, look in zip((0, *looks), looks, strict=False):
        work += len(alive) * tokens[order[before:look]].sum()
        if look < n:
            seen = order[:look]
            tests = len(change) * (len(looks) - 1)
            behind = surely_behind(change[alive][:, seen], tokens[seen], of=n, best=BEST, tests=tests)
            alive = alive[~behind]
    return set(alive.tolist()), work / (len(change) * tokens.sum())


def best_of(change: np.ndarray) -> set[int]:
    return set(np.argsort(change.sum(-1))[:BEST].tolist())


def test_in_100_resamplings_of_the_texts_the_same_ten_come_out_of_at_most_half_of_the_work() -> None:
    generator = np.random.default_rng(0)
    same, shares = 0, []
    for _ in range(100):
        drawn = generator.integers(0, len(TOKENS), len(TOKENS))
        change, tokens = CHANGE[:, drawn], TOKENS[drawn]
        kept, share = race(change, tokens, generator.permutation(len(tokens)))
        same += best_of(change) <= kept
        shares.append(share)
    assert same >= 95
    assert np.mean(shares) <= 0.4
    assert max(shares) <= 0.5
    assert np.mean(shares) == pytest.approx(expected_share(len(TOKENS)), rel=0.25)


def test_of_plans_that_hardly_differ_the_best_are_left_in_at_most_5_of_100_races() -> None:
    """Plans that all come to about the same, with texts that scatter as real ones do: nobody can be surely behind."""
    generator = np.random.default_rng(1)
    about = CHANGE - CHANGE.sum(-1, keepdims=True) / TOKENS.sum() * TOKENS
    runs, wrong = 300, 0
    for _ in range(runs):
        change = np.stack([row[generator.permutation(len(TOKENS))] for row in about])
        change = change / change.std(-1, keepdims=True) + generator.normal(0, 0.05, (len(change), 1))
        kept, _ = race(change, TOKENS, generator.permutation(len(TOKENS)))
        wrong += not best_of(change) <= kept
    assert wrong / runs <= 0.05 + 1.96 * math.sqrt(0.05 * 0.95 / runs)


def test_an_interval_is_students_with_what_is_left_of_a_finite_population() -> None:
    """Texts of one size, so that the ratio is a plain mean: scipy's interval, times the root of the part still unseen."""
    change, n, of, tests = CHANGE[[0, 40, 50], :12], 12, 60, 6
    sizes = np.ones(n)
    ends = [
        stats.t.interval(1 - 0.05 / tests, n - 1, loc=row.mean(), scale=stats.sem(row) * math.sqrt(1 - n / of))
        for row in change
    ]
    for best in (1, 2):
        line = sorted(high for _, high in ends)[best - 1]
        expected = [low > line for low, _ in ends]
        assert surely_behind(change, sizes, of=of, best=best, tests=tests).tolist() == expected
    assert True in expected


def test_what_is_no_number_is_behind_and_what_is_equal_is_not() -> None:
    change = np.zeros((4, 8))
    change[2, 3] = np.nan
    change[3] = np.inf
    found = surely_behind(change, np.full(8, 20.0), of=20, best=1, tests=8)
    assert found.tolist() == [False, False, True, True]
    assert not surely_behind(change, np.full(8, 20.0), of=20, best=4, tests=8).any(), "all of them are looked for"
