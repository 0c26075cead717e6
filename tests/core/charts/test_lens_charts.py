"""Charts of the lens: drawn from frames, serialised, rendered, and checked for what they say."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vl_convert

from surgery_core.charts import lens_lines as lens_line_charts
from surgery_core.charts import lens_maps as lens_charts
from surgery_core.charts import style as charts
from surgery_core.lenses.metrics import METRICS
from tests.core.charts.test_charts import TOKENS, lens_frame, spec

OWN = [name for name, metric in METRICS.items() if not metric.between]


def cells(layers: tuple[str, ...] = ("input", "L0", "L2")) -> pd.DataFrame:
    """Return a frame with every statistic; the last token has no target."""
    frame = lens_frame(layers)
    number = np.arange(len(frame)) + 1.0
    values = dict.fromkeys(("entropy", "kl", "kl_reverse", "js", "tv"), number / 10)
    frame = frame.assign(**values, rank=number, picked=-number, cross_entropy=number, origin=frame["layer"], depth=1)
    last = frame["position"] == len(TOKENS) - 1
    return frame.assign(rank=frame["rank"].mask(last), cross_entropy=frame["cross_entropy"].mask(last))


def changes() -> pd.DataFrame:
    frame = cells()
    return frame.assign(top_before=frame["top"], before=0.5, after=0.25, difference=np.linspace(-2, 1, len(frame)))


def lines(band: bool = False) -> pd.DataFrame:
    rows = [
        {"side": side, "row": row, "layer": layer, "value": 2.0 - row, "low": 0.5, "high": 3.0}
        for side, layers in (("Before", ("input", "L0", "L1")), ("After", ("input", "L1")))
        for row, layer in enumerate(layers)
    ]
    frame = pd.DataFrame(rows)
    return frame if band else frame.drop(columns=["low", "high"])


def layers_of(found: dict[str, Any], at: int = 0) -> list[dict[str, Any]]:
    drawn: list[dict[str, Any]] = found["hconcat"][at]["layer"]
    return drawn


def data_of(found: dict[str, Any], at: int = 0) -> list[dict[str, Any]]:
    drawn = found["hconcat"][at]
    name = next(place["data"]["name"] for place in (drawn, drawn["layer"][0], found) if "data" in place)
    rows: list[dict[str, Any]] = found["datasets"][name]
    return rows


@pytest.mark.parametrize("dark", [False, True])
def test_a_map_has_a_cell_for_each_layer_and_token(dark: bool) -> None:
    found = spec(lens_charts.lens_maps({"": cells()}, dark=dark))
    rects, words, *_ = layers_of(found)
    assert rects["mark"]["type"] == "rect"
    assert rects["encoding"]["y"]["sort"] == ["L2", "L0", "input"]
    assert words["encoding"]["text"]["field"] == "word"
    assert [row["word"] for row in data_of(found)[:4]] == ["Once", "upon", '"a\\', "↵"]
    ink = words["encoding"]["color"]
    assert (ink["condition"]["value"], ink["value"]) == charts.WORDS[dark][::-1]


@pytest.mark.parametrize("name", METRICS)
def test_every_statistic_can_be_the_colour_and_its_legend_has_the_unit(name: str) -> None:
    chart = lens_charts.lens_maps({"Before": cells(), "After": cells(("input", "L2"))}, name)
    found = spec(chart)
    colour = layers_of(found)[0]["encoding"]["color"]["condition"]
    assert colour["legend"]["title"] == lens_charts.named(METRICS[name])
    assert METRICS[name].unit in colour["legend"]["title"].lower()
    assert colour["scale"].get("type", "linear") == METRICS[name].scale
    assert all(0 <= row["share"] <= 1 for at in (0, 1) for row in data_of(found, at))
    assert "<svg" in vl_convert.vegalite_to_svg(chart.to_json())


def test_probability_is_linear_and_kl_and_rank_are_logarithmic() -> None:
    assert lens_charts.colour_bounds(pd.Series([0.1]), "probability") == (0.0, 1.0)
    assert lens_charts.colour_bounds(pd.Series([0.1]), "js") == (0.0, 0.1)
    assert lens_charts.colour_bounds(pd.Series([5.0, np.inf, np.nan]), "kl") == (1e-3, 5.0)
    assert lens_charts.colour_bounds(pd.Series([3.0]), "rank") == (1.0, 10.0)
    assert lens_charts.colour_bounds(pd.Series([-4.0, -1.0]), "picked") == (-4.0, 0.0)
    frame = cells().assign(kl=[1e-6, 1e-3, 0.1, 10.0] * 3)
    shares = [row["share"] for row in data_of(spec(lens_charts.lens_maps({"": frame}, "kl")))[:4]]
    assert shares == pytest.approx([0, 0, 0.5, 1])


def test_both_maps_share_the_colours_and_the_pointer() -> None:
    sides = {"Before": cells(), "After": cells(("input", "L2", "L0"))}
    found = spec(lens_charts.lens_maps(sides, "entropy"))
    views = [drawn["layer"][0]["name"] for drawn in found["hconcat"]]
    hover, click = found["params"]
    assert hover["views"] == click["views"] == views
    assert hover["select"]["fields"] == ["origin", "position"]
    assert click["select"]["fields"] == ["side", "layer", "position"]
    domains = [layers_of(found, at)[0]["encoding"]["color"]["condition"]["scale"]["domain"] for at in (0, 1)]
    assert domains[0] == domains[1]
    assert [drawn["title"] for drawn in found["hconcat"]] == ["Before", "After"]
    assert layers_of(found, 1)[0]["encoding"]["y"]["sort"] == ["L0", "L2", "input"]


def test_maps_can_stand_one_below_the_other() -> None:
    sides = {"Before": cells(), "After": cells(("input", "L2"))}
    chart = lens_charts.lens_maps(sides, stacked=True)
    found = spec(chart)
    assert [drawn["title"] for drawn in found["vconcat"]] == ["Before", "After"]
    assert found["params"][0]["views"] == [drawn["layer"][0]["name"] for drawn in found["vconcat"]]
    assert "<svg" in vl_convert.vegalite_to_svg(chart.to_json())


def test_the_bare_input_does_not_flatten_the_layers_and_the_legend_says_what_lies_beyond() -> None:
    frame = cells().assign(cross_entropy=[40.0] * 4 + [1.0, 2.0, 3.0, 4.0] * 2)
    assert lens_charts.map_bounds(frame, "cross_entropy") == (0.0, 4.0)
    chart = lens_charts.lens_maps({"": frame}, "cross_entropy")
    legend = layers_of(spec(chart))[0]["encoding"]["color"]["condition"]["legend"]
    assert legend["values"] == [0, 2, 4]
    assert 'datum.value === 4.0 ? "\\u2265 "' in legend["labelExpr"]
    assert "≥ 4" in vl_convert.vegalite_to_svg(chart.to_json())
    assert lens_charts.map_bounds(frame.assign(kl=[40.0] * 4 + [1.0] * 8), "kl") == (1e-3, 40.0)


@pytest.mark.parametrize(
    ("metric", "value", "said"), [("kl", math.log(3), "× 3"), ("rank", -math.log(8), "÷ 8"), ("kl", 0.0, "the same"),
                                  ("entropy", -0.25, "-0.25"), ("entropy", math.nan, "–")]
)  # fmt: skip
def test_a_cells_change_is_a_ratio_where_the_statistic_is_logarithmic(metric: str, value: float, said: str) -> None:
    frame = changes().assign(difference=value)
    assert {row["said"] for row in data_of(spec(lens_charts.difference_map(frame, metric)))} == {said}


def test_a_map_that_cannot_be_clicked_still_has_the_pointer() -> None:
    assert [param["name"] for param in spec(lens_charts.lens_maps({"": cells()}, pick=None))["params"]] == ["hover"]


def test_axes_show_tokens_as_written() -> None:
    found = spec(lens_charts.lens_maps({"": cells()}))
    expression = layers_of(found)[0]["encoding"]["x"]["axis"]["labelExpr"]
    lookup, rest = expression.rsplit(")", 1)
    assert rest == "[datum.value]"
    assert json.loads(lookup.removeprefix("(")) == {"0": "Once", "1": "·upon", "2": '·"a\\', "3": "↵"}


def test_the_difference_has_colours_on_both_sides_of_zero() -> None:
    chart = lens_charts.difference_map(changes(), "kl")
    found = spec(chart)
    colour = layers_of(found)[0]["encoding"]["color"]["condition"]
    assert colour["scale"] == {"domain": [-2, 2], "domainMid": 0, "interpolate": "rgb"}
    assert colour["legend"]["title"] == "KL to the output, after ÷ before"
    assert (
        "nats"
        in spec(lens_charts.difference_map(changes(), "entropy"))["hconcat"][0]["layer"][0]["encoding"]["color"][
            "condition"
        ]["legend"]["title"]
    )
    (click,) = found["params"]
    assert click["views"] == [found["hconcat"][0]["layer"][0]["name"]]
    assert "<svg" in vl_convert.vegalite_to_svg(chart.to_json())


@pytest.mark.parametrize("name", OWN)
def test_lines_have_a_side_each_and_name_both_layers_where_they_differ(name: str) -> None:
    chart = lens_line_charts.layer_lines(lines(), name)
    found = spec(chart)
    (drawn,) = found["layer"]
    lookup = drawn["encoding"]["x"]["axis"]["labelExpr"].rsplit(")", 1)[0].removeprefix("(")
    assert json.loads(lookup) == {"0": "input", "1": ["L0", "L1"], "2": "L1"}
    assert drawn["encoding"]["y"]["scale"].get("type", "linear") == METRICS[name].scale
    assert "<svg" in vl_convert.vegalite_to_svg(chart.to_json())


def test_one_side_needs_no_legend_and_an_output_compared_with_itself_no_point() -> None:
    frame = lines()
    alone = spec(lens_line_charts.layer_lines(frame[frame["side"] == "Before"], "entropy"))["layer"][0]
    assert "color" not in alone["encoding"]
    chart = lens_line_charts.layer_lines(frame.assign(value=[2.0, 1.0, 0.0, 2.0, 0.0]), "kl")
    found = spec(chart)
    assert [row["value"] for row in next(iter(found["datasets"].values()))] == [2.0, 1.0, None, 2.0, None]
    assert found["layer"][0]["encoding"]["x"]["scale"]["domain"] == [0, 1, 2]
    assert vl_convert.vegalite_to_svg(chart.to_json()).count('aria-roledescription="point"') == 3


def test_a_band_lies_behind_the_line() -> None:
    found = spec(lens_line_charts.layer_lines(lines(band=True), "kl"))
    band, line = found["layer"]
    assert (band["mark"]["type"], line["mark"]["type"]) == ("area", "line")
    assert (band["encoding"]["y"]["field"], band["encoding"]["y2"]["field"]) == ("low", "high")


def test_the_quality_of_a_lens_is_logarithmic_and_by_the_layer_that_was_left() -> None:
    frame = pd.DataFrame({"layer": [0, 1], "logit_lens": [20.0, 1.0], "tuned_lens": [2.0, 0.0]})
    chart = lens_line_charts.lens_quality(frame)
    found = spec(chart)
    assert found["encoding"]["x"]["sort"] == ["input", "L0"]
    assert found["encoding"]["y"]["scale"]["type"] == "log"
    assert min(row["kl"] for row in next(iter(found["datasets"].values()))) == METRICS["kl"].floor
    assert "<svg" in vl_convert.vegalite_to_svg(chart.to_json())


@pytest.mark.parametrize("name", OWN)
def test_what_is_worse_after_surgery_has_the_end_of_the_ramp_that_is_rust(name: str) -> None:
    """The theme's diverging ramp goes from petrol to rust; a lower probability is worse, a higher divergence is."""
    found = spec(lens_charts.difference_map(changes(), name))
    scale = layers_of(found)[0]["encoding"]["color"]["condition"]["scale"]
    assert scale.get("reverse", False) is (name in ("probability", "picked"))


def test_maps_of_what_is_no_number_are_drawn() -> None:
    broken = cells().assign(entropy=[math.nan, math.inf, -math.inf] * (len(cells()) // 3) + [0.0] * (len(cells()) % 3))
    for chart in (lens_charts.lens_maps({"": broken}, "entropy"),
                  lens_charts.lens_maps({"": broken.assign(entropy=math.nan)}, "entropy"),
                  lens_charts.difference_map(changes().assign(difference=math.inf), "kl")):  # fmt: skip
        assert "<svg" in vl_convert.vegalite_to_svg(chart.to_json())
    frame = lines().assign(value=math.nan)
    assert "<svg" in vl_convert.vegalite_to_svg(lens_line_charts.layer_lines(frame, "kl").to_json())
