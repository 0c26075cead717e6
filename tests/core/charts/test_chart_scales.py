"""Axes that cut nothing off, charts of deep models, and figures that are no numbers."""

from __future__ import annotations

import json
import math
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest

from surgery_core.charts import layers as layer_charts
from surgery_core.charts import sweeps as sweep_charts
from surgery_core.charts.sweeps import sweep_chart
from surgery_core.plans.labels import slot_labels
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.axes import axis_ends
from surgery_core.sweeps.frames import ValueScale, axis_ticks, log_ticks, shades, sweep_frame, value_scale, wants_log
from surgery_core.sweeps.kinds import sweep_kind, sweep_points
from surgery_core.sweeps.rows import SweepRow
from tests.core.charts.test_sweep_charts import datasets, framed, importance_frame, rows_of, sheet, spec

NAN = float("nan")
DAMAGE = [3537.4, 96.1, 84.0, 77.2, 78.2, 80.8]


def y_of(found: dict[str, Any]) -> dict[str, Any]:
    return next(layer["encoding"]["y"] for layer in found["layer"] if "scale" in layer["encoding"].get("y", {}))


def drawn(chart: Any) -> str:
    picture = StringIO()
    chart.properties(width=500).save(picture, format="svg")
    return picture.getvalue()


def test_one_catastrophic_layer_reaches_as_far_as_it_is_bad() -> None:
    """Bars are as long as logarithms of their ratio to the start: log(3537.4 / 76.9) is 17 times log(96.1 / 76.9)."""
    frame = framed("delete", rows_of("delete", lambda p: DAMAGE[p.number]))
    found = spec(sweep_charts.bars(frame, sheet(first=76.9)))
    axis = y_of(found)
    assert axis["scale"]["type"] == "log"
    assert axis["title"] == "Perplexity (log scale)"
    low, high = axis["scale"]["domain"]
    rows = datasets(found)
    assert [row["shown"] for row in rows] == DAMAGE
    assert low < min(DAMAGE)
    assert high > max(DAMAGE)
    first, second = (math.log(row["shown"] / row["origin"]) for row in rows[:2])
    assert first / second == pytest.approx(17.2, abs=0.1)


@pytest.mark.parametrize("log", [None, True, False])
@pytest.mark.parametrize("metric", ["perplexity", "loss_change", "kl", "bits_per_byte"])
def test_no_finite_figure_lies_beyond_the_axis(metric: str, log: bool | None) -> None:
    for values in (DAMAGE, [-2.0, 0.0, 0.1, 900.0], [5.0], [1e-6, 1e9]):
        if metric == "perplexity" and min(values) < 0:
            continue
        low, high = axis_ends(value_scale(values, metric, values[-1], log=log))
        assert low <= min(values) <= max(values) <= high


def test_a_person_may_have_a_linear_axis() -> None:
    frame = framed("delete", rows_of("delete", lambda p: DAMAGE[p.number]))
    for live in (True, False):
        axis = y_of(spec(sweep_charts.bars(frame, sheet(first=76.9, log=False, live=live))))
        assert axis["scale"].get("type", "linear") == "linear"
        assert axis["title"] == "Perplexity"


def test_a_live_axis_keeps_its_kind_whatever_comes() -> None:
    for metric, kind in (("perplexity", "log"), ("kl", "linear")):
        frame = sweep_frame(
            sweep_kind("delete"), slot_labels(LayerPlan.identity(6)), sweep_points("delete", LayerPlan.identity(6)),
            rows_of("delete", lambda p: DAMAGE[p.number]), "perplexity",
        )  # fmt: skip
        axis = y_of(spec(sweep_charts.bars(frame, sheet(metric=metric, first=76.9, live=True))))
        assert axis["scale"].get("type", "linear") == kind


def test_an_axis_of_differences_is_logarithmic_on_both_sides_of_zero_where_one_squeezes_the_rest() -> None:
    values = [3.8, 0.2, 0.05, 0.04, -0.01, 0.03]
    assert wants_log(values, "loss_change")
    assert value_scale(values, "loss_change").spread == "symlog"
    assert not wants_log([0.2, 0.1, 0.15], "loss_change")
    assert value_scale([0.2, 0.1, 0.15], "loss_change").spread == "linear"
    assert not wants_log([0.001, 0.9], "top1")


def test_a_layer_far_above_the_rest_leaves_room_for_their_block_influence() -> None:
    found = spec(layer_charts.layer_bars(importance_frame(), "block_influence", "Block Influence"))
    axis = y_of(found)
    assert axis["scale"]["type"] == "symlog"
    assert axis["scale"]["domain"][1] > 0.8
    assert [row["x"] for row in datasets(found)] == ["L0", "L1", "L1 (2)", "L3"]


def test_perplexity_over_decades_is_logarithmic_and_the_ramp_shows_small_damage() -> None:
    assert value_scale([80.0 * 3.0**n for n in range(8)], "perplexity", 77.0).spread == "log"
    scale = value_scale([80.0, 96.0, 3537.0], "perplexity", 77.0)
    shade = shades(pd.Series([77.0, 80.0, 96.0, 3537.0]), scale, "perplexity")
    assert (shade[0], shade[3]) == (0, 1)
    # a linear ramp would put 96 at half a percent
    assert shade[2] > 0.15


def test_ticks_are_round() -> None:
    assert log_ticks(70, 4000) == [100, 300, 1000, 3000]
    assert log_ticks(1, 1e7) == [10.0**n for n in range(8)]
    assert log_ticks(70, 520) == [100, 200, 300, 500]
    assert log_ticks(75, 100) == [75, 80, 85, 90, 95, 100]
    assert log_ticks(100, 290) == [100, 150, 200, 250]
    around = ValueScale(-0.02, 5.0, 0.0, "symlog", 0.01)
    expected = [-1.0, -0.3, -0.1, -0.03, -0.01, 0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]
    assert axis_ticks(-1.0, 6.0, around) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["delete", "painters", "skip-block"])
def test_infinite_and_missing_figures_are_marked_and_drawn(kind: str) -> None:
    rows = rows_of(kind, lambda p: (math.inf, NAN, 80.0)[p.number % 3])
    rows[2] = SweepRow(2, rows[2].x, rows[2].y, rows[2].plan, refused="no attention layer is left")
    frame = framed(kind, rows)
    assert list(frame["state"][:4]) == ["done", "broken", "refused", "done"]
    for live in (True, False):
        chart = sweep_chart(sweep_kind(kind).form, frame, sheet(kind, first=77.0, live=live))
        found = datasets(spec(chart))
        assert [row["said"] for row in found[:3]] == ["∞", "not a number", "refused"]
        assert [row["mark"] for row in found[:3]] == ["", "NaN", "×"]
        assert found[0]["endless"]
        if kind != "painters":
            assert "NaN" in drawn(chart)


@pytest.mark.parametrize("kind", ["delete", "painters", "skip-block"])
def test_a_sweep_without_one_figure_is_drawn(kind: str) -> None:
    frame = framed(kind, rows_of(kind, lambda p: NAN))
    assert "<svg" in drawn(sweep_chart(sweep_kind(kind).form, frame, sheet(kind, first=NAN)))
    refused = [SweepRow(row.number, row.x, row.y, row.plan, refused="no") for row in rows_of(kind, lambda p: 1.0)]
    assert "<svg" in drawn(sweep_chart(sweep_kind(kind).form, framed(kind, refused), sheet(kind)))


def test_layer_charts_survive_what_is_no_number() -> None:
    frame = importance_frame()
    frame["block_influence"] = [NAN, math.inf, 0.1, -0.2]
    assert "NaN" in drawn(layer_charts.layer_bars(frame, "block_influence", "Block Influence"))
    cells = pd.DataFrame({
        "number": [0, 1, 2, 3], "x": ["L0", "L1", "L2", "L3"], "skill": "a", "accuracy": [0.5, NAN, NAN, NAN],
        "plan": "1", "state": ["done", "waiting", "refused", "broken"],
    })  # fmt: skip
    found = datasets(spec(layer_charts.skill_map(cells, "Deleted layer")))
    assert [row["said"] for row in found] == ["50.0%", "not run yet", "refused", "not a number"]
    removal = pd.DataFrame({
        "number": [0, 1], "layers_left": [3, 2], "removed": ["", "L1"], "plan": ["0-2", "0,2"],
        "perplexity": [NAN, NAN], "kl": [math.inf, 0.5],
    })  # fmt: skip
    for metric in ("perplexity", "kl"):
        assert "<svg" in drawn(layer_charts.removal_curve(removal, metric, metric))
    pairs = pd.DataFrame([(a, b, NAN) for a in "xy" for b in "xy"], columns=["row", "column", "cosine"])
    assert "<svg" in drawn(layer_charts.similarity_map(pairs))


@pytest.mark.parametrize("depth", [30, 126])
def test_labels_of_deep_models_are_thinned_out_not_crowded(depth: int) -> None:
    start = LayerPlan.identity(depth)
    points = sweep_points("delete", start)
    rows = [SweepRow(p.number, p.x, None, str(p.plan), perplexity=50.0 + p.number % 7) for p in points]
    frame = sweep_frame(sweep_kind("delete"), slot_labels(start), points, rows, "perplexity")
    axis = spec(sweep_charts.bars(frame, sheet()))["layer"][0]["encoding"]["x"]["axis"]
    assert axis["labelOverlap"] is True
    assert axis["labelSeparation"] >= 4
    ranks = pd.DataFrame({"layer": slot_labels(start), "estimated": range(1, depth + 1)})
    ranks["measured"] = list(reversed(range(1, depth + 1)))
    named = [row["named"] for row in datasets(spec(layer_charts.rank_chart(ranks, "Block Influence")))]
    assert 5 <= sum(named) <= 10
    few = datasets(spec(layer_charts.rank_chart(ranks[:8], "Block Influence")))
    assert all(row["named"] for row in few)


@pytest.mark.parametrize(("depth", "labels"), [(12, 12), (30, 30), (126, 42)])
def test_names_above_a_removal_curve_turn_and_thin_out(depth: int, labels: int) -> None:
    steps = range(depth)
    frame = pd.DataFrame({
        "number": steps, "layers_left": [depth - at for at in steps], "removed": [f"L{at}" for at in steps],
        "plan": [str(at) for at in steps], "perplexity": [50.0 * 1.1**at for at in steps],
    })  # fmt: skip
    found = spec(layer_charts.removal_curve(frame, "perplexity", "Perplexity", pick=None))
    halo, words = (layer for layer in found["layer"] if layer["mark"]["type"] == "text")
    assert halo["mark"].get("angle") == words["mark"].get("angle")
    assert words["mark"].get("angle", 0) == (0 if depth == 12 else 270)
    every = int(words["transform"][0]["filter"].split("%")[1].split("=")[0])
    assert len([at for at in steps if at % every == 0]) == labels


def test_a_symmetric_logarithm_survives_json() -> None:
    found = spec(sweep_charts.bars(framed("delete", rows_of("delete", lambda p: DAMAGE[p.number]), metric="kl"),
                                   sheet(metric="kl", value_title="KL")))  # fmt: skip
    assert json.dumps(found)
    assert np.isfinite(axis_ends(value_scale([NAN], "kl"))).all()
