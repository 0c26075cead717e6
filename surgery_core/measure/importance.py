"""How much each layer does to the residual stream, from one run over the texts and without any surgery.

Block Influence is 1 - E[cos(x_i, x_i+1)] over all tokens (Men et al., "ShortGPT", arXiv 2403.03853, equation 1).
The angular distance of a block is arccos(cos(x_l, x_l+n)) / pi at a text's last token, averaged over texts (Gromov
et al., "The Unreasonable Ineffectiveness of the Deeper Layers", arXiv 2403.17887, section on layer pruning).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from surgery_core.measure.encoding import Encoded, encode_texts
from surgery_core.states.residuals import residuals
from surgery_core.states.windows import Window, windows_of
from surgery_core.stopping import Progress, looking
from surgery_core.surgery.anatomy import device_of
from surgery_core.text import TextsLike

Array = np.ndarray[Any, np.dtype[np.float64]]

TOKENS = 256
"""Tokens whose states are compared at once, in float64."""


@dataclass(frozen=True, eq=False)
class Importance:
    """What the layers of a model do to its residual stream.

    Attributes:
        labels: of the slots, in order; n of them.
        block_influence: `[n]`, 0 (changes no direction) to 2.
        contribution_norm: `[n]`, mean length of what the slot adds.
        angular: `[n, n]`, 0 to 1; entry `[l, k]` is the distance between what enters slot `l` and what enters
            slot `l + k + 1` (what leaves the last slot, at the end): a block of `k + 1` slots. NaN beyond the end.
        similarity: `[n + 1, n + 1]`, mean cosine similarity of the residual stream at two places, -1 to 1; row 0 is
            the input, row `i` what leaves slot `i - 1`.
        n_tokens: how many tokens the means are over.
        n_texts: how many last tokens the angular distances are over.
        read: windows of the texts that were read.
        windows: all of them; more than `read` where the reading was broken off. Both are 0 in files of version 0.1.
    """

    labels: tuple[str, ...]
    block_influence: Array
    contribution_norm: Array
    angular: Array
    similarity: Array
    n_tokens: int
    n_texts: int
    read: int = 0
    windows: int = 0

    def frame(self) -> pd.DataFrame:
        """Return one line a layer: position, layer, block_influence, contribution_norm, angular_distance."""
        columns = {
            "position": np.arange(len(self.labels)),
            "layer": list(self.labels),
            "block_influence": self.block_influence,
            "contribution_norm": self.contribution_norm,
            "angular_distance": self.angular[:, 0] if len(self.labels) else np.zeros(0),
        }
        return pd.DataFrame(columns)

    def blocks(self) -> pd.DataFrame:
        """Return one line a block: start, length, angular_distance."""
        n = len(self.labels)
        found = [
            (start, length, self.angular[start, length - 1]) for start in range(n) for length in range(1, n - start + 1)
        ]
        return pd.DataFrame(found, columns=["start", "length", "angular_distance"])

    def similarities(self) -> pd.DataFrame:
        """Return one line a pair of places in the residual stream: row, column, cosine."""
        names = ["input", *self.labels]
        rows, columns = np.meshgrid(names, names, indexing="ij")
        return pd.DataFrame({"row": rows.ravel(), "column": columns.ravel(), "cosine": self.similarity.ravel()})


@dataclass(frozen=True, eq=False)
class Reading:
    """What was read of some texts so far: sums over tokens and texts, in float64, from which the reading goes on exactly.

    Attributes:
        labels: of the slots, in order; n of them.
        cosines: `[n + 1, n + 1]`, of the residual stream at two places.
        norms: `[n]`, lengths of what each slot adds.
        angles: `[n + 1, n + 1]`, over last tokens, as shares of π.
        n_tokens: in the sums.
        n_texts: whose last tokens are.
        read: windows that were read.
        windows: all of them.
    """

    labels: tuple[str, ...]
    cosines: Array
    norms: Array
    angles: Array
    n_tokens: int
    n_texts: int
    read: int
    windows: int

    def result(self) -> Importance:
        """Return the means of what was read."""
        n = len(self.labels)
        similarity = self.cosines / self.n_tokens
        angles = self.angles / self.n_texts if self.n_texts else np.full((n + 1, n + 1), np.nan)
        angular = np.full((n, n), np.nan)
        for start in range(n):
            angular[start, : n - start] = angles[start, start + 1 :]
        influence = 1 - np.array([similarity[at, at + 1] for at in range(n)])
        norms = self.norms / self.n_tokens
        return Importance(
            self.labels, influence, norms, angular, similarity, self.n_tokens, self.n_texts, self.read, self.windows
        )


def importance(
    model: nn.Module,
    tokenizer: Any,
    texts: TextsLike | Encoded,
    *,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> Importance:
    """Run a model once over texts and say how much each of its layers does.

    Args:
        model: a causal language model, or a view of one.
        tokenizer: its tokenizer.
        texts: what is read; one longer than the context in windows, each token once.
        stop: when set, the work ends with `Stopped`.
        on_progress: called with (windows done, windows in all).

    Raises:
        TextError: when there is no text, or one of fewer than two tokens.
        Stopped: when `stop` was set.
    """
    encoded = texts if isinstance(texts, Encoded) else encode_texts(model, tokenizer, texts)
    for reading in read_on(model, encoded, stop=stop):
        if on_progress is not None:
            on_progress(reading.read, reading.windows)
    return reading.result()


def read_on(
    model: nn.Module, encoded: Encoded, before: Reading | None = None, stop: threading.Event | None = None
) -> Iterator[Reading]:
    """Read texts window by window, and yield after each what was read so far.

    Args:
        model: a causal language model, or a view of one.
        encoded: the texts, at least one.
        before: what was read of the same texts under the same model; the reading goes on behind it, and what it comes
            to is exactly what it would have come to at once.
        stop: when set, the work ends with `Stopped`.

    Raises:
        Stopped: when `stop` was set.
    """
    windows = [
        window
        for text, ids in enumerate(encoded.ids)
        for window in windows_of(text, ids, encoded.context, encoded.stride)
    ]
    last = {window.text: window for window in windows}
    sums, look = _Sums(before), looking(stop, "Stopped before all texts were read.")
    for read, window in enumerate(windows[sums.read :], sums.read + 1):
        look()
        sums.add(model, window, is_last=last[window.text] is window, look=look)
        yield sums.reading(read, len(windows))


def rank_correlation(left: Sequence[float] | Array, right: Sequence[float] | Array) -> float:
    """Return Spearman's rank correlation, -1 to 1, ties sharing their mean rank; NaN where one side is constant.

    Places where either side is NaN are left out.
    """
    pairs = pd.DataFrame({"left": np.asarray(left, float), "right": np.asarray(right, float)}).dropna().rank()
    if len(pairs) < 2 or pairs.nunique().min() < 2:
        return float("nan")
    return float(np.corrcoef(pairs["left"], pairs["right"])[0, 1])


class _Sums:
    """Sums over tokens and texts, in float64.

    Args:
        before: what they begin with.
    """

    def __init__(self, before: Reading | None) -> None:
        self.labels: tuple[str, ...] = ()
        self.cosines: Any = 0.0
        self.norms: Any = 0.0
        self.angles: Any = 0.0
        self.n_tokens = self.n_texts = self.read = 0
        if before is not None:
            self.cosines, self.norms, self.angles = before.cosines, before.norms, before.angles
            self.n_tokens, self.n_texts, self.read = before.n_tokens, before.n_texts, before.read

    def add(self, model: nn.Module, window: Window, *, is_last: bool, look: Callable[[], None]) -> None:
        """Add a window's tokens, each once, and its last token's angles where the text ends there."""
        stream = residuals(model, torch.tensor([window.ids], device=device_of(model)), look=look)
        # a window's tokens before these were read in the window before
        fresh = 0 if window.begin == 0 else window.first - window.begin
        self.labels = stream.labels[1:]
        units = torch.zeros(0)
        for some in stream.states[:, fresh:].split(TOKENS, dim=1):  # type: ignore[no-untyped-call]
            look()
            # float64 only once it is on the CPU: Apple's GPU has none
            states = some.cpu().double()
            units = nn.functional.normalize(states, dim=-1)
            # new arrays each time: readings that were handed out stay as they are
            self.cosines = self.cosines + torch.einsum("itd,jtd->ij", units, units).numpy()
            self.norms = self.norms + (states[1:] - states[:-1]).norm(dim=-1).sum(1).numpy()
            self.n_tokens += states.shape[1]
        if is_last:
            end = units[:, -1]
            self.angles = self.angles + (torch.arccos((end @ end.T).clamp(-1, 1)) / torch.pi).numpy()
            self.n_texts += 1

    def reading(self, read: int, windows: int) -> Reading:
        """Return what was added so far."""
        angles = self.angles if self.n_texts else np.zeros_like(self.cosines)
        return Reading(self.labels, self.cosines, self.norms, angles, self.n_tokens, self.n_texts, read, windows)
