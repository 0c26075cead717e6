"""A statistic layer by layer, averaged over the evaluation texts, with the spread between them."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from surgery_core.charts import lens_lines as lens_line_charts
from surgery_core.lenses.averages import mean_depth, spread
from surgery_core.sweeps.estimate import lens_texts_seconds
from surgery_core.text import Text, bundled_texts
from surgery_ui.lens_page.controls import Choice
from surgery_ui.parts import chart_specs
from surgery_ui.parts.awaited import Awaited
from surgery_ui.parts.sections import NOTHING, Section
from surgery_ui.session import session
from surgery_ui.work import lens_jobs, timing
from surgery_ui.work.kinds import Lane

LANES = {"Before": Lane.AVERAGES_BEFORE, "After": Lane.AVERAGES_AFTER}
HEIGHT = 310
"""Height in pixels of what stands here, where it is not there yet."""


def averages_section(now: session.Experiment, choice: Choice) -> Section:
    """Show the section with the averages, which are read once it is open, and return what draws them."""
    place = st.expander(
        "Averages over the texts", icon=":material/stacked_line_chart:", key="lens-texts", on_change="rerun"
    )
    if not place.open:
        return NOTHING
    with place:
        if choice.metric.between or choice.metric.name == "picked":
            st.caption("Choose one of the statistics that each side has by itself, such as KL to the output.")
            return NOTHING
        return _averages(now, choice)


def _averages(now: session.Experiment, choice: Choice) -> Section:
    """Have the texts read on both sides, and say how long that takes."""
    texts = evaluation_texts()
    plans = {"Before": now.identity} | ({} if now.plan.is_identity else {"After": now.plan})
    jobs = {
        side: lens_jobs.averages_job(now.owner, LANES[side], now.loaded, plan, texts, choice.reading)
        for side, plan in plans.items()
    }
    waits = not all(job.done for job in jobs.values())
    costs = timing.reading_job(now.owner, now.loaded, texts, Lane.COSTS_AVERAGES) if waits else None

    def expected() -> float | None:
        known = timing.known(costs)
        return None if known is None else len(jobs) * lens_texts_seconds(known)

    def draw() -> None:
        _draw({side: job.result for side, job in jobs.items()}, choice)

    with st.container():
        return Awaited(
            now.owner, list(jobs.values()), "averages", draw, text="Reading the texts", height=HEIGHT, expected=expected
        )


def _draw(frames: dict[str, pd.DataFrame], choice: Choice) -> None:
    name = choice.metric.name
    lines = [spread(frame, name).rename(columns={"mean": "value"}).assign(side=side) for side, frame in frames.items()]
    when = {side: f" {side.lower()} surgery" if len(frames) > 1 else "" for side in frames}
    depths = [f"{mean_depth(frame):.1f}{when[side]}" for side, frame in frames.items()]
    count = frames["Before"]["text"].nunique()
    st.caption(
        f"Mean over the tokens of {count} texts; the band holds the middle 80% of the texts. "
        f"Mean prediction depth, in layers: {', '.join(depths)}. "
        "Texts longer than the model's context are read in windows, each without what comes before it."
    )
    chart = lens_line_charts.layer_lines(pd.concat(lines, ignore_index=True), name)
    chart_specs.show(chart, alt=f"{choice.metric.title} after each layer, over all texts", key="lens-averages")


def evaluation_texts() -> tuple[Text, ...]:
    """Return the bundled texts and the person's own."""
    own = session.own_text()
    return (*bundled_texts(), *([own] if own else []))
