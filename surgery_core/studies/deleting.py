"""What is kept when each layer is left out once: the middle, the first layer, the last.

Lad, Gurnee and Tegmark, "The Remarkable Robustness of LLMs: Stages of Inference?" (arXiv 2406.19384).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.paired import estimates
from surgery_core.studies.finding import Figure, Finding, Picture
from surgery_core.studies.measuring import MOST_LAYERS, TEXTS, Measured, measured, n_layers_of, number, one_of, spaced
from surgery_core.studies.study import Study, StudySetup

FIGURES = ("middle", "first against middle")


def delete_each(setup: StudySetup) -> Finding:
    """Measure which share of top-1 predictions is kept without each layer.

    The figure is the mean over the layers but the first and the last, or how much more of them is kept without one of
    those than without the first layer, 0 to 1.

    Raises:
        SettingsError: when the model has fewer than three layers, or an option is out of range.
        TextError, Stopped: as for `measured`.
    """
    wanted = one_of(setup, "figure", FIGURES)
    n = n_layers_of(setup, 3)
    layers = [0, *spaced(range(1, n - 1), number(setup, "layers_at_most", 1, 10_000)), n - 1]
    plans = [LayerPlan.identity(n).delete(at) for at in layers]
    result = measured(setup, plans, agreement=True)
    kept = {at: result.kept(plan) for at, plan in zip(layers, plans, strict=True) if result.ran(plan)}
    middle = {at: sums for at, sums in kept.items() if 0 < at < n - 1}
    # where a model cannot be run without some layer, that is said; without any of the middle there is no figure
    mean = np.mean(list(middle.values()), axis=0) if middle else result.kept(plans[1])
    return Finding(
        _figure(wanted, result, mean, result.kept(plans[0]) if wanted != FIGURES[0] else mean),
        tuple(_others(result, kept, mean, n)),
        _frame(result, kept),
        Picture("bars", "layer", "kept", x_title="Layer left out", y_title="Top-1 kept", low="low", high="high"),
        " ".join(filter(None, (_left_out(result), result.note))),
    )


def _figure(wanted: str, result: Measured, mean: np.ndarray, first: np.ndarray) -> Figure:
    if wanted == "middle":
        return result.share("Top-1 kept without a middle layer, mean over them", mean)
    name = "Top-1 kept without a middle layer less that without the first one"
    return result.figure(name, mean - first, percent=True)


def _others(result: Measured, kept: dict[int, np.ndarray], mean: np.ndarray, n: int) -> list[Figure]:
    found = [result.share("Top-1 kept without a middle layer, mean over them", mean)]
    for at, name in ((0, "the first layer"), (n - 1, "the last layer")):
        if at in kept:
            found.append(result.share(f"Top-1 kept without {name}", kept[at]))
    middle = {at: sums for at, sums in kept.items() if 0 < at < n - 1}
    totals = {at: float(sums.sum()) for at, sums in middle.items()}
    if totals and not np.isnan(list(totals.values())).any():
        least, most = min(totals, key=totals.__getitem__), max(totals, key=totals.__getitem__)
        for word, at in (("Least", least), ("Most", most)):
            found.append(result.share(f"{word} kept in the middle: without L{at}", kept[at]))
    return found


def _frame(result: Measured, kept: dict[int, np.ndarray]) -> pd.DataFrame:
    found = estimates(np.array(list(kept.values())), result.tokens)
    return pd.DataFrame(
        {
            "layer": [f"L{at}" for at in kept],
            "kept": found.value,
            "low": np.clip(found.low, 0, 1),
            "high": np.clip(found.high, 0, 1),
        }
    )


def _left_out(result: Measured) -> str:
    if not result.refused:
        return ""
    return f"{len(result.refused)} layers cannot be left out of this model. {next(iter(result.refused.values()))}"


STUDIES: tuple[Study, ...] = (
    Study(
        "delete-each", "Deleting each layer",
        "Each layer is left out once: the share of top-1 predictions that stay the same, mean over the middle layers, or how "
        "much more that is than without the first layer.",
        delete_each, {"figure": "middle", "texts": TEXTS, "layers_at_most": MOST_LAYERS},
    ),
)  # fmt: skip
