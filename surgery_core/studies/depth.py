"""Do models use their depth? What skipping a layer changes in later ones (Csordás, Manning and Potts, arXiv 2505.13898)."""

from __future__ import annotations

import numpy as np

from surgery_core.measure.depth import LayerEffects, layer_effects
from surgery_core.statistics.units import Array
from surgery_core.studies.finding import Figure, Finding, Picture
from surgery_core.studies.ratios import nothing, ratio_figure
from surgery_core.studies.study import Study, StudySetup

HALVES = "effect on later layers, second half over first half"


def _run(setup: StudySetup) -> Finding:
    """Measure the map, and compare the two halves of the depth.

    The figure is the mean relative change of later layers' contributions with a layer of the second half skipped, over
    that with one of the first half skipped: below 1 where the second half matters less to what comes after it. Its
    interval is over texts.
    """
    found = layer_effects(
        setup.model,
        setup.tokenizer,
        setup.texts,
        max_tokens=int(setup.options["tokens"]),  # type: ignore[arg-type]
        stop=setup.stop,
        on_progress=setup.on_progress,
    )
    return Finding(
        figure=_halves(f"Mean {HALVES}", found, found.change),
        others=(
            _halves(f"Largest {HALVES}", found, found.largest),
            _contributions("What layers add, of the stream's length, second half over first half", found),
        ),
        frame=found.frame(),
        picture=Picture(
            "heat", "layer", "skipped", value="change",
            x_title="Effect on layer", y_title="Layer skipped", value_title="Relative change of what it adds",
        ),
        note=found.note,
    )  # fmt: skip


def _halves(name: str, found: LayerEffects, change: Array) -> Figure:
    """Return the mean over pairs (skipped, later) of the second half over that of the first, with a unit a text."""
    n = change.shape[1]
    pairs = [[_row(change, s) for s in half] for half in (range(n // 2), range(n // 2, n - 1))]
    if not all(pairs):
        return nothing(name, len(found.titles))
    first, second = (np.concatenate(half, axis=1) for half in pairs)
    known = [~np.isnan(half).all(0) for half in (first, second)]
    if not all(columns.any() for columns in known):
        return nothing(name, len(found.titles))
    first, second = (half[:, columns].mean(1) for half, columns in zip((first, second), known, strict=True))
    return ratio_figure(name, second * found.n_tokens, first * found.n_tokens)


def _row(change: Array, skipped: int) -> Array:
    """Return the changes `[n_texts, later]` behind a skipped layer."""
    return change[:, skipped, skipped + 1 :]


def _contributions(name: str, found: LayerEffects) -> Figure:
    half = found.contribution.shape[1] // 2
    if not half:
        return nothing(name, len(found.titles))
    first, second = found.contribution[:, :half].mean(1), found.contribution[:, half:].mean(1)
    return ratio_figure(name, second * found.n_tokens, first * found.n_tokens)


DEPTH = Study(
    "depth",
    "Do models use their depth?",
    "Skips each layer and measures how that changes what every later layer adds; the figure is the mean change behind "
    "layers of the second half over that behind layers of the first half.",
    _run,
    {"tokens": 256},
)
