"""Pictures of studies are drawn in every form and size, serialised, and checked for what they say."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vl_convert

from surgery_core.charts.studies import MOST_HEIGHT, study_chart
from surgery_core.charts.style import legible
from surgery_core.charts.theme import vega_config
from surgery_core.studies.finding import Picture

BARS = Picture("bars", "layer", "kept", x_title="Layer left out", y_title="Top-1 kept", low="low", high="high")
GROUPED = Picture("bars", "layer", "kept", series="edit", x_title="Layer", y_title="Change", low="low", high="high")
LINES = Picture("lines", "layer", "kept", series="edit", x_title="Layers", y_title="Kept", low="low", high="high")
HEAT = Picture("heat", "layer", "other", value="kept", x_title="Layer", y_title="Skipped", value_title="Change")
DOTS = Picture("dots", "layer", "kept", series="edit", x_title="Seen", y_title="Unseen")
FORMS = {"bars": BARS, "grouped": GROUPED, "lines": LINES, "heat": HEAT, "dots": DOTS}


def frame_of(n: int, *, text: bool = False) -> pd.DataFrame:
    """Return a frame for every form, with `n` layers."""
    rng = np.random.default_rng(n)
    rows = [(layer, edit, float(rng.normal())) for layer in range(n) for edit in ("swap", "delete")]
    frame = pd.DataFrame(rows, columns=["layer", "edit", "kept"])
    frame = frame.assign(low=frame["kept"] - 0.2, high=frame["kept"] + 0.2, other=frame["layer"].map(lambda at: at % 7))
    return frame.assign(layer=frame["layer"].map("L{}".format)) if text else frame


def drawn(picture: Picture, frame: pd.DataFrame, **look: bool) -> dict[str, Any]:
    """Return a picture's specification after a round trip through JSON, once it was rendered in the app's theme."""
    chart = study_chart(frame, picture, **look)
    themed = legible(chart, dark=look.get("dark", False)).properties(width=300 if look.get("small") else 900)
    svg = vl_convert.vegalite_to_svg(themed.to_json(), config=vega_config())
    assert "<svg" in svg
    assert "NaN" not in svg
    found: dict[str, Any] = json.loads(chart.to_json())
    return found


def svg_of(picture: Picture, frame: pd.DataFrame, width: int, **look: bool) -> str:
    chart = study_chart(frame, picture, **look).properties(width=width)
    return str(vl_convert.vegalite_to_svg(chart.to_json(), config=vega_config()))


@pytest.mark.parametrize("n", [1, 12, 126])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_drawn_in_both_sizes_light_and_dark(form: str, n: int) -> None:
    for text in (False, True):
        for small in (False, True):
            found = drawn(FORMS[form], frame_of(n, text=text), small=small, dark=small)
            assert 0 < found["height"] <= MOST_HEIGHT


def rows_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    return max(found["datasets"].values(), key=len)


def test_tooltips_say_figure_and_interval() -> None:
    frame = pd.DataFrame({"layer": [0, 1], "kept": [0.81234, np.nan], "low": [0.7, np.nan], "high": [0.9, np.inf]})
    found = drawn(BARS, frame)
    first, second = rows_of(found)
    assert (first["said"], first["between"]) == ("0.812", "0.7 to 0.9")
    assert (second["said"], second["between"], second["y"], second["high"]) == ("–", "", None, None)
    (tooltip,) = [layer["encoding"]["tooltip"] for layer in found["layer"] if "tooltip" in layer["encoding"]]
    assert [one["title"] for one in tooltip] == ["Layer left out", "Top-1 kept", "95 % interval"]


def test_axes_are_named_and_heights_fit_a_card() -> None:
    found = drawn(BARS, frame_of(12).drop_duplicates("layer"), small=True)
    assert found["title"]["text"] == "Top-1 kept"
    assert found["layer"][0]["encoding"]["x"]["title"] == "Layer left out"
    assert {drawn(picture, frame_of(12), small=True)["height"] for picture in FORMS.values()} == {220}
    assert drawn(HEAT, frame_of(12))["title"]["text"] == "Change"


def test_labels_of_a_hundred_layers_do_not_lie_on_each_other() -> None:
    """At the size of a card, by the places of the labels in the picture itself."""
    one = frame_of(126).drop_duplicates("layer")
    svg = svg_of(BARS, one, 250, small=True)
    there = re.findall(r'translate\(([\d.]+),[\d.]+\)"[^>]*font-size="10px"[^>]*opacity="1">(?:<tspan>)?\d', svg)
    shown = sorted(map(float, there))
    assert 4 < len(shown) < 40
    assert all(b - a >= 10 for a, b in pairwise(shown))


def test_one_catastrophic_layer_does_not_hide_the_others() -> None:
    """Ten layers cost 0.1 to 1, the first one 500: each bar is still at least three pixels high."""
    frame = pd.DataFrame({"layer": range(11), "kept": [500.0, *np.linspace(0.1, 1, 10)]})
    picture = Picture("bars", "layer", "kept", y_title="Change")
    assert max(heights := bar_heights(svg_of(picture, frame, 600))) > 100
    assert min(heights) >= 3


def bar_heights(svg: str) -> list[float]:
    """Return how high the bars are, as they are drawn: paths from the bar's foot to its rounded end."""
    paths = re.findall(r'aria-roledescription="bar"[^>]*d="([^"]+)"|<path d="(M[^"]+Z)" fill="#', svg)
    found = []
    for path in (one or other for one, other in paths):
        ups = [float(y) for _, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)]
        found.append(max(ups) - min(ups))
    return [height for height in found if height]


def test_colours_of_a_map_have_zero_in_the_middle_where_figures_lie_on_both_sides() -> None:
    frame = pd.DataFrame({"layer": [0, 1], "other": [0, 0], "kept": [-1.0, 3.0]})
    scale = drawn(HEAT, frame)["layer"][0]["encoding"]["color"]["scale"]
    assert scale == {"domain": [-3.0, 3.0], "domainMid": 0}
    positive = drawn(HEAT, frame.assign(kept=[1.0, 3.0]))["layer"][0]["encoding"]["color"]
    assert "domainMid" not in positive.get("scale", {})


def test_numbers_lie_upwards_and_names_as_they_come() -> None:
    frame = pd.DataFrame({"layer": [0, 0, 0], "other": [2, 10, 1], "kept": [1.0, 2.0, 3.0]})
    assert drawn(HEAT, frame)["layer"][0]["encoding"]["y"]["sort"] == [10, 2, 1]
    named = frame.assign(other=["verbs", "facts", "names"])
    assert drawn(HEAT, named)["layer"][0]["encoding"]["y"]["sort"] == ["verbs", "facts", "names"]


def test_series_differ_by_more_than_colour() -> None:
    for picture in (LINES, DOTS):
        layers = drawn(picture, frame_of(4))["layer"]
        assert all(
            layer["encoding"]["shape"]["field"] == "series"
            for layer in layers
            if "color" in layer["encoding"] and layer["mark"]["type"] == "point" and layer["mark"].get("opacity") != 0
        )
    bars = drawn(GROUPED, frame_of(4))["layer"][0]["encoding"]
    assert bars["xOffset"]["field"] == "series"


def test_long_names_below_bars_stand_in_lines_and_are_not_cut() -> None:
    names = ["the deepest but the last", "the last ones", "the block that turns the stream least"]
    frame = pd.DataFrame({"which": names, "loss": [0.5, 0.9, 0.4]})
    svg = svg_of(Picture("bars", "which", "loss", y_title="Loss"), frame, 700)
    written = re.sub(r"\s+", " ", " ".join(re.findall(r">([^<>]+)<", svg)))
    for name in names:
        for word in name.split():
            assert word in written
    assert "…" not in svg
