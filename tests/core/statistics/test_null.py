"""What intervals and verdicts do on real differences: `fable` on 232 passages of books that it was not trained on.

`training/differences.py` made the fixture: the change of the loss of every passage under five plans, and of every token
under the first.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from surgery_core.statistics import discoveries, estimates, judge_losses, power_of, sign_flip_p, units_needed

DATA = np.load(Path(__file__).parent / "differences.npz")
TOKENS = DATA["tokens"].astype(float)
CHANGE = DATA["change"]
RUNS = 1_000
ERROR = 1.96 * math.sqrt(0.05 * 0.95 / RUNS)
"""What 1,000 runs may be off a rate of 5 %."""


def null(generator: np.random.Generator, plan: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return k texts whose difference has no direction: that of each text, about their mean, with a random sign."""
    chosen = generator.choice(len(TOKENS), k, replace=False)
    about = CHANGE[plan] - CHANGE[plan].sum() / TOKENS.sum() * TOKENS
    return about[chosen] * generator.choice([-1.0, 1.0], k), TOKENS[chosen]


@pytest.mark.parametrize("k", [12, 60])
def test_of_a_thousand_null_comparisons_few_are_called_different(k: int) -> None:
    generator = np.random.default_rng(k)
    words = [judge_losses(*null(generator, number % len(CHANGE), k)).word for number in range(RUNS)]
    assert sum(word in ("better", "worse") for word in words) / RUNS <= 0.05 + ERROR


@pytest.mark.parametrize("k", [8, 12, 60])
@pytest.mark.parametrize("plan", range(len(CHANGE)))
def test_intervals_hold_the_truth_95_times_of_100(plan: int, k: int) -> None:
    """The truth is the figure over all passages; texts are drawn with replacement, as from very many."""
    generator = np.random.default_rng(plan)
    truth = CHANGE[plan].sum() / TOKENS.sum()
    chosen = generator.integers(0, len(TOKENS), (4 * RUNS, k))
    held = 0
    for texts in chosen:
        found = estimates(CHANGE[plan][texts], TOKENS[texts])
        held += bool(found.low <= truth <= found.high)
    assert 0.93 <= held / len(chosen) <= 0.97


def test_the_naive_interval_over_tokens_fails_where_ours_holds() -> None:
    """Tokens of one text hang together: taken as independent, they call one null comparison in eight different or more."""
    each = DATA["each"].astype(np.float64)
    ends = np.cumsum(TOKENS).astype(int)
    texts = np.split(each, ends[:-1])
    mean = each.mean()
    generator = np.random.default_rng(0)
    naive, ours = 0, 0
    for _ in range(RUNS):
        chosen = generator.choice(len(texts), 12, replace=False)
        signs = generator.choice([-1.0, 1.0], 12)
        flipped = [sign * (texts[at] - mean) for at, sign in zip(chosen, signs, strict=True)]
        tokens = np.concatenate(flipped)
        naive += bool(stats.ttest_1samp(tokens, 0.0).pvalue <= 0.05)
        sizes = np.array([len(part) for part in flipped])
        ours += judge_losses(np.array([part.sum() for part in flipped]), sizes).word in ("better", "worse")
    assert naive / RUNS > 0.12
    assert ours / RUNS <= 0.05 + ERROR


@pytest.mark.parametrize("k", [12, 24, 60])
def test_a_planted_two_percent_is_found_as_often_as_the_formula_says(k: int) -> None:
    """The differences of `fable` without layer 5, whose spread makes two per cent hard to see with few texts."""
    generator = np.random.default_rng(k)
    effect = math.log(1.02)
    spread = float(estimates(CHANGE[0], TOKENS).spread)
    found = 0
    for _ in range(RUNS):
        change, tokens = null(generator, 0, k)
        found += judge_losses(change + effect * tokens, tokens).word == "worse"
    assert found / RUNS == pytest.approx(power_of(effect, spread, k), abs=0.05)


def test_so_many_units_as_are_asked_for_decide_with_80_percent() -> None:
    spread = float(estimates(CHANGE[0], TOKENS).spread)
    needed = units_needed(math.log(1.02), spread)
    assert needed is not None
    assert power_of(math.log(1.02), spread, needed) >= 0.8 > power_of(math.log(1.02), spread, needed - 1)


def test_sweeps_of_nothing_report_nothing() -> None:
    """276 rows, 60 texts, 200 sweeps: any discovery at all in at most 5 % of them, within the error of 200."""
    generator = np.random.default_rng(0)
    reported = 0
    for _ in range(200):
        chosen = generator.choice(len(TOKENS), 60, replace=False)
        about = CHANGE - (CHANGE.sum(1) / TOKENS.sum())[:, None] * TOKENS
        rows = about[generator.integers(0, len(CHANGE), 276)][:, chosen]
        rows = rows * generator.choice([-1.0, 1.0], rows.shape)
        reported += bool(discoveries(sign_flip_p(rows)).any())
    assert reported / 200 <= 0.05 + 1.96 * math.sqrt(0.05 * 0.95 / 200)
