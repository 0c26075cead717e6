"""The perplexity table: its ratios are coloured on both sides of ×1, and a line opens its text."""

from __future__ import annotations

import math
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_ui.surgery_page.table import DEEPEST, ratio_tint, tinted
from tests.ui.conftest import Open
from tests.ui.support.reading import said, table


def opacity(css: str) -> float:
    found = re.search(r"rgba\((\d+), \d+, \d+, ([\d.]+)\)", css)
    return float(found[2]) * (1 if found[1] == "180" else -1) if found else 0.0


@given(st.floats(1e-6, 1e6), st.floats(0.01, 20))
def test_a_ratio_and_its_inverse_have_the_same_strength_on_the_two_sides(ratio: float, full: float) -> None:
    assert opacity(ratio_tint(ratio, full)) == pytest.approx(-opacity(ratio_tint(1 / ratio, full)), abs=2e-3)


def test_colours_by_hand() -> None:
    assert ratio_tint(1.0, 1.0) == ratio_tint(math.nan, 1.0) == ratio_tint(0.0, 1.0) == ""
    assert opacity(ratio_tint(math.e, 2.0)) == pytest.approx(DEEPEST / 2)
    assert opacity(ratio_tint(math.e**9, 2.0)) == pytest.approx(DEEPEST)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([1.0, 1.01], [0.0, DEEPEST * math.log(1.01) / math.log(1.1)]),
        ([0.5, 4.0], [-DEEPEST / 2, DEEPEST]),
        ([math.nan, 2.0], [0.0, DEEPEST]),
    ],
)
def test_the_strongest_colour_is_that_of_the_largest_change_and_never_of_a_trifle(
    ratios: list[float], expected: list[float]
) -> None:
    columns = {name: [1.0] * len(ratios) for name in ("tokens", "perplexity_before", "perplexity_after", "kl", "top1")}
    html = tinted(pd.DataFrame({"title": "x", **columns, "ratio": ratios, "verdict": "–"})).to_html()
    cells = [re.search(rf"#T_\w+_row{row}_col6\b[^{{]*{{([^}}]*)}}", html) for row in range(len(ratios))]
    assert [opacity(cell[1]) if cell else 0.0 for cell in cells] == pytest.approx(expected, abs=1e-3)


def test_a_ticked_line_opens_its_text(open_app: Open) -> None:
    app = open_app(plan="0,2-3")
    titles = list(table(app)["title"])
    assert app.selectbox(key="detail").value == 0
    for row in (3, 1):
        app.session_state["scores-1"] = {"selection": {"rows": [row], "columns": [], "cells": []}}
        app.run()
        assert not app.exception
    assert len(titles) == 12
    assert "Ratio" not in said(app)
