"""Charts for a projector: what is in pixels grows, what follows the page and the data do not change."""

from __future__ import annotations

import altair as alt
import pandas as pd
import pytest

from surgery_core.charts.larger import USUAL, larger
from surgery_core.charts.style import legible, top_tokens


def test_pixels_grow_and_nothing_else_does() -> None:
    data = {"height": 3, "fontSize": 4}
    spec = {
        "width": "container", "height": {"step": 24}, "datasets": {"a": data},
        "layer": [{"mark": {"type": "text", "fontSize": 11, "dx": 5, "opacity": 0.5}, "encoding": {"x": {"value": 7}}}],
        "config": {"axis": {"labelColor": "#59686e", "labelFontSize": 10}},
    }  # fmt: skip
    before = {"spec": str(spec)}
    found = larger(spec, 1.5)
    assert str(spec) == before["spec"], "what was given stays as it is"
    assert found["width"] == "container"
    assert found["height"] == {"step": 36}
    assert found["datasets"]["a"] is data
    mark = found["layer"][0]["mark"]
    assert (mark["fontSize"], mark["dx"], mark["opacity"]) == (16.5, 7.5, 0.5)
    assert found["layer"][0]["encoding"] == {"x": {"value": 7}}
    assert found["config"]["axis"]["labelFontSize"] == 15
    assert found["config"]["axis"]["labelColor"] == "#59686e"
    assert found["config"]["legend"]["labelFontSize"] == 1.5 * USUAL["legend"]["labelFontSize"]


@pytest.mark.parametrize("times", [1.25, 2.0])
def test_a_real_chart_stays_one(times: float) -> None:
    frame = pd.DataFrame({"rank": [1, 2], "token": [" a", " b"], "probability": [0.6, 0.2]})
    with alt.data_transformers.enable("default"):
        spec = legible(top_tokens(frame)).to_dict()
    found = larger(spec, times)
    assert found["height"] == {1.25: 52, 2.0: 84}[times]
    assert alt.Chart.from_dict(found, validate=True) is not None
    assert found["datasets"] == spec["datasets"]
