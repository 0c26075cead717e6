"""Charts of several plans: they are drawn for any names and figures, and hold what was measured."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import vl_convert

from surgery_core.charts.plans import plan_lines, plan_scores, plan_skills

NAMES = ["Unchanged model", "Without L5", 'A "name" with, signs', "ß", "five", "six", "seven"]


def rendered(chart) -> str:  # type: ignore[no-untyped-def]
    return vl_convert.vegalite_to_svg(chart.to_dict())


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_line_a_plan(count: int, dark: bool) -> None:
    rows = [
        {"plan": name, "row": row, "layer": f"L{row}", "loss": math.nan if row == 2 else 3.0 + at}
        for at, name in enumerate(NAMES[:count])
        for row in range(1, 5)
    ]
    chart = plan_lines(pd.DataFrame(rows), NAMES[:count], dark=dark)
    drawn = rendered(chart)
    # every plan has a colour and a dash of its own
    encoding = chart.to_dict()["encoding"]
    for channel in ("color", "strokeDash"):
        scale = encoding[channel]["scale"]
        assert scale["domain"] == NAMES[:count]
        assert len({str(one) for one in scale["range"]}) == count
    assert "ß" in drawn or count < 4


@pytest.mark.parametrize("dark", [False, True])
def test_a_dot_a_plan_and_skill(dark: bool) -> None:
    rows = [
        {"plan": name, "skill": skill, "accuracy": 0.5, "low": 0.3, "high": 0.7}
        for name in NAMES
        for skill in ("Counting", "Opposites")
    ]
    chart = plan_skills(pd.DataFrame(rows), NAMES, dark=dark)
    assert rendered(chart).count('aria-roledescription="point"') == 14
    shapes = chart.to_dict()["layer"][1]["encoding"]["shape"]["scale"]["range"]
    assert len(set(shapes)) == 7


@pytest.mark.parametrize(
    ("ratio", "low", "high"), [(1.05, 0.99, 1.1), (1.0, 1.0, 1.0), (250.0, 3.0, 9e9), (math.inf, math.nan, math.nan)]
)
def test_ratios_lie_inside_the_axis(ratio: float, low: float, high: float) -> None:
    frame = pd.DataFrame([{"plan": "a", "ratio": ratio, "low": low, "high": high, "verdict": "worse"}])
    chart = plan_scores(frame, ["a"])
    rendered(chart)
    begin, end = chart.to_dict()["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert begin < 1 < end
    for value in (ratio, low, high):
        assert not math.isfinite(value) or begin < value < end
