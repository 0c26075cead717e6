"""The curse of depth: variance that grows with depth, and deep layers that matter little (Sun et al., arXiv 2502.05795).

The paper says that in models with norms before their halves the variance of the residual stream grows with depth, so that
deep layers come near the identity. The variance at a depth is here that of a token's state over its d_model values,
averaged over tokens; a text's first token is left out, whose state often is hundreds of times as long as any other's.
Damage is the rise of the loss without a layer. That definition of variance is ours: the paper speaks of random inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from surgery_core.errors import SettingsError
from surgery_core.measure.importance import rank_correlation
from surgery_core.states.residuals import residuals
from surgery_core.statistics.units import Array
from surgery_core.stopping import looking
from surgery_core.studies.finding import Figure, Finding, Picture
from surgery_core.studies.layer_orders import LossTable, shortened
from surgery_core.studies.ratios import nothing, ratio_figure, resampled_figure
from surgery_core.studies.study import Study, StudySetup
from surgery_core.surgery.anatomy import device_of

CLAIMS = ("variance", "damage")


def _run(setup: StudySetup) -> Finding:
    """Measure variance and damage by layer.

    The figure is, as the option `claim` has it, either the variance of what leaves the last layer over that at a quarter of
    the depth, or the mean damage of the layers of the second half without the last one over that of the first half without
    the first one: both ends are special in every model. Intervals are over texts.

    Raises:
        SettingsError: for an unknown claim.
    """
    options: Any = setup.options
    if options["claim"] not in CLAIMS:
        raise SettingsError(f"The figure cannot be about {options['claim']!r}; give one of {', '.join(CLAIMS)}.")
    texts = shortened(setup.tokenizer, setup.texts, max(3, options["tokens"]))
    table = LossTable(setup.model, setup.tokenizer, texts, setup.stop)
    n, done = len(table.base), 0

    def told(steps: int = 1) -> None:
        nonlocal done
        done += steps
        if setup.on_progress is not None:
            setup.on_progress(done, len(texts) + n)

    variance, counts = _variances(setup, table, told)
    damage = table.nats([(), *((layer,) for layer in range(n))])
    told(n)
    damage = (damage[1:] - damage[0]).T
    growth = _growth(variance, n)
    halves = _halves(damage, n)
    figures = {"variance": growth, "damage": halves}
    claimed = figures.pop(options["claim"])
    means, hurt = variance.sum(0) / counts.sum(), damage.sum(0) / table.tokens.sum()
    return Finding(
        figure=claimed,
        others=(*figures.values(), *_correlations(setup, variance, damage)),
        frame=_frame(means, hurt),
        picture=Picture(
            "lines", "layer", "value", series="measure", x_title="Layer", y_title="Share of the largest",
        ),
    )  # fmt: skip


def _variances(setup: StudySetup, table: LossTable, told: Callable[[], None]) -> tuple[Array, Array]:
    """Return each text's summed variance by depth, `[n_texts, n_layers + 1]`, and its tokens without the first."""
    look, sums, counts = looking(setup.stop), [], []
    for ids in table.encoded.ids:
        inputs = torch.tensor([ids[: table.encoded.context]], device=device_of(setup.model))
        states = residuals(setup.model, inputs, look=look).states[:, 1:].float()
        # float64 only once it is on the CPU: Apple's GPU has none
        sums.append(states.var(dim=-1, correction=0).cpu().double().sum(1).numpy())
        counts.append(states.shape[1])
        told()
    return np.stack(sums), np.array(counts)


def _growth(variance: Array, n: int) -> Figure:
    return ratio_figure("Variance at the end, of that at a quarter of the depth", variance[:, n], variance[:, n // 4])


def _halves(damage: Array, n: int) -> Figure:
    name = "Damage of the second half's layers, of that of the first half's"
    if n < 4:
        return nothing(name, len(damage))
    return ratio_figure(name, damage[:, n // 2 : n - 1].mean(1), damage[:, 1 : n // 2].mean(1))


def _correlations(setup: StudySetup, variance: Array, damage: Array) -> tuple[Figure, Figure]:
    """Return how depth and variance, and variance and damage, go together over layers, resampled over texts."""
    depth = np.arange(variance.shape[1])

    def grows(texts: Array) -> float:
        return _correlation(depth, variance[texts].sum(0))

    def spares(texts: Array) -> float:
        return _correlation(variance[texts].sum(0)[:-1], damage[texts].sum(0))

    return (
        resampled_figure("Rank correlation of depth and variance", grows, len(variance), setup.seed),
        resampled_figure("Rank correlation of variance and damage", spares, len(variance), setup.seed),
    )


def _correlation(one: Array, other: Array) -> float:
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return math.nan
    return rank_correlation(one, other)


def _frame(variance: Array, damage: Array) -> pd.DataFrame:
    """Return one line a layer and measure: layer, measure, value (a share of the largest), nats or variance itself."""
    measures = {"Variance of what enters it": variance[:-1], "Rise of the loss without it": damage}
    lines = [
        (layer, title, float(value / values.max()) if values.max() > 0 else math.nan, float(value))
        for title, values in measures.items()
        for layer, value in enumerate(values)
    ]
    return pd.DataFrame(lines, columns=["layer", "measure", "value", "raw"])


CURSE = Study(
    "curse-of-depth",
    "The curse of depth",
    "Measures how the residual stream's variance grows with depth, beside what each layer's removal costs; the figure is the "
    "growth, or what deep layers cost against others.",
    _run,
    {"claim": "variance", "tokens": 128},
)
