"""The chart of a heal: the loss on texts held out while it is trained."""

from __future__ import annotations

from typing import cast

import altair as alt
import pandas as pd


def held_out_loss(frame: pd.DataFrame) -> alt.LayerChart:
    """Draw the loss on the texts held out over the steps, with the reading that is kept marked.

    Args:
        frame: `step`, `nats` (a token), `kept` (whether that state would be kept); readings that are no number are left out.
    """
    known = frame[frame["nats"].abs() < float("inf")]
    base = alt.Chart(known).encode(
        x=alt.X("step:Q", title="Step", axis=alt.Axis(tickMinStep=1, tickCount=4)),
        y=alt.Y("nats:Q", title="Held-out loss", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=3, format=".2f")),
        tooltip=[alt.Tooltip("step:Q", title="Step"), alt.Tooltip("nats:Q", title="Nats a token", format=".4f")],
    )
    line = base.mark_line(point=alt.OverlayMarkDef(size=24), strokeWidth=2)
    kept = base.transform_filter("datum.kept").mark_point(size=110, filled=False, strokeWidth=2)
    return cast("alt.LayerChart", alt.layer(line, kept).properties(height=150))
