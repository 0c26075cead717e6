"""What can be kept of the Surgery page: its tables, and its charts with the plan's picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd

from surgery_core.charts import lens_lines as lens_line_charts
from surgery_core.charts.style import layer_losses
from surgery_core.keeping.pictures import picture_file
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.measure.results import Comparison
from surgery_core.suture.sides import side_rows, sides_of
from surgery_ui.parts import keeping
from surgery_ui.parts.sections import Section
from surgery_ui.session import session
from surgery_ui.surgery_page.scores import BUNDLED, Scores
from surgery_ui.work.job import Job


def offer_results(now: session.Experiment, scores: Scores, sections: Sequence[Section]) -> None:
    """Offer the tables and charts that the page has."""
    if not keeping.wants_results():
        return
    frame = scores.whole_frame()
    tables = {"Perplexity": frame} if len(frame) else {}
    compared = [one for one in map(_found, scores.jobs_by_lane.values()) if isinstance(one, Comparison)]
    if compared:
        tables["Every token"] = pd.concat([one.token_frame() for one in compared], ignore_index=True)
    both = [_found(lanes.get(BUNDLED)) for lanes in (scores.cuts_by_lane, scores.jobs_by_lane)]
    if all(isinstance(one, Comparison) for one in both):
        mended = sides_of(dict(zip(("cut", "stitched"), both, strict=True)))
        tables["Before, cut and stitched"] = pd.DataFrame(side_rows(mended))
    charts: dict[str, Callable[[str], bytes]] = {"The plan": partial(picture_file, now.plan)}
    read = [job.result for section in sections for job in section.jobs if job.done and job.error is None]
    sides = [one.frame() for one in read if isinstance(one, Trajectory)]
    if sides:
        losses = layer_losses(*sides)
        tables["Loss after each layer"] = losses
        charts["Loss after each layer"] = keeping.chart_file(partial(lens_line_charts.layer_loss, losses))
    keeping.offer_results(tables, charts)


def _found(job: Job[Any] | None) -> Any:
    return job.result if job is not None and job.done and job.error is None else None
