"""Every chart is drawn from a frame, serialised, and checked for what it says."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert

from surgery_core.charts import lens_lines as lens_line_charts
from surgery_core.charts import lens_maps as lens_charts
from surgery_core.charts import style as charts

ROOT = Path(__file__).resolve().parents[3]
TOKENS = ["Once", " upon", ' "a\\', "\n"]


def lens_frame(layers: tuple[str, ...] = ("input", "L0", "L2")) -> pd.DataFrame:
    rows = [
        {
            "row": row,
            "layer": layer,
            "position": position,
            "token": token,
            "target": TOKENS[position + 1] if position + 1 < len(TOKENS) else "",
            "top": TOKENS[(position + row) % len(TOKENS)],
            "probability": (1 + position + row) / 10,
            "rank": 1.0,
            "target_probability": np.nan if position + 1 == len(TOKENS) else 0.5 ** (row + position),
        }
        for row, layer in enumerate(layers)
        for position, token in enumerate(TOKENS)
    ]
    return pd.DataFrame(rows)


def spec(chart: Any) -> dict[str, Any]:
    """Return the chart's specification after a round trip through JSON, which Altair validates."""
    found: dict[str, Any] = json.loads(chart.to_json())
    return found


def rows_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    return next(iter(found["datasets"].values()))


def test_top_tokens_are_bars_with_their_percentages() -> None:
    frame = pd.DataFrame({"rank": [1, 2], "token": [" king", " king"], "probability": [0.5, 0.125]})
    found = spec(charts.top_tokens(frame, most=0.5))
    assert [row["label"] for row in rows_of(found)] == ["50.0%", "12.5%"]
    low, high = found["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert low == 0
    assert high > 0.5
    assert {row["side"] for row in rows_of(found)} == {"After"}
    assert {row["side"] for row in rows_of(spec(charts.top_tokens(frame, side="Before")))} == {"Before"}


def test_layer_losses_are_means_of_minus_log_probability() -> None:
    frame = charts.layer_losses(lens_frame(), lens_frame(("input", "L0")))
    assert list(frame["layer"]) == ["L0", "L2", "L0"]
    assert list(frame["side"]) == ["Before", "Before", "After"]
    # row 1: probabilities 1/2, 1/4, 1/8; the last token has no target
    assert frame["loss"].iloc[0] == pytest.approx(2 * np.log(2))
    assert frame["loss"].iloc[1] == pytest.approx(3 * np.log(2))


def test_layer_losses_of_a_vanished_probability_are_finite() -> None:
    frame = lens_frame()
    frame["target_probability"] = frame["target_probability"].where(frame["target_probability"].isna(), 0.0)
    assert np.isfinite(charts.layer_losses(frame)["loss"]).all()


def test_the_layer_loss_chart_follows_running_order_by_position() -> None:
    chart = lens_line_charts.layer_loss(charts.layer_losses(lens_frame(), lens_frame(("input", "L2", "L0", "L2 (2)"))))
    found = spec(chart)
    x = found["encoding"]["x"]
    assert (x["field"], x["scale"]["domain"]) == ("row", [1, 2, 3])
    lookup = json.loads(x["axis"]["labelExpr"].rsplit(")", 1)[0].removeprefix("("))
    assert lookup == {"1": ["L0", "L2"], "2": ["L2", "L0"], "3": "L2 (2)"}
    assert "<svg" in vl_convert.vegalite_to_svg(chart.to_json())


def test_every_chart_is_an_altair_chart() -> None:
    frame = lens_frame()
    drawn = [lens_line_charts.layer_loss(charts.layer_losses(frame))]
    assert all(isinstance(chart, (alt.Chart, alt.LayerChart)) for chart in drawn)


def test_words_in_the_cells_of_the_apps_palette_have_contrast() -> None:
    """Checked against the colours that the app gives the scale, by the contrast ratio of WCAG 2."""
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["theme"]
    for dark, name in ((False, "light"), (True, "dark")):
        words = [luminance(colour) for colour in charts.WORDS[dark]]
        ramp = [luminance(colour) for colour in config[name]["chartSequentialColors"]]
        turn = charts.TURN[dark]
        assert min(contrast(shade(ramp, p / 100), words[p / 100 > turn]) for p in range(101)) >= 4.5
        both = [luminance(colour) for colour in config[name]["chartDivergingColors"]]
        for sign, turn in zip((-1, 1), lens_charts.TURNS[dark], strict=True):
            found = [contrast(shade(both, 0.5 + sign * p / 200), words[p / 100 > turn]) for p in range(101)]
            assert min(found) >= 4.4
        assert config[name]["textColor"] == charts.INK[dark]
        assert config[name]["backgroundColor"] == charts.PAPER[dark]


@pytest.mark.parametrize("name", ["light", "dark"])
def test_captions_and_labels_of_charts_can_be_read(name: str) -> None:
    """WCAG 2 wants a contrast of 4.5. Streamlit writes captions in the text colour at 60% opacity."""
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["theme"][name]
    papers = {config["backgroundColor"], config["sidebar"]["backgroundColor"], config["secondaryBackgroundColor"]}
    for paper in papers:
        assert contrast(luminance(blend(config["textColor"], paper, 0.6)), luminance(paper)) >= 4.5
        assert contrast(luminance(blend(config["textColor"], paper, 0.65)), luminance(paper)) >= 4.5
        for colour in ("linkColor", "redTextColor", "greenTextColor", "grayTextColor"):
            assert contrast(luminance(config[colour]), luminance(paper)) >= 4.5
    quiet, paper = charts.QUIET[name == "dark"], charts.PAPER[name == "dark"]
    assert contrast(luminance(quiet), luminance(paper)) >= 4.5
    found = spec(charts.legible(alt.Chart(pd.DataFrame({"x": [1]})).mark_bar(), dark=name == "dark"))["config"]
    assert {found[part][label] for part in ("axis", "legend") for label in ("labelColor", "titleColor")} == {quiet}


def blend(colour: str, paper: str, opacity: float) -> str:
    pairs = ((int(one[at : at + 2], 16) for one in (colour, paper)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(opacity * top + (1 - opacity) * below):02x}" for top, below in pairs)


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def shade(ramp: list[float], share: float) -> float:
    return float(np.interp(share * (len(ramp) - 1), range(len(ramp)), ramp))


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_the_colour_scale_covers_most_tokens() -> None:
    def scale(changes: list[float]) -> float:
        frame = pd.DataFrame({"loss_before": [float("nan"), *[1.0] * len(changes)]})
        return charts.full_colour(frame.assign(loss_after=[float("nan"), *[1.0 + change for change in changes]]))

    assert scale([0.1, -0.2]) == 0.5
    assert scale([1.8] * 50) == 2.0
    assert scale([0.1] * 99 + [80.0]) == 0.5
    assert scale([500.0]) == 10.0
    assert scale([]) == 0.5
