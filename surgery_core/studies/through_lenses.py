"""What layers would say next: logit lens against tuned lens, and from where on a prediction stays.

Belrose et al., "Eliciting Latent Predictions from Transformers with the Tuned Lens" (arXiv 2303.08112, sections 3 and 5);
prediction depth is that of Baldock et al. (arXiv 2106.09647) with a lens in place of a classifier a layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from surgery_core.errors import SettingsError, TextError
from surgery_core.lenses.averages import lens_averages
from surgery_core.lenses.reading import Lens, LogitLens, read_lens
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.measure.importance import rank_correlation
from surgery_core.statistics.paired import estimates
from surgery_core.statistics.units import Array
from surgery_core.studies.finding import Finding, Picture, mean_figure
from surgery_core.studies.measuring import TEXTS, Steps, chosen_texts, n_layers_of, number, one_of
from surgery_core.studies.study import Study, StudySetup

LENSES = ("tuned", "logit")

NO_LENS = (
    "This model has no tuned lens here. Train one on the Lens page or with `model-surgery train-lens`, or open a model that "
    "has one, such as fable."
)


def logit_against_tuned(setup: StudySetup) -> Finding:
    """Measure how much nearer the tuned lens is to the model's output than the logit lens is.

    The figure is KL(final || logit lens) less KL(final || tuned lens) in bits a token, mean over what leaves each layer but
    the last, with a text as a unit.

    Raises:
        SettingsError: when there is no tuned lens; it says what to do.
        TextError, Stopped: as for `lens_averages`.
    """
    n_layers_of(setup, 2)
    texts = chosen_texts(setup)
    if setup.lens is None:
        raise SettingsError(NO_LENS)
    steps = Steps(setup, 2 * len(texts))
    sides = {
        name: _divergences(setup, lens, steps)
        for name, lens in (("logit", LogitLens(setup.model)), ("tuned", setup.lens))
    }
    logit, tuned = (side["kl"] for side in sides.values())
    sizes = sides["logit"]["tokens"]
    # the first row is what enters the first layer, and the last one is the output itself
    means = [rows[:, 1:-1].mean(1) for rows in (logit, tuned)]
    name = "KL from the output: logit lens less tuned lens, bits a token"
    others = tuple(
        mean_figure(f"KL from the output, {which} lens, bits a token", mean, sizes)
        for which, mean in zip(sides, means, strict=True)
    )
    frame = pd.concat([_lens_frame(which, side) for which, side in sides.items()], ignore_index=True)
    return Finding(mean_figure(name, means[0] - means[1], sizes), others, frame, _LENS_PICTURE)


def _divergences(setup: StudySetup, lens: Lens, steps: Steps) -> dict[str, Any]:
    """Return by text: `kl` `[texts, rows]` in bits a token, `tokens` `[texts]`, and the rows' labels."""
    table = lens_averages(
        lens, setup.model, setup.tokenizer, chosen_texts(setup), max_window=number(setup, "tokens", 2, 1_000_000),
        stop=setup.stop, on_progress=lambda done, of: steps.add(),
    )  # fmt: skip
    wide = table.pivot(index="text", columns="row", values="kl")
    first = table[table["text"] == table["text"].iloc[0]]
    tokens = table.groupby("text", sort=True)["tokens"].first().to_numpy(dtype=float)
    return {"kl": wide.to_numpy(dtype=float) / math.log(2), "tokens": tokens, "layers": list(first["layer"])}


def _lens_frame(which: str, side: dict[str, Any]) -> pd.DataFrame:
    found = estimates(side["kl"].T * side["tokens"], side["tokens"])
    columns = {"kl": found.value, "low": np.maximum(found.low, 0), "high": found.high}
    places = np.arange(len(side["layers"]))
    return pd.DataFrame({"row": places, "layer": side["layers"], "lens": f"{which} lens"} | columns)


_LENS_PICTURE = Picture(
    "lines",
    "row",
    "kl",
    series="lens",
    x_title="Layers run",
    y_title="KL from the output, bits a token",
    low="low",
    high="high",
)


def prediction_depth(setup: StudySetup) -> Finding:
    """Measure whether tokens that the model finds hard settle in later layers.

    A token's prediction depth is the number of layers that have run when the likeliest next token is what it stays to be.
    The figure is Spearman's rank correlation of depth with the model's loss on the token that really comes next, within each
    text, mean over the texts.

    Raises:
        SettingsError: when there is no tuned lens and the option `lens` asks for it.
        TextError, Stopped: as for `read_lens`.
    """
    n = n_layers_of(setup, 2)
    read = [depth_and_loss(one) for one in _reads(setup, _lens(setup))]
    # where all tokens settle at the same depth, there is nothing to be correlated
    pairs = [pair for pair in read if np.isnan(pair[0]).any() or len(set(pair[0])) > 1]
    if not pairs:
        raise TextError("In none of these texts do predictions settle at different depths. Choose longer texts.")
    correlations = np.array([rank_correlation(*pair) for pair in pairs])
    figure = mean_figure("Rank correlation of prediction depth with loss, within a text", correlations)
    sizes = np.array([len(depth) for depth, _ in pairs], dtype=float)
    shares = np.array([depth.mean() / n for depth, _ in pairs])
    others = (mean_figure("Mean prediction depth, share of the layers", shares, sizes, percent=True),)
    left = (
        f" {len(read) - len(pairs)} texts in which all tokens settle at one depth are left out."
        if len(read) > len(pairs)
        else ""
    )
    note = f"Read through the {setup.options['lens']} lens.{left}"
    return Finding(figure, others, _depth_frame(pairs), _DEPTH_PICTURE, note)


def depth_and_loss(read: Trajectory) -> tuple[Array, Array]:
    """Return the prediction depth and the model's loss in nats of every token of a text that has a next one.

    Where the model computes no numbers, both are NaN.
    """
    loss = read.statistics["cross_entropy"][-1, :-1].astype(float)
    depth = read.prediction_depth()[:-1].astype(float)
    return np.where(np.isnan(loss), np.nan, depth), loss


def _lens(setup: StudySetup) -> Lens:
    if one_of(setup, "lens", LENSES) == "logit":
        return LogitLens(setup.model)
    if setup.lens is None:
        raise SettingsError(f"{NO_LENS} The option lens = 'logit' does without.")
    lens: Lens = setup.lens
    return lens


def _reads(setup: StudySetup, lens: Lens) -> Iterator[Trajectory]:
    texts = chosen_texts(setup)
    steps = Steps(setup, len(texts))
    for text in texts:
        most = number(setup, "tokens", 2, 1_000_000)
        yield read_lens(lens, setup.model, setup.tokenizer, text, top_k=1, max_tokens=most, stop=setup.stop)
        steps.add()


def _depth_frame(pairs: list[tuple[Array, Array]]) -> pd.DataFrame:
    """Return the share of tokens that settle at each depth, and their mean loss."""
    depth, loss = (np.concatenate(column) for column in zip(*pairs, strict=True))
    known = ~np.isnan(depth)
    tokens = pd.DataFrame({"depth": depth[known].astype(int), "loss": loss[known]})
    found = tokens.groupby("depth")["loss"].agg(["mean", "size"]).reset_index()
    return pd.DataFrame({"depth": found["depth"], "share": found["size"] / max(1, len(tokens)), "loss": found["mean"]})


_DEPTH_PICTURE = Picture(
    "bars", "depth", "loss", x_title="Layers until the prediction stays", y_title="Loss, nats a token"
)

STUDIES: tuple[Study, ...] = (
    Study(
        "logit-against-tuned", "Logit lens against tuned lens",
        "Every layer is read through both lenses: how many bits a token the logit lens is farther from the model's output.",
        logit_against_tuned, {"texts": TEXTS, "tokens": 256},
    ),
    Study(
        "prediction-depth", "Where predictions settle",
        "From which layer on the likeliest next token stays what it is: rank correlation of that depth with the model's loss.",
        prediction_depth, {"lens": "tuned", "texts": TEXTS, "tokens": 256},
    ),
)  # fmt: skip
