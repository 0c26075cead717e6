"""The picture of an experiment, at the size of a card and whole."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial

import pandas as pd

from surgery_core.charts.studies import study_chart
from surgery_core.recipes.gallery import Card
from surgery_ui.gallery_page.entries import Known
from surgery_ui.parts import chart_specs


def draw(card: Card, one: Known, *, small: bool = False) -> None:
    """Draw what an experiment found."""
    finding = one.finding
    chart_specs.show_kept(
        (card.key, small, finding.picture, _content(finding.frame)),
        partial(study_chart, finding.frame, finding.picture, dark=chart_specs.dark(), small=small),
        key=f"{'small' if small else 'whole'}-{card.key}", alt=f"{card.recipe.title}: {finding.figure.name}",
    )  # fmt: skip


def _content(frame: pd.DataFrame) -> Hashable:
    """Return what two frames share only where they hold the same."""
    return len(frame), int(pd.util.hash_pandas_object(frame, index=False).sum())
