"""The charts of a report, each in the colours of a light and of a dark page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from surgery_core.charts import layers as layer_charts
from surgery_core.charts import lens_lines, lens_maps
from surgery_core.charts.plans import plan_scores, ratios
from surgery_core.charts.studies import study_chart
from surgery_core.charts.style import CELL, layer_losses
from surgery_core.charts.sweep_marks import Sheet
from surgery_core.charts.sweeps import sweep_chart
from surgery_core.charts.texts import text_scores
from surgery_core.charts.theme import vega_config
from surgery_core.keeping.report.asked import Swept
from surgery_core.keeping.report.findings import Findings
from surgery_core.measure.skills.frames import skill_frame
from surgery_core.plans.labels import slot_labels
from surgery_core.sweeps.frames import sweep_frame
from surgery_core.sweeps.rows import METRICS

Make = Callable[[bool], Any]
Specs = dict[str, dict[str, Any]]


def charts_of(found: Findings) -> Specs:
    """Return the charts that a report has by name, each by theme as a specification of Vega-Lite."""
    made: dict[str, Make] = {}
    if found.report.comparison is not None and "scores" in found.asked.parts:
        made["scores"] = _scores(found.report.comparison.frame())
    if found.report.plans and "plans" in found.asked.parts:
        plans = ratios({one.name: one.comparison for one in found.report.plans})
        made["plans"] = lambda dark: plan_scores(plans, list(plans["plan"]), dark=dark)
    if found.lens:
        frames = [one.frame() for one in found.lens]
        made["lens"] = lambda dark: lens_maps.lens_maps(
            dict(zip(("Before", "After"), frames, strict=True)), dark=dark, pick=None, stacked=True, cell=CELL
        )
        losses = layer_losses(*frames)
        made["lens-loss"] = lambda dark: lens_lines.layer_loss(losses)
    if found.skills:
        skills = skill_frame(*found.skills)
        made["skills"] = lambda dark: layer_charts.skill_bars(skills, "accuracy", "Accuracy", dark=dark)
    if found.swept is not None:
        made["sweep"] = _sweep(found.swept)
    if found.study is not None:
        finding = found.study.finding
        made["study"] = lambda dark: study_chart(finding.frame, finding.picture, dark=dark)
    return {name: {mode: _spec(make, mode == "dark") for mode in ("light", "dark")} for name, make in made.items()}


def _spec(make: Make, dark: bool) -> dict[str, Any]:
    chart = make(dark).properties(background="transparent")
    # what the chart says itself stands above the theme's colours
    spec: dict[str, Any] = chart.to_dict()
    spec["config"] = _over(vega_config(dark=dark), spec.get("config", {}))
    return spec


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings, the upper ones where both say something."""
    both = {key: _over(below[key], above[key]) for key in below.keys() & above.keys() if isinstance(below[key], dict)}
    return below | above | both


def _scores(frame: pd.DataFrame) -> Make:
    return lambda dark: text_scores(frame, dark=dark)


def _sweep(swept: Swept) -> Make:
    asked = swept.request
    frame = sweep_frame(asked.family, slot_labels(asked.start), asked.points, swept.rows, "perplexity")
    first = next((row.perplexity for row in swept.rows if row.number < 0), None)

    def make(dark: bool) -> Any:
        kind = asked.family
        sheet = Sheet("perplexity", METRICS["perplexity"], kind.x_title, kind.y_title, first, dark=dark, pick=None)
        return sweep_chart(kind.form, frame, sheet)

    return make
