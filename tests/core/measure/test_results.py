"""Figures of several texts together, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from surgery_core.measure.results import Comparison, TextComparison, TextScore, TokenLosses, UnitSums

LN2 = math.log(2)
NONE = TokenLosses((), np.zeros(0), np.zeros(0))
UNITS = UnitSums("text", *(np.zeros(0) for _ in range(7)))


def compared(before: float, after: float, n_tokens: int, n_bytes: int) -> TextComparison:
    """Return a text with this loss in bits a token on each side."""
    sides = [TextScore("One", "prose", n_tokens, n_bytes, n_tokens * bits * LN2, 64) for bits in (before, after)]
    return TextComparison(sides[0], sides[1], 0.0, 1.0, 1.0, NONE)


def test_a_comparison_pools_its_texts_before_it_compares() -> None:
    """By hand: 3 tokens at 1 bit and 1 at 5 bits make 8 bits before; 3 at 2 and 1 at 6 make 12 after, over 8 bytes."""
    found = Comparison((compared(1.0, 2.0, 3, 6), compared(5.0, 6.0, 1, 2)), "0-2", "", UNITS)
    assert found.base.perplexity == pytest.approx(4.0)
    assert found.operated.perplexity == pytest.approx(8.0)
    assert found.ratio == pytest.approx(2.0)
    assert found.bits_change == pytest.approx(0.5)


def units(change: np.ndarray, tokens: int) -> UnitSums:
    n = len(change)
    flat = np.full(n, float(tokens))
    return UnitSums("text", flat, 4 * flat, flat, flat + change, 0.02 * flat, 0.8 * flat, 0.9 * flat)


def test_intervals_of_a_comparison_are_students_over_its_texts() -> None:
    """Texts of one size: the interval of scipy over the changes of single texts."""
    from scipy import stats

    change = np.random.default_rng(0).normal(5.0, 2.0, 12)
    found = Comparison((compared(1.0, 2.0, 3, 6),), "0-2", "", units(change, 100))
    expected = stats.ttest_1samp(change / 100, 0).confidence_interval(0.95)
    ratio, bits = found.interval("ratio"), found.interval("bits_change")
    assert (ratio.low, ratio.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))
    assert (bits.low, bits.high) == pytest.approx((expected.low / LN2 / 4, expected.high / LN2 / 4))
    assert found.interval("kl") == found.interval("kl")
    assert (found.interval("top1").low, found.interval("top1").high) == pytest.approx((0.8, 0.8))
    assert found.verdict().word == "worse"


def test_every_token_of_all_texts_is_a_line() -> None:
    """Three tokens and two, by hand; the first of each text has no loss."""
    rows = []
    for title, strings, before, after in (("A", ("x", "y", "z"), [1, 2], [3, 2]), ("B", ("u", "v"), [5], [4])):
        side = TextScore(title, "prose", len(before), 9, 1.0, 64)
        losses = (np.array(part, dtype=np.float32) for part in (before, after))
        rows.append(TextComparison(side, side, 0.0, 1.0, 1.0, TokenLosses(strings, *losses)))
    frame = Comparison(tuple(rows), "0", "", UNITS).token_frame()
    assert frame["text"].tolist() == ["A", "A", "A", "B", "B"]
    assert frame["token"].tolist() == ["x", "y", "z", "u", "v"]
    assert frame["position"].tolist() == [0, 1, 2, 0, 1]
    np.testing.assert_array_equal(frame["change"], [np.nan, 2, 0, np.nan, -1])
    np.testing.assert_array_equal(frame["loss_before"], [np.nan, 1, 2, np.nan, 5])
