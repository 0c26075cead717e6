"""Where an interval lies decides the outcome; expected values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from surgery_core.errors import SettingsError
from surgery_core.studies.every import study_of
from surgery_core.studies.finding import Claim, Figure, mean_figure
from surgery_core.studies.study import Study, settled


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.72, 0.95, "seen here too"),
        (0.80, 0.90, "seen here too"),
        (0.60, 0.71, "not seen here"),
        (0.96, 0.99, "not seen here"),
        (0.70, 0.80, "too few texts to say"),
        (0.10, 0.99, "too few texts to say"),
        (math.nan, math.nan, "too few texts to say"),
    ],
)
def test_an_outcome_needs_the_whole_interval(low: float, high: float, outcome: str) -> None:
    figure = Figure("kept", (low + high) / 2, low, high, 12)
    assert Claim(0.72, 0.95).outcome(figure) == outcome


def test_five_units_are_too_few() -> None:
    assert Claim(0.0).outcome(Figure("x", 1.0, 0.9, 1.1, 5)) == "too few texts to say"
    assert Claim(0.0).outcome(Figure("x", 1.0, 0.9, 1.1, 6)) == "seen here too"


def test_a_mean_has_students_interval() -> None:
    values = np.array([0.1, 0.4, 0.2, 0.35, 0.3, 0.22, 0.5])
    figure = mean_figure("x", values)
    low, high = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    assert (figure.value, figure.low, figure.high) == pytest.approx((values.mean(), low, high), abs=1e-12)


def test_options_that_are_unknown_or_of_another_kind_are_named() -> None:
    study = Study("one", "One", "About.", lambda setup: None, {"times": 2, "share": 0.5, "name": "a"})  # type: ignore[arg-type,return-value]
    assert settled(study, {"share": 1}) == {"times": 2, "share": 1, "name": "a"}
    with pytest.raises(SettingsError, match="no option 'tims'; there are: times, share, name"):
        settled(study, {"tims": 3})
    with pytest.raises(SettingsError, match="'times' of the study 'one' cannot be '3'"):
        settled(study, {"times": "3"})
    with pytest.raises(SettingsError, match="There is no study 'nothing'"):
        study_of("nothing")
