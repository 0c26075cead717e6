"""Ratios and resampled figures, against formulas written out and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from surgery_core.studies.ratios import nothing, ratio_figure, resampled_figure

POSITIVE = st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=2, max_size=20)


@given(POSITIVE, st.floats(0.1, 10))
def test_a_ratio_has_the_linearised_interval(pairs: list[tuple[float, float]], factor: float) -> None:
    over, under = np.array(pairs).T
    figure = ratio_figure("x", over, under)
    n, ratio = len(pairs), over.sum() / under.sum()
    error = np.sqrt(((over - ratio * under) ** 2).sum() / (n - 1) / n) / under.mean()
    half = stats.t.ppf(0.975, n - 1) * error
    assert figure.value == pytest.approx(ratio)
    assert (figure.low, figure.high) == pytest.approx((ratio - half, ratio + half))
    # what is measured in another unit has the same ratio
    again = ratio_figure("x", over * factor, under * factor)
    assert (again.value, again.low, again.high) == pytest.approx((figure.value, figure.low, figure.high), abs=1e-9)


@pytest.mark.parametrize(
    ("over", "under"), [([1.0, math.nan], [1.0, 1.0]), ([1.0, 1.0], [0.0, 0.0]), ([], []), ([math.inf, 1], [1, 1])]
)
def test_what_is_no_ratio_has_no_number(over: list[float], under: list[float]) -> None:
    figure = ratio_figure("x", np.array(over), np.array(under))
    assert all(math.isnan(value) for value in (figure.value, figure.low, figure.high))
    assert figure.n_units == len(under)


def test_resampling_covers_a_median_as_often_as_it_says() -> None:
    random, covered = np.random.default_rng(1), 0
    for seed in range(60):
        values = random.normal(size=40)
        figure = resampled_figure("x", lambda units, v=values: float(np.median(v[units])), 40, seed)
        covered += figure.low <= 0 <= figure.high
    # 95 % of 60 are 57; fewer than 51 come with a chance of 0.2 %
    assert covered >= 51


def test_a_mean_resampled_has_about_students_interval() -> None:
    values = np.random.default_rng(0).normal(size=60)
    figure = resampled_figure("x", lambda units: float(values[units].mean()), 60, 0)
    low, high = stats.t.interval(0.95, 59, values.mean(), stats.sem(values))
    assert (figure.low, figure.high) == pytest.approx((low, high), abs=0.05)
    turned = resampled_figure("x", lambda units: float(values[units].mean()), 60, 0, reflected=True)
    assert (turned.low, turned.high) == pytest.approx((2 * values.mean() - figure.high, 2 * values.mean() - figure.low))


@pytest.mark.parametrize("reflected", [False, True])
def test_an_interval_holds_its_figure(reflected: bool) -> None:
    # the number of different units only falls when units are drawn anew
    figure = resampled_figure("x", lambda units: float(len(set(units.tolist()))), 30, 0, reflected=reflected)
    assert figure.value == 30
    assert figure.low <= 30 <= figure.high
    assert (figure.high == 30) != reflected


def test_units_are_drawn_within_their_strata() -> None:
    seen: list[np.ndarray] = []

    def value_of(units: np.ndarray) -> float:
        seen.append(units)
        return float(units.mean())

    resampled_figure("x", value_of, 10, 0, strata=[4, 6], times=50)
    assert len(seen) == 51
    assert all((units < 4).sum() == 4 and len(units) == 10 and units.max() < 10 for units in seen)
    assert len({tuple(units) for units in seen}) > 40


def test_what_is_mostly_no_number_has_no_interval() -> None:
    def first(units: np.ndarray) -> float:
        return 1.0 if 0 in units else math.nan

    figure = resampled_figure("x", first, 8, 0)
    assert figure.value == 1.0
    assert math.isnan(figure.low)
    assert math.isnan(resampled_figure("x", lambda units: math.nan, 8, 0).value)
    assert math.isnan(nothing("x").value)
