"""The chart of a heal: a line of readings, and the one that is kept."""

from __future__ import annotations

import json

import pandas as pd
import vl_convert

from surgery_core.charts.heals import held_out_loss


def test_readings_are_a_line_and_the_kept_one_is_marked() -> None:
    nats, kept = [3.5, float("nan"), 3.25, 3.3], [False, False, True, False]
    chart = held_out_loss(pd.DataFrame({"step": [0, 4, 8, 12], "nats": nats, "kept": kept}))
    found = json.loads(chart.to_json())
    (rows,) = found["datasets"].values()
    shown = [(row["step"], row["nats"], row["kept"]) for row in rows]
    assert shown == [(0, 3.5, False), (8, 3.25, True), (12, 3.3, False)]
    assert found["layer"][1]["transform"] == [{"filter": "datum.kept"}]
    assert found["layer"][0]["encoding"]["y"]["scale"] == {"zero": False}
    assert "<svg" in vl_convert.vegalite_to_svg(chart.to_json())
