"""Statistics against published examples, against definitions written out, and on odd input."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from surgery_core.errors import InputError
from surgery_core.statistics import (
    discoveries,
    estimates,
    items_of,
    judge_items,
    judge_losses,
    paired,
    paired_items,
    power_of,
    rank_interval,
    shares,
    sign_flip_p,
    units_needed,
    units_of,
)
from surgery_core.statistics.units import BLOCK


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8))
def test_signs_are_all_tried(values: list[float]) -> None:
    seen = abs(sum(values))
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    expected = sum(one >= seen * (1 - 1e-9) for one in sums) / len(sums)
    assert float(sign_flip_p(np.array(values))) == pytest.approx(expected, abs=2 / len(sums))


def test_random_signs_are_near_the_exact_ones_and_seeded() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 14)
    exact = stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=False
    ).pvalue
    assert float(sign_flip_p(values)) == pytest.approx(exact, abs=0.015)
    assert float(sign_flip_p(values)) == float(sign_flip_p(values))


def test_texts_of_one_size_give_students_interval() -> None:
    changes = np.random.default_rng(2).normal(0.05, 0.1, 10)
    found = estimates(changes * 50, np.full(10, 50))
    expected = stats.ttest_1samp(changes, 0).confidence_interval(0.95)
    assert (float(found.low), float(found.high)) == pytest.approx((expected.low, expected.high))
    assert float(found.value) == pytest.approx(changes.mean())


def test_rows_at_once_are_rows_one_by_one() -> None:
    rows = np.random.default_rng(3).normal(0, 1, (5, 9))
    sizes = np.arange(1, 10)
    together = estimates(rows, sizes)
    for number, row in enumerate(rows):
        alone = estimates(row, sizes)
        assert float(together.low[number]) == pytest.approx(float(alone.low))
        assert float(sign_flip_p(rows)[number]) == float(sign_flip_p(row))


@pytest.mark.parametrize(
    ("n", "before", "gained", "lost"), [(50, 11, 30, 3), (20, 10, 5, 0), (40, 40, 0, 7), (9, 3, 4, 4)]
)
def test_mcnemar_is_the_binomial_of_what_changed(n: int, before: int, gained: int, lost: int) -> None:
    changed = gained + lost
    tail = sum(math.comb(changed, k) for k in range(min(gained, lost) + 1)) / 2**changed
    assert items_of(n, before, gained, lost).p == pytest.approx(min(1.0, 2 * tail), abs=1e-12)


def test_newcombes_intervals_are_those_of_published_examples() -> None:
    """Paired: Bentur and others 2009 in Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014), 2850-2875.

    Independent: example (a) of Newcombe 1998, 56 of 70 against 48 of 80.
    """
    paired = items_of(21, 8, 1, 7)
    assert (round(paired.low, 3), round(paired.high, 3)) == (-0.507, -0.026)
    independent = shares(48, 80, 56, 70)
    assert (round(independent.low, 4), round(independent.high, 4)) == (0.0524, 0.3339)


def test_a_published_rise_on_fifty_items_and_the_full_run_of_the_same_change() -> None:
    """github.com/alainnothere/llm-circuit-finder, README, March 2026: layers 12 to 14 of Devstral-24B run twice.

    BBH logical deduction of five objects: 0.22 to 0.76 of 50 items; on all 250, 0.744 to 0.732, 186 to 183.
    """
    few, all_of_them = shares(11, 50, 38, 50), shares(186, 250, 183, 250)
    for found, table in ((few, [[38, 12], [11, 39]]), (all_of_them, [[183, 67], [186, 64]])):
        assert found.p == pytest.approx(stats.fisher_exact(table)[1], abs=1e-9)
    assert judge_items(few).word == "better"
    assert all_of_them.value == pytest.approx(-0.012)
    assert judge_items(all_of_them).word == "no difference seen"


def test_shares_of_nothing_and_of_everything_have_intervals() -> None:
    for before in (0, 50):
        found = items_of(50, before, 0, 0)
        assert found.low < 0 < found.high
        assert found.p == 1.0


def test_answers_become_counts() -> None:
    found = paired_items([True, True, False, False, True], [True, False, True, False, False])
    assert (found.before, found.after, found.gained, found.lost) == (3, 2, 1, 2)
    with pytest.raises(InputError, match="0 answers before and 1 after"):
        paired_items([], [True])


def test_false_discoveries_are_controlled_as_benjamini_and_hochberg_say() -> None:
    """Their own example, section 3.2: fifteen p-values, of which four are rejected at 5 %."""
    p = np.array(
        [
            0.0001,
            0.0004,
            0.0019,
            0.0095,
            0.0201,
            0.0278,
            0.0298,
            0.0344,
            0.0459,
            0.3240,
            0.4262,
            0.5719,
            0.6528,
            0.7590,
            1.0,
        ]
    )
    assert int(discoveries(p).sum()) == 4
    holes = np.concatenate([p, [np.nan, np.nan]])
    assert list(discoveries(holes)) == [*discoveries(p), False, False]
    assert not discoveries(np.array([np.nan])).any()


def test_power_is_that_of_a_simulated_t_test() -> None:
    generator = np.random.default_rng(4)
    drawn = generator.normal(0.5, 1.0, (20_000, 20))
    seen = stats.ttest_1samp(drawn, 0, axis=1).pvalue <= 0.05
    assert power_of(0.5, 1.0, 20) == pytest.approx(seen.mean(), abs=0.015)
    assert units_needed(0.5, 1.0) == 34  # Cohen's tables: 33 with the normal distribution
    assert units_needed(0.0, 1.0) is None
    assert units_needed(1e-9, 1.0) is None


@given(st.lists(st.integers(1, 400), min_size=1, max_size=12))
def test_units_share_out_every_token_once(lengths: list[int]) -> None:
    units = units_of(lengths)
    assert int(units.sizes.sum()) == sum(lengths)
    if len(lengths) >= 8:
        assert list(units.sizes) == lengths
    else:
        assert all(BLOCK <= size < 2 * BLOCK or (size < BLOCK and size in lengths) for size in units.sizes)
    values = np.random.default_rng(0).normal(size=sum(lengths))
    sums = np.zeros(len(units))
    at = 0
    for text, length in enumerate(lengths):
        for position in range(1, length + 1):
            sums[units.of(np.array([text]), np.array([position]))[0]] += values[at]
            at += 1
    assert sums == pytest.approx(units.sums(values))
    begin = np.cumsum([0, *lengths])
    whole = [values[a:b].sum() for a, b in itertools.pairwise(begin)]
    assert units.by_text(units.sums(values)) == pytest.approx(whole)


def changes(mean: float, spread: float, n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return differences with exactly this mean and standard deviation a token."""
    steps = np.linspace(-1, 1, n)
    return (mean + spread * steps / steps.std(ddof=1)) * 100, np.full(n, 100)


def test_verdicts_in_words() -> None:
    """Half widths: 2.2 spreads over the root of 12."""
    worse = judge_losses(*changes(math.log(1.05), 0.02))
    assert (worse.word, worse.is_open, worse.more) == ("worse", False, None)
    assert worse.sentence == "5.0 % more surprised by each token; between 3.7 and 6.3 % on texts like these."
    assert judge_losses(*changes(-0.05, 0.02)).word == "better"
    assert judge_losses(*changes(1.5, 0.1)).sentence.startswith(
        "4.48 times as surprised by each token; between 4.21 times"
    )
    same = judge_losses(*changes(0.0, 0.02))
    assert same.word == "the same"
    assert same.sentence == "The same within 2 %: between 1.3 % less and 1.3 % more surprised on texts like these."
    assert judge_losses(*changes(0.0, 0.02), margin=0.01).word == "no difference seen"
    unclear = judge_losses(*changes(0.01, 0.05))
    assert unclear.word == "no difference seen"
    assert unclear.more is not None
    assert "more texts would decide it." in unclear.sentence


def test_odd_input_gets_a_verdict_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = judge_losses(np.array([3.0]), np.array([30]), "block of 16 tokens")
        assert (one.word, one.sentence) == (
            "too few to say",
            "Too few to say: 1 block of 16 tokens, and 6 are the least.",
        )
        assert judge_losses(np.array([1.0, 5.0]), np.array([10, 400])).word == "too few to say"
        zeros = judge_losses(np.zeros(12), np.full(12, 50))
        assert (zeros.word, zeros.sentence, zeros.p) == ("the same", "Exactly the same.", 1.0)
        broken = judge_losses(np.array([1.0, math.nan] * 6), np.full(12, 50))
        assert (broken.word, broken.sentence) == ("no figures", "There are no figures to compare.")
        endless = judge_losses(np.full(12, 1e6), np.full(12, 50))
        assert endless.word == "worse"
        assert judge_items(items_of(10_000, 5_000, 300, 200)).word == "better"
        assert judge_items(items_of(3, 1, 1, 0)).word == "too few to say"


def test_a_rank_correlation_has_the_interval_of_bonett_and_wright() -> None:
    """By hand for rho = 0.6 and ten pairs: atanh(0.6) is 0.6931, its error the root of 1.18 / 7, which is 0.4106."""
    low, high = rank_interval(0.6, 10)
    assert (low, high) == pytest.approx(
        (math.tanh(0.6931 - 1.96 * 0.4106), math.tanh(0.6931 + 1.96 * 0.4106)), abs=1e-3
    )
    assert rank_interval(1.0, 10) == (1.0, 1.0)
    assert math.isnan(rank_interval(0.5, 3)[0])


def test_measuring_and_judging_losses_loads_no_heavy_part_of_scipy() -> None:
    """`scipy.stats` takes half a second or more; only tests of items and of families need it."""
    import subprocess
    import sys

    code = (
        "import sys, numpy as np, surgery_core.measure.compare, surgery_core.sweeps.running;"
        "from surgery_core.statistics import judge_losses; judge_losses(np.arange(12.0), np.full(12, 9));"
        "sys.exit('scipy.stats' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_signs_of_many_units_are_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made of all signs at once, and of parts of them, is the same p-value; both sides by different code."""
    sums = np.random.default_rng(1).normal(0.05, 1.0, (3, 300))
    whole = paired.sign_flip_p(sums)
    monkeypatch.setattr(paired, "HELD", 20)
    np.testing.assert_array_equal(paired.sign_flip_p(sums), whole)
    assert len(list(paired._signs(300, 0))) > 10
