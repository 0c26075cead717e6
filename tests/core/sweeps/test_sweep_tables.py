"""Tables of sweeps, searches and their findings, against values worked out by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from surgery_core.plans.labels import slot_labels
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.estimate import Costs, remaining, sweep_left
from surgery_core.sweeps.findings import costliest, measured_damage, rank_frame, ranks
from surgery_core.sweeps.frames import skill_map_frame
from surgery_core.sweeps.kinds import most_times, sweep_kind, sweep_points
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.removal import Removal, removal_frame
from surgery_core.sweeps.rows import SweepRow
from surgery_core.sweeps.setup import SweepMeasures
from tests.core.sweeps.test_sweep_estimate import SPEEDS

WHOLE = LayerPlan.identity(3)
POINTS = sweep_points("delete", WHOLE, SweepOptions())
LAYERS = pd.DataFrame({"position": [0, 1, 2], "layer": ["L0", "L1", "L2"], "block_influence": [0.5, 0.75, 0.25]})


def test_a_step_of_a_removal_is_a_line_with_its_figures() -> None:
    first = SweepRow(
        0, 3, None, "0-2", perplexity=8.0, bits_per_byte=1.5, kl=0.0, top1=1.0, skills={"A": 1.0, "B": 0.5}
    )
    second = SweepRow(
        0,
        2,
        None,
        "0,2",
        perplexity=10.0,
        loss_change=0.5,
        change_low=0.5 - math.log(2),
        change_high=0.5 + math.log(4),
        bits_per_byte=1.75,
        kl=0.25,
        top1=0.875,
    )
    steps = [Removal(3, WHOLE, "", first), Removal(2, WHOLE.delete([1]), "L1", second)]
    frame = removal_frame(steps)
    assert list(frame) == [
        "number", "layers_left", "removed", "plan", "perplexity", "bits_per_byte", "kl", "top1", "skill_accuracy",
        "low", "high",
    ]  # fmt: skip
    assert frame.iloc[0].tolist()[:-2] == [0, 3, "", "0-2", 8.0, 1.5, 0.0, 1.0, 0.75]
    assert frame.iloc[0].isna()[["low", "high"]].all()
    assert frame.iloc[1].tolist()[:-3] == [1, 2, "L1", "0,2", 10.0, 1.75, 0.25, 0.875]
    assert frame.iloc[1].tolist()[-2:] == pytest.approx([5.0, 40.0])
    assert math.isnan(frame["skill_accuracy"][1])
    assert removal_frame([]).empty


def test_a_point_and_skill_is_a_line_whether_it_was_asked_or_not() -> None:
    rows = [
        SweepRow(-1, 0, None, "0-2", skills={"Facts": 1.0, "Names": 1.0}),
        SweepRow(0, 0, None, "1-2", skills={"Facts": 0.25, "Names": 0.5}),
        SweepRow(1, 1, None, "0,2", refused="It cannot run."),
    ]
    frame = skill_map_frame(sweep_kind("delete"), slot_labels(WHOLE), POINTS, rows, ["Facts", "Names"])
    assert list(zip(frame["number"], frame["x"], frame["skill"], strict=True)) == [
        (0, "L0", "Facts"), (0, "L0", "Names"), (1, "L1", "Facts"), (1, "L1", "Names"), (2, "L2", "Facts"),
        (2, "L2", "Names"),
    ]  # fmt: skip
    assert list(frame["accuracy"][:2]) == [0.25, 0.5]
    assert frame["accuracy"][2:].isna().all()
    assert list(frame["state"]) == ["done", "done", "refused", "refused", "waiting", "waiting"]
    assert list(frame["plan"][::2]) == ["1-2", "0,2", "0-1"]


def test_damage_stands_beside_the_estimates_of_the_layers_that_were_deleted() -> None:
    rows = [
        SweepRow(-1, 0, None, "0-2", loss_change=0.0), SweepRow(0, 0, None, "1-2", loss_change=4.0),
        SweepRow(1, 1, None, "0,2", loss_change=0.5), SweepRow(2, 2, None, "0-1", refused="It cannot run."),
    ]  # fmt: skip
    known = measured_damage(LAYERS, rows)
    assert list(known["layer"]) == ["L0", "L1"]
    assert list(known["damage"]) == [4.0, 0.5]
    found = rank_frame(known, "block_influence")
    assert found.to_dict("list") == {"layer": ["L0", "L1"], "estimated": [2, 1], "measured": [1, 2]}
    assert costliest(known) == ("L0", 4.0)
    assert costliest(measured_damage(LAYERS, [])) is None


def test_ranks_count_from_the_largest_and_share_ties() -> None:
    assert list(ranks(pd.Series([0.8, 0.1, 0.1, 0.5]))) == [1, 3.5, 3.5, 2]


def test_what_is_repeated_runs_only_as_often_as_a_plan_may_be_long() -> None:
    # a block of 39 of 40 layers, 26 times: 40 + 25 * 39 = 1,015 slots of at most 1,024
    assert most_times("repeat-block", 40, 39) == 26
    assert most_times("repeat", 1000) == 25
    assert most_times("repeat", 4) == 64, "the bound of every plan"
    assert most_times("repeat", 1024) == 2


def row(number: int, seconds: float) -> SweepRow:
    return SweepRow(number, number, None, "0", seconds=seconds)


def test_the_time_that_a_sweep_goes_on_is_counted_from_the_rows_of_this_run() -> None:
    measures = SweepMeasures()
    # of three points two are there, one of them since before: one took 4 s, and one is left
    left = sweep_left(WHOLE, POINTS, measures, [row(-1, 1.0), row(0, 99.0), row(1, 4.0)], before={0})
    assert left == remaining(1.0, 4.0, 1.0)
    assert left is not None
    assert left.low < 4.0 < left.high
    assert sweep_left(WHOLE, POINTS, measures, []) is None


def test_before_its_first_row_a_sweep_takes_what_was_expected_with_its_beginning() -> None:
    # a second a layer and nothing else, nothing shared: 3 of the base, 3 of the start, 2 of each of three plans
    costs = Costs(
        layer=1.0, head=0.0, base=0.0, begin=0.0, item=0.0, token=0.0, whole=True, n_tokens=10, texts="1 texts, x",
        speeds=SPEEDS,
    )  # fmt: skip
    left = sweep_left(WHOLE, POINTS, SweepMeasures(), [], costs=costs)
    assert left is not None
    assert math.sqrt(left.low * left.high) == pytest.approx(12.0)
