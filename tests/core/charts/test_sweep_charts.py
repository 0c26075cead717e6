"""Charts of sweeps and layers: what each says, drawn, serialised, and turned into a picture."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from io import BytesIO, StringIO
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.charts import layers as layer_charts
from surgery_core.charts import sweeps as sweep_charts
from surgery_core.charts.sheets import importance_sheet, removal_sheet
from surgery_core.charts.sweep_marks import Sheet
from surgery_core.charts.sweeps import sweep_chart
from surgery_core.plans.labels import slot_labels
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.frames import FROM_ZERO, SHARES, figure, shade_ticks, shades, sweep_frame, value_scale
from surgery_core.sweeps.kinds import KINDS, sweep_kind, sweep_points
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.rows import METRICS, SweepRow

BASE = LayerPlan.identity(6)
NAN = float("nan")


def rows_of(kind: str, perplexity: Any, start: LayerPlan = BASE, upto: int | None = None) -> list[SweepRow]:
    """Return rows of a sweep whose perplexity is a function of the point."""
    points = sweep_points(kind, start)[:upto]
    return [SweepRow(p.number, p.x, p.y, str(p.plan), nats=1.0, perplexity=perplexity(p), top1=0.5) for p in points]


def framed(kind: str, rows: list[SweepRow], start: LayerPlan = BASE, metric: str = "perplexity") -> pd.DataFrame:
    return sweep_frame(sweep_kind(kind), slot_labels(start), sweep_points(kind, start), rows, metric)


def spec(chart: Any) -> dict[str, Any]:
    """Return the specification after a round trip through JSON, which Altair validates and which has no NaN."""
    text = chart.to_json()
    found: dict[str, Any] = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    return found


def sheet(kind: str = "delete", **more: Any) -> Sheet:
    one = sweep_kind(kind)
    return Sheet(
        **({"metric": "perplexity", "value_title": "Perplexity", "x_title": one.x_title, "y_title": one.y_title} | more)
    )


def datasets(found: dict[str, Any]) -> list[dict[str, Any]]:
    return max(found["datasets"].values(), key=len)


FORMS = {kind.form: kind.key for kind in KINDS}
"""A kind of each form."""


@pytest.mark.parametrize(
    ("kind", "dark"), [*((kind.key, False) for kind in KINDS), *((kind, True) for kind in FORMS.values())]
)
def test_every_kind_of_sweep_is_drawn_half_done_and_whole(kind: str, dark: bool) -> None:
    points = sweep_points(kind, BASE)
    half = len(points) // 2
    for upto in (0, half, len(points)) if kind in FORMS.values() else (half,):
        rows = rows_of(kind, lambda point: 50.0 + point.number, upto=upto)
        frame = framed(kind, rows)
        chart = sweep_chart(
            sweep_kind(kind).form, frame, sheet(kind, first=49.0, dark=dark, chosen=str(points[0].plan))
        )
        found = spec(chart)
        assert isinstance(chart, alt.HConcatChart if sweep_kind(kind).form == "maps" else alt.LayerChart)
        states = [row["state"] for data in found["datasets"].values() for row in data if "state" in row]
        assert len(states) == len(points)
        assert states.count("done") == upto
        assert states.count("waiting") == len(points) - upto


def test_maps_side_by_side_have_the_same_colours_and_their_own_names() -> None:
    """A cell of one map is as dark as a cell of another with the same figure, though the maps reach differently far."""
    harm = {"skip": 1.0, "repeat": 10.0, "damped": 0.1}

    def perplexity(point: Any) -> float:
        name, size = point.y.split()
        return 50.0 if (point.x, size) == (0, "1") else 50.0 + harm[name] * int(size)

    found = spec(sweep_chart("maps", framed("atlas", rows_of("atlas", perplexity)), sheet("atlas", first=49.0)))
    said = [part["title"] for part in found["hconcat"]]
    assert said == ["Left out", "Run again", "Run again, in smaller steps"]
    cells = [row for data in found["datasets"].values() for row in data if "shade" in row]
    assert len({row["shade"] for row in cells if row["value"] == 50.0}) == 1
    shades_by_value = sorted((row["value"], row["shade"]) for row in cells)
    assert [shade for _, shade in shades_by_value] == sorted(shade for _, shade in shades_by_value)
    assert {row["y"] for row in cells} == {"1", "2", "3", "4", "5"}


@pytest.mark.parametrize("kind", ["delete", "skip-block", "painters"])
def test_the_axes_stand_still_while_a_sweep_runs(kind: str) -> None:
    sides = []
    for upto in (0, 3, None):
        found = spec(
            sweep_chart(sweep_kind(kind).form, framed(kind, rows_of(kind, lambda p: 60.0, upto=upto)), sheet(kind))
        )
        encodings = [layer["encoding"] for layer in found["layer"] if "x" in layer.get("encoding", {})]
        sides.append([encodings[0]["x"]["scale"]["domain"], encodings[0].get("y", {}).get("sort")])
    assert sides[0] == sides[1] == sides[2]


def without_figures(found: dict[str, Any]) -> str:
    """Return a specification without its data, which Altair names by what is in them."""
    names = {name: f"data-{at}" for at, name in enumerate(found.pop("datasets"))}
    text = json.dumps(found)
    for name, plain in names.items():
        text = text.replace(name, plain)
    return re.sub(r"view_[0-9a-f]+", "view", text)


@pytest.mark.parametrize("kind", ["delete", "skip-block", "painters"])
@pytest.mark.parametrize("metric", ["perplexity", "kl", "top1"])
def test_a_live_chart_says_nothing_of_figures_in_its_specification(kind: str, metric: str) -> None:
    drawn = set()
    for upto, first in ((0, None), (1, 49.0), (4, 49.0), (6, 49.0)):
        rows = rows_of(kind, lambda point: 50.0 + point.number if point.number else 6e5, upto=upto)
        frame = sweep_frame(sweep_kind(kind), slot_labels(BASE), sweep_points(kind, BASE), rows, "perplexity")
        about = sheet(kind, metric=metric, first=first, live=True, chosen="0-5")
        drawn.add(without_figures(spec(sweep_chart(sweep_kind(kind).form, frame, about))))
    assert len(drawn) == 1


@pytest.mark.parametrize("kind", ["delete", "painters"])
def test_a_live_chart_reaches_as_far_as_one_that_is_done(kind: str) -> None:
    frame = framed(kind, rows_of(kind, lambda point: 50.0 + point.number))
    live, done = (
        spec(sweep_chart(sweep_kind(kind).form, frame, sheet(kind, first=49.0, live=live))) for live in (True, False)
    )
    domain = next(layer["encoding"]["y"]["scale"]["domain"] for layer in done["layer"] if "y" in layer["encoding"])
    fields = {
        layer["encoding"][channel]["field"]
        for layer in live["layer"]
        for channel in ("y", "y2")
        if "field" in layer["encoding"].get(channel, {})
    }
    shown = [row[field] for row in datasets(live) for field in fields if row[field] is not None]
    assert [min(shown), max(shown)] == pytest.approx(domain)
    assert all("domain" not in layer["encoding"].get("y", {}).get("scale", {}) for layer in live["layer"])
    rule = next(layer for layer in live["layer"] if "strokeDash" in layer["mark"])
    assert rule["encoding"]["y"]["field"] == "first"
    assert {row["first"] for row in datasets(live)} == {49.0}


@pytest.mark.parametrize("kind", ["delete", "painters"])
def test_a_live_chart_without_figures_has_none_on_its_axis(kind: str) -> None:
    found = spec(sweep_chart(sweep_kind(kind).form, framed(kind, []), sheet(kind, first=49.0, live=True)))
    assert {(row["low"], row["high"], row["first"]) for row in datasets(found)} == {(None, None, None)}


def test_bars_that_wait_are_outlined_while_a_chart_fills() -> None:
    frame = framed("delete", rows_of("delete", lambda point: 50.0, upto=2))
    for live in (True, False):
        found = spec(sweep_charts.bars(frame, sheet(live=live)))
        filters = [layer["transform"][0]["filter"] for layer in found["layer"] if "transform" in layer]
        assert filters.count("datum.state === 'waiting'") == live


def test_positions_go_by_the_names_of_their_slots() -> None:
    start = LayerPlan.parse("3,1,1,0", 6)
    frame = framed("delete", [], start)
    assert list(frame["x"]) == ["L3", "L1", "L1 (2)", "L0"]
    pairs = framed("swap-pairs", [], start)
    assert (pairs["x"][0], pairs["y"][0]) == ("L3", "L1")
    blocks = framed("skip-block", [], start)
    assert (blocks["x"][1], blocks["y"][1]) == ("L3", "2")
    scaled = framed("scale", [], start)
    assert "0.25" in list(scaled["x"])
    middle = sweep_frame(sweep_kind("skip-middle"), slot_labels(BASE), sweep_points("skip-middle", BASE), [], "kl")
    assert list(middle["x"]) == ["1", "2", "3", "4"]


def test_a_row_of_another_models_file_keeps_its_place_without_points() -> None:
    rows = rows_of("delete", lambda point: 60.0)
    frame = sweep_frame(sweep_kind("delete"), (), rows, rows, "perplexity")
    assert list(frame["x"]) == [str(n) for n in range(6)]


def test_refused_points_have_no_figure_and_are_crossed_out() -> None:
    rows = rows_of("skip-block", lambda point: 60.0)
    rows[2] = SweepRow(2, 0, 3, rows[2].plan, refused="no attention layer is left")
    frame = framed("skip-block", rows)
    assert (frame["state"][2], frame["reason"][2]) == ("refused", "no attention layer is left")
    assert math.isnan(frame["value"][2])
    found = spec(sweep_charts.heat(frame, sheet("skip-block")))
    (crossed,) = (layer for layer in found["layer"] if layer["encoding"].get("text", {}).get("field") == "mark")
    assert "datum.state === 'refused'" in crossed["transform"][0]["filter"]
    refused = next(row for row in datasets(found) if row["number"] == 2)
    assert (refused["said"], refused["mark"]) == ("refused", "×")


@given(
    st.lists(st.floats(-1e12, 1e12) | st.just(NAN) | st.just(math.inf), max_size=12),
    st.sampled_from(sorted(METRICS)),
    st.none() | st.floats(-1e12, 1e12) | st.just(NAN),
)
def test_any_figures_give_a_finite_scale_and_shades_between_0_and_1(
    values: list[float], metric: str, first: float | None
) -> None:
    with np.errstate(all="ignore"):
        scale = value_scale(values, metric, first)
        assert math.isfinite(scale.low)
        assert math.isfinite(scale.origin)
        assert scale.high > scale.low
        shade = shades(pd.Series(values, dtype=float), scale, metric).dropna()
    assert ((shade >= 0) & (shade <= 1)).all()


@given(st.lists(st.floats(1.0, 1e9), min_size=1, max_size=12), st.floats(1.0, 1e9))
def test_more_damage_is_never_lighter(values: list[float], first: float) -> None:
    scale = value_scale(values, "perplexity", first)
    ordered = shades(pd.Series(sorted(values)), scale, "perplexity")
    assert ordered.is_monotonic_increasing


@pytest.mark.parametrize("even", [False, True])
def test_a_figure_has_one_colour_in_all_charts_of_one_scale(even: bool) -> None:
    """Two maps side by side: the end of the ramp is that of both, not of each."""
    mild, wild = pd.Series([80.0, 96.0]), pd.Series([80.0, 3537.0])
    scale = value_scale([*mild, *wild], "perplexity", 77.0)
    found = [shades(values, scale, "perplexity", even=even) for values in (mild, wild)]
    assert found[0][0] == found[1][0]
    assert found[0][1] < 0.5
    assert found[1][1] == pytest.approx(1.0)


@pytest.mark.parametrize("even", [False, True])
def test_the_ticks_of_the_ramp_are_where_its_shades_are(even: bool) -> None:
    values = pd.Series([80.0, 96.0, 3537.0])
    scale = value_scale(values, "perplexity", 77.0)
    ticks = shade_ticks(scale, "perplexity", even=even)
    assert ticks[0.0] == pytest.approx(77.0)
    assert ticks[1.0] == pytest.approx(3537.0)
    again = shades(pd.Series([*values, ticks[0.5]]), scale, "perplexity", even=even)
    assert again.iloc[-1] == pytest.approx(0.5)
    assert bool(again.iloc[1] == pytest.approx((96 - 77) / (3537 - 77))) is even


def test_colours_are_even_where_a_person_wants_them_so() -> None:
    framing = framed("skip-block", rows_of("skip-block", lambda p: 80.0 * 3.0 ** len(BASE) / 3.0 ** len(p.plan)))
    shaded = {
        log: [row["shade"] for row in datasets(spec(sweep_charts.heat(framing, sheet(first=77.0, log=log))))]
        for log in (None, True, False)
    }
    assert shaded[None] == shaded[True]
    assert sum(shaded[False]) < sum(shaded[True]) / 2


def test_the_starting_plans_figure_is_a_dashed_rule_that_is_explained() -> None:
    found = spec(sweep_charts.bars(framed("delete", rows_of("delete", lambda p: 90.0)), sheet(first=76.94)))
    rules = [layer for layer in found["layer"] if "strokeDash" in layer["mark"]]
    (rule,) = rules
    assert found["datasets"][rule["data"]["name"]] == [{"shown": 76.94}]
    assert "76.9, the plan that the sweep starts from" in found["title"]["text"]
    assert "title" not in spec(sweep_charts.bars(framed("delete", []), sheet()))


def intervals(p: float, low: float, high: float) -> dict[str, float]:
    return {"loss_change": 0.1, "change_low": low, "change_high": high, "p": p}


def test_whiskers_are_intervals_and_what_cannot_be_told_apart_is_marked() -> None:
    """Of six p-values the two small ones are discoveries (Benjamini and Hochberg); a whisker reaches as far as it says."""
    rows = [
        replace(row, **intervals(p, 0.1 - 0.01 * row.number, 0.2))
        for row, p in zip(rows_of("delete", lambda p: 100.0), (0.001, 0.5, 0.002, 0.04, 0.3, 0.9), strict=True)
    ]
    frame = framed("delete", rows)
    assert list(frame["alike"]) == [False, True, False, True, True, True]
    assert frame["high"].tolist() == pytest.approx([100 * math.exp(0.1)] * 6)
    assert frame["low"].tolist() == pytest.approx([100 * math.exp(-0.01 * at) for at in range(6)])
    found = spec(sweep_charts.bars(frame, sheet(first=90.5)))
    shown = datasets(found)
    assert [row["whisker_high"] for row in shown] == pytest.approx([100 * math.exp(0.1)] * 6)
    assert shown[0]["between"] == "100 to 111"
    domain = next(layer["encoding"]["y"]["scale"]["domain"] for layer in found["layer"] if "y" in layer["encoding"])
    assert domain[1] >= 100 * math.exp(0.1)
    marks = [layer for layer in found["layer"] if layer.get("transform", [{}])[0].get("filter") == "datum.alike"]
    assert [layer["mark"]["text"] for layer in marks] == ["="]
    assert not framed("delete", rows, metric="top1")["alike"].any()
    heat = spec(sweep_charts.heat(frame.assign(y="a", y_at=0), sheet()))
    assert any(layer["mark"].get("text") == "=" for layer in heat["layer"])


def test_a_click_names_the_point_and_the_chosen_plan_is_outlined() -> None:
    frame = framed("delete", rows_of("delete", lambda p: 90.0))
    found = spec(sweep_charts.bars(frame, sheet(chosen="0,2-5")))
    (parameter,) = found["params"]
    assert (parameter["name"], parameter["select"]["fields"]) == ("point", ["number"])
    filters = [layer["transform"][0]["filter"] for layer in found["layer"] if "transform" in layer]
    assert 'datum.plan === "0,2-5"' in filters
    assert "params" not in spec(sweep_charts.bars(frame, sheet(pick=None)))


def test_plans_with_quotes_stay_inside_the_filter() -> None:
    found = spec(sweep_charts.bars(framed("delete", []), sheet(chosen='a"] || true')))
    assert any(
        layer["transform"][0]["filter"] == 'datum.plan === "a\\"] || true"'
        for layer in found["layer"]
        if "transform" in layer
    )


@pytest.mark.parametrize(
    ("value", "metric", "said"),
    [(76.94, "perplexity", "76.9"), (3537.4, "perplexity", "3,537"), (math.inf, "perplexity", "∞"), (NAN, "kl", "–"),
     (0.815, "top1", "81.5%"), (0.1234, "loss_change", "0.123"), (2.5e7, "perplexity", "2.5e+07"), (6.5, "", "6.50")],
)  # fmt: skip
def test_figures_as_charts_write_them(value: float, metric: str, said: str) -> None:
    assert figure(value, metric) == said


def test_shares_reach_from_0_to_1_and_others_begin_where_they_should() -> None:
    assert {value_scale([0.7, 0.8], metric).high for metric in SHARES} == {1.0}
    assert {value_scale([0.5, 0.9], metric, 0.3).origin for metric in FROM_ZERO} == {0.0}
    assert value_scale([90.0, 80.0], "perplexity", 77.0).origin == 77.0


def importance_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {"position": range(4), "layer": ["L0", "L1", "L1 (2)", "L3"], "block_influence": [0.8, 0.05, 0.02, 0.04]}
    )


def layer_chart_list() -> list[Any]:
    frame = importance_frame()
    names = ["input", *frame["layer"]]
    pairs = pd.DataFrame(
        [(a, b, 1.0 if a == b else 0.4) for a in names for b in names], columns=["row", "column", "cosine"]
    )
    blocks = pd.DataFrame([(0, 1, 0.1), (0, 2, 0.2), (1, 1, NAN)], columns=["start", "length", "angular_distance"])
    removal = pd.DataFrame({
        "number": [0, 1, 2], "layers_left": [3, 2, 1], "removed": ["", "L1", "L0"], "plan": ["0-2", "0,2", "2"],
        "perplexity": [77.0, 90.0, math.inf], "skill_accuracy": [0.9, 0.8, 0.5],
    })  # fmt: skip
    ranks = pd.DataFrame({"layer": frame["layer"], "estimated": [1, 2, 4, 3], "measured": [1, 3, 4, 2]})
    skills = pd.DataFrame(
        {"skill": ["a", "a"], "side": ["Before", "After"], "accuracy": [1.0, 0.5], "margin": [2.0, -1.0]}
    )
    cells = pd.DataFrame(
        {
            "number": [0, 1],
            "x": ["L0", "L1"],
            "skill": ["a", "a"],
            "accuracy": [0.5, NAN],
            "plan": ["1", "0"],
            "state": ["done", "waiting"],
        }
    )
    return [
        layer_charts.layer_bars(frame, "block_influence", "Block Influence"),
        layer_charts.rank_chart(ranks, "Block Influence"),
        layer_charts.similarity_map(pairs),
        layer_charts.block_map(blocks, list(frame["layer"])),
        layer_charts.removal_curve(removal, "perplexity", "Perplexity", chosen="0,2"),
        layer_charts.removal_curve(removal, "skill_accuracy", "Skill accuracy"),
        layer_charts.skill_bars(skills, "accuracy", "Accuracy"),
        layer_charts.skill_bars(skills[:1], "margin", "Margin"),
        layer_charts.skill_map(cells, "Deleted layer"),
    ]


@pytest.mark.parametrize("number", range(9))
def test_every_layer_chart_is_drawn_serialised_and_a_picture(number: int) -> None:
    chart = layer_chart_list()[number]
    spec(chart)
    picture = BytesIO()
    chart.properties(width=300).save(picture, format="png")
    assert picture.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["delete", "skip-block", "painters"])
def test_every_form_of_a_sweep_is_a_picture_with_its_words(kind: str) -> None:
    from io import StringIO

    frame = framed(kind, rows_of(kind, lambda point: 80.0 + point.number))
    drawing = StringIO()
    sweep_chart(sweep_kind(kind).form, frame, sheet(kind, first=77.0, title="My sweep")).properties(width=400).save(
        drawing, format="svg"
    )
    said = drawing.getvalue()
    assert "My sweep" in said
    assert sweep_kind(kind).x_title in said


def test_the_similarity_map_runs_along_the_stream() -> None:
    found = spec(layer_chart_list()[2])
    assert found["encoding"]["x"]["sort"] == ["input", "L0", "L1", "L1 (2)", "L3"]
    assert found["encoding"]["y"]["sort"] == ["L3", "L1 (2)", "L1", "L0", "input"]


def test_the_removal_curve_goes_from_all_layers_to_few() -> None:
    found = spec(layer_chart_list()[4])
    assert found["layer"][0]["encoding"]["x"]["sort"] == [3, 2, 1]
    assert datasets(found)[2]["value"] is None
    assert datasets(found)[2]["said"] == "∞"


def test_the_removal_curve_keeps_places_for_what_has_not_gone_yet() -> None:
    frame = pd.DataFrame({
        "number": [0, 1], "layers_left": [5, 4], "removed": ["", "L1"], "plan": ["0-4", "0,2-4"],
        "perplexity": [77.0, 90.0],
    })  # fmt: skip
    found = spec(layer_charts.removal_curve(frame, "perplexity", "Perplexity", ends_at=2))
    assert found["layer"][0]["encoding"]["x"]["scale"]["domain"] == [5, 4, 3, 2]


def test_removal_curves_of_a_file_stand_one_above_the_other_without_clicks() -> None:
    frame = pd.DataFrame({
        "number": [0, 1], "layers_left": [5, 4], "removed": ["", "L1"], "plan": ["0-4", "0,2-4"],
        "perplexity": [77.0, 90.0], "skill_accuracy": [0.9, 0.8],
    })  # fmt: skip
    titles = {"perplexity": "Perplexity", "skill_accuracy": "Skill accuracy"}
    found = spec(removal_sheet(frame, titles, width=500))
    named = [one["layer"][0]["encoding"]["y"]["title"] for one in found["vconcat"]]
    assert named == ["Perplexity (log scale)", "Skill accuracy"]
    assert {one["width"] for one in found["vconcat"]} == {500}
    assert "params" not in found


def test_all_of_importance_stands_in_one_file_and_each_map_has_its_own_colours() -> None:
    layers = pd.DataFrame({
        "position": [0, 1], "layer": ["L0", "L1"], "block_influence": [0.4, 0.1], "contribution_norm": [7.0, 2.0],
    })  # fmt: skip
    places = ["input", "L0", "L1"]
    pairs = pd.DataFrame(
        [(a, b, 0.5 + 0.5 * (a == b)) for a in places for b in places], columns=["row", "column", "cosine"]
    )
    blocks = pd.DataFrame([(0, 1, 0.2), (0, 2, 0.3), (1, 1, 0.1)], columns=["start", "length", "angular_distance"])
    titles = {"block_influence": "Block Influence", "contribution_norm": "Contribution norm"}
    sheet = importance_sheet(layers, titles, pairs, blocks, ["L0", "L1"], width=500)
    found = spec(sheet)
    assert [one.get("title") for one in found["vconcat"]] == [*titles.values(), None, None]
    assert found["resolve"]["scale"]["color"] == "independent"
    picture = StringIO()
    sheet.save(picture, format="svg")
    assert {"L0", "L1", "Cosine similarity", "Angular distance"} <= set(re.findall(r">([^<>]+)<", picture.getvalue()))


def test_what_has_not_run_is_hollow_so_that_it_is_no_low_figure() -> None:
    found = spec(sweep_charts.heat(framed("skip-block", []), sheet("skip-block", first=77.0)))
    empty = found["layer"][0]
    assert empty["transform"][0]["filter"] == "datum.state === 'waiting'"
    assert empty["mark"]["filled"] is False


def test_charts_of_importance_have_no_titles_but_tooltips_name_the_figure() -> None:
    found = spec(layer_chart_list()[0])
    assert found["layer"][0]["encoding"]["y"]["title"] is None
    assert [tip["title"] for tip in found["layer"][-1]["encoding"]["tooltip"]] == ["Layer", "Block Influence"]


def test_blocks_beyond_the_end_are_left_out() -> None:
    assert [row["first"] for row in datasets(spec(layer_chart_list()[3]))] == ["L0", "L0"]


def test_a_long_sweep_is_drawn_too() -> None:
    start = LayerPlan.identity(80)
    options = SweepOptions(max_length=20)
    points = sweep_points("skip-block", start, options)
    frame = sweep_frame(sweep_kind("skip-block"), slot_labels(start), points, [], "perplexity")
    found = spec(sweep_charts.heat(frame, sheet("skip-block")))
    assert len(datasets(found)) == len(points)
    assert found["height"] <= 700
