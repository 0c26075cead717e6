"""One number for how much of its depth a model uses: effective depth (Hu, Zhou and Zhang, arXiv 2512.14064).

The paper takes several signs of where a model stops working something out and begins to sharpen it (after Csordás,
Manning and Potts, arXiv 2505.13898). Three of them give a number of layers; the thresholds are those of the code that
comes with the paper (its third notebook), and l + 1 of n layers are the effective ones:

- `kl`: the first layer l at whose input the logit lens is nearer to the model's output than half of the farthest layer's:
  KL(lens || output) below 0.5 of its largest mean over layers.
- `overlap`: the first layer l at whose input the five likeliest tokens of lens and output have more than 0.3 in common.
- `cosine`: the last layer l at which what is added turns from against the stream to along it: the mean cosine of what
  attention, MLP and the whole layer add with what they are added to is below 0 at l and not at l + 1.

Where no layer before the last is near enough, all n count, where the paper's code gives none; where cosines never turn
there is no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from surgery_core.errors import AnatomyError, SettingsError
from surgery_core.lenses.reading import LogitLens, lens_window, read_lens
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.states.residuals import residuals
from surgery_core.statistics.units import Array
from surgery_core.stopping import looking
from surgery_core.studies.finding import Figure, Finding, Picture
from surgery_core.studies.ratios import resampled_figure
from surgery_core.studies.study import Study, StudySetup
from surgery_core.surgery.anatomy import device_of, find_layers
from surgery_core.text import Text, as_texts, encode

TOP = 5
KL_SHARE = 0.5
OVERLAP = 0.3

SIGNS = {
    "kl": "KL(lens || output), of the largest",
    "overlap": "Top-5 shared with the output",
    "cosine": "Cosine of what is added with the stream",
}
"""What the effective depth can be read from, and what the picture calls it."""


@dataclass(frozen=True, eq=False)
class _Signs:
    """Sums over the tokens of each text, `[n_texts, n_layers]`, and the tokens `[n_texts]`."""

    kl: Array
    overlap: Array
    cosine: Array
    tokens: Array

    def means(self, sign: str, texts: Array) -> Array:
        """Return the mean a token by layer over some texts, of which some may be there several times."""
        found: Array = getattr(self, sign)[texts].sum(0) / self.tokens[texts].sum()
        return found


def _run(setup: StudySetup) -> Finding:
    """Read all three signs; the figure is the share of the layers that is effective by the one that was asked for.

    Its interval is the bootstrap's over texts: a first crossing jumps, so it has no linearised interval.

    Raises:
        SettingsError: for an unknown sign.
    """
    by = str(setup.options["by"])
    if by not in SIGNS:
        raise SettingsError(f"Effective depth cannot be read from {by!r}; give one of {', '.join(SIGNS)}.")
    signs, note = _read(setup)
    n = signs.kl.shape[1]
    shares = {sign: _share(signs, sign, setup.seed) for sign in SIGNS}
    figure = shares.pop(by)
    layers = Figure(
        f"Effective layers of {n}, by {by}", figure.value * n, figure.low * n, figure.high * n, figure.n_units
    )
    return Finding(
        figure=figure,
        others=(layers, *shares.values()),
        frame=_frame(signs),
        picture=Picture(
            "lines",
            "layer",
            "value",
            series="sign",
            x_title="What enters layer (of cosines: the layer)",
            y_title="Mean",
        ),
        note=note,
    )


def effective_depth(sign: str, means: Array) -> int:
    """Return how many layers are effective by a sign's means `[n_layers]`, 1 to n; 0 where there is no number."""
    n = len(means)
    if np.isnan(means).any():
        return 0
    if sign == "cosine":
        turns = [layer for layer in range(n - 1) if means[layer] < 0 <= means[layer + 1]]
        return turns[-1] + 1 if turns else 0
    reached = means < KL_SHARE * means.max() if sign == "kl" else means > OVERLAP
    first = np.flatnonzero(reached[: n - 1])
    return int(first[0]) + 1 if len(first) else n


def _share(signs: _Signs, sign: str, seed: int) -> Figure:
    n = signs.kl.shape[1]

    def value_of(texts: Array) -> float:
        return effective_depth(sign, signs.means(sign, texts)) / n or math.nan

    return resampled_figure(f"Effective depth by {sign}", value_of, len(signs.tokens), seed, percent=True)


def _read(setup: StudySetup) -> tuple[_Signs, str]:
    """Return the signs of all texts, and a note."""
    lens, n = LogitLens(setup.model), len(find_layers(setup.model)[1])
    most: Any = setup.options["tokens"]
    texts = as_texts(setup.texts)
    kl, overlap, cosine = (np.zeros((len(texts), n)) for _ in range(3))
    tokens, note = np.zeros(len(texts)), ""
    for number, text in enumerate(texts):
        read = read_lens(lens, setup.model, setup.tokenizer, text, top_k=TOP, max_tokens=max(2, most), stop=setup.stop)
        tokens[number] = len(read.tokens)
        kl[number] = read.statistics["kl_reverse"][:n].sum(1)
        overlap[number] = _overlap(read)[:n].sum(1)
        cosine[number], note = _cosines(setup, text, max(2, most))
        if setup.on_progress is not None:
            setup.on_progress(number + 1, len(texts))
    return _Signs(kl, overlap, cosine, tokens), note


def _overlap(read: Trajectory) -> Array:
    """Return the share of the likeliest tokens that every cell has in common with the output, `[rows, seq]`."""
    same = read.top_ids[:, :, :, None] == read.top_ids[-1][None, :, None, :]
    found: Array = same.any(-1).mean(-1)
    return np.where(np.isnan(read.top_probabilities[:, :, 0]), np.nan, found)


def _cosines(setup: StudySetup, text: Text, most: int) -> tuple[Array, str]:
    """Return the cosines summed over a text's tokens, by layer, and a note where layers have no point inside."""
    ids, _ = lens_window(setup.model, encode(setup.tokenizer, text), 0, most)
    inputs, look = torch.tensor([ids], device=device_of(setup.model)), looking(setup.stop)
    try:
        return _of_parts(setup.model, inputs, look), ""
    except AnatomyError as error:
        stream = residuals(setup.model, inputs, look=look).states
        return _cosine(stream[:-1], stream[1:]), f"Cosines are those of whole layers: {error}"


def _of_parts(model: nn.Module, inputs: torch.Tensor, look: Callable[[], None]) -> Array:
    stream = residuals(model, inputs, sublayers=True, look=look).states
    entering, middle, leaving = stream[:-1:2], stream[1::2], stream[2::2]
    parts = (_cosine(entering, middle), _cosine(middle, leaving), _cosine(entering, leaving))
    found: Array = np.mean(parts, axis=0)
    return found


def _cosine(before: torch.Tensor, after: torch.Tensor) -> Array:
    """Return the cosine of what was added with what it was added to, `[layers, seq, d_model]`, summed over tokens."""
    found = nn.functional.cosine_similarity((after.float() - before.float()), before.float(), dim=-1)
    # float64 only once it is on the CPU: Apple's GPU has none
    return found.cpu().double().sum(1).numpy()


def _frame(signs: _Signs) -> pd.DataFrame:
    """Return one line a layer and sign: layer, sign, value."""
    every, lines = np.arange(len(signs.tokens)), []
    for sign, title in SIGNS.items():
        means = signs.means(sign, every)
        if sign == "kl" and means.max() > 0:
            means = means / means.max()
        lines += [(layer, title, float(mean)) for layer, mean in enumerate(means)]
    return pd.DataFrame(lines, columns=["layer", "sign", "value"])


EFFECTIVE_DEPTH = Study(
    "effective-depth",
    "Effective depth",
    "Finds the layer from which on a model only sharpens what it has; the figure is the share of its layers up to there.",
    _run,
    {"by": "kl", "tokens": 128},
)
