"""Fit a Jacobian lens: the mean over texts of what `jacobian_rows` reads of each."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from surgery_core.errors import LensError, SettingsError, Stopped, TextError
from surgery_core.lenses.jacobian import JacobianLens, Jacobians
from surgery_core.lenses.jacobian_rows import TextJacobians
from surgery_core.lenses.jacobian_state import FitState, identity_of, read_state, write_state
from surgery_core.lenses.translating import check_one_stream, unembed_hash
from surgery_core.states.finite import broken_weights, not_finite
from surgery_core.states.windows import Batch
from surgery_core.stopping import looking
from surgery_core.surgery.anatomy import base_of, context_length, is_quantised, plan_of, root_of
from surgery_core.text import Text, TextsLike, as_texts, encode

Read = Callable[[Sequence[list[int]], tuple[int, ...], int, int], Iterator[torch.Tensor]]
SKIPPED = 16
"""Positions at the beginning of a text that are left out: attention rests on them whatever they say."""
TOKENS = 128
"""Tokens of a text that are read at most."""


@dataclass(frozen=True)
class JacobianFit:
    """How to fit a Jacobian lens; by default as the reference does, with the stopping rule of Neuronpedia's collection.

    Attributes:
        tokens: of a text at most, at least 3 more than `skip`.
        cut: whether a longer text is cut into pieces of so many tokens, each of which counts as a text; else only its
            beginning is read.
        skip: positions at the beginning that are left out.
        layers: whose output gets a matrix, counted as indices are; None for every one below the target.
        target: the layer into whose basis states are carried. -2 is for a model whose last layer rescales.
        least: texts before which the fit does not end by itself.
        tolerance: the fit ends when the mean changes by less than this share of its norm with a text, averaged over
            layers and the last ten texts; with 0 all texts are read.
    """

    tokens: int = TOKENS
    cut: bool = False
    skip: int = SKIPPED
    layers: tuple[int, ...] | None = None
    target: int = -1
    least: int = 100
    tolerance: float = 2e-3

    def __post_init__(self) -> None:
        if self.skip < 1 or self.tokens < self.skip + 3:
            raise SettingsError(
                f"Texts of {self.tokens} tokens of which {self.skip} are skipped cannot be fitted on; skip at least 1, and "
                "give at least 3 tokens more than are skipped."
            )
        if self.least < 1 or not 0 <= self.tolerance < 1:
            raise SettingsError(
                f"A fit cannot end after {self.least} texts with a change of {self.tolerance}; give at least 1 text and a "
                "tolerance from 0 to below 1."
            )

    def resolved(self, n_layers: int) -> tuple[tuple[int, ...], int]:
        """Return the layers with a matrix, rising, and the target, of a model of this depth.

        Raises:
            SettingsError: when there is no such layer, or one is not below the target.
        """
        target = self.target + n_layers * (self.target < 0)
        wanted = range(target) if self.layers is None else self.layers
        layers = tuple(sorted({layer + n_layers * (layer < 0) for layer in wanted}))
        if not 0 < target < n_layers:
            raise SettingsError(f"The target is layer {self.target}; it must be from 1 to {n_layers - 1}.")
        if not layers or layers[0] < 0 or layers[-1] >= target:
            raise SettingsError(
                f"The layers {list(wanted)} cannot be fitted: give some from 0 to {target - 1}, below the target {target}."
            )
        return layers, target


@dataclass(frozen=True)
class FitProgress:
    """Where a fit stands.

    Attributes:
        text: texts done, of `texts`.
        texts: how many there are; the fit may end earlier.
        change: by how much of its norm the mean changed with a text, averaged over layers and the last ten texts; NaN
            after the first.
        seconds_left: an estimate, to the stopping rule or to the end of the texts.
        short: titles of texts that are too short to be fitted on.
    """

    text: int
    texts: int
    change: float
    seconds_left: float
    short: tuple[str, ...] = ()


def fit_jacobian_lens(
    model: nn.Module,
    tokenizer: Any,
    texts: TextsLike,
    settings: JacobianFit | None = None,
    *,
    name: str = "",
    state: str | Path | None = None,
    on_progress: Callable[[FitProgress], None] | None = None,
    stop: threading.Event | None = None,
) -> JacobianLens:
    """Fit the Jacobian lens of a model, or of an operated one.

    `lens.jacobians[l]` is `[d_model, d_model]`: the mean over texts of the Jacobian of what leaves the last layer by what
    leaves layer l, as `jacobian_rows` defines it. The same texts and settings give the same lens.

    Memory beyond the model's: three sets of matrices in float32 (4 * layers * d_model^2 bytes each); and for each of
    torch's threads the graph of one text of at most `settings.tokens`, and 1 MB (64 MB on a GPU) of gradients a layer.

    Args:
        model: a causal language model or a view of one; it is not changed. On a view the matrices belong to its slots,
            and the lens reads that plan only.
        tokenizer: its tokenizer.
        texts: what to fit on; a hundred at least for the default rule.
        settings: lengths, layers and when to end.
        name: of the model, kept with the lens.
        state: a file that keeps the mean after every text. A fit that was killed goes on from there with the same texts
            and settings, and what it did on the text at hand is all that is lost.
        on_progress: called after each text.
        stop: when set, the fit ends within one pass, and the mean so far is returned.

    Raises:
        LensError: when the model is quantised, cannot be differentiated, or its states are no numbers.
        TextError: when no text is long enough.
        SettingsError: when a layer does not exist, or the state is of another fit.
        Stopped: when `stop` was set before the first text was done.
    """
    return JacobianLens(
        model, fit_jacobians(model, tokenizer, texts, settings, name=name, state=state, on_progress=on_progress, stop=stop)
    )  # fmt: skip


def fit_jacobians(
    model: nn.Module,
    tokenizer: Any,
    texts: TextsLike,
    settings: JacobianFit | None = None,
    *,
    name: str = "",
    state: str | Path | None = None,
    on_progress: Callable[[FitProgress], None] | None = None,
    stop: threading.Event | None = None,
    read: Read | None = None,
) -> Jacobians:
    """Return what `fit_jacobian_lens` fits, without the model; arguments and errors as there.

    `read` yields the Jacobians of texts in their order, given the texts' tokens, the layers, the target and how many
    positions are skipped; by default they are read here, one after the other.
    """
    settings = settings or JacobianFit()
    layers, target = settings.resolved(_check(model))
    pieces, short = _pieces(model, tokenizer, as_texts(texts), settings)
    identity = identity_of(model, pieces, layers, target, settings.skip)
    fit = _Fit(model, layers, target, settings, read_state(state, identity) if state is not None else FitState.empty())
    fit.look = looking(stop, "Stopped before the first text was done.")
    began, before = time.perf_counter(), fit.now.texts
    found = (read or fit.read)(pieces[before:], layers, target, settings.skip)
    for ids in pieces[before:]:
        if fit.settled or (stop is not None and stop.is_set() and fit.now.texts):
            break
        try:
            fit.add(next(found), ids)
        except Stopped:
            if not fit.now.texts:
                raise
            break
        if state is not None:
            write_state(state, identity, fit.now)
        if on_progress is not None:
            each = (time.perf_counter() - began) / (fit.now.texts - before)
            left = each * (fit.expected(len(pieces)) - fit.now.texts)
            on_progress(FitProgress(fit.now.texts, len(pieces), fit.now.change, left, short))
    return fit.result(name)


class _Fit:
    """The running mean of texts' Jacobians, and when it is settled."""

    def __init__(
        self, model: nn.Module, layers: tuple[int, ...], target: int, settings: JacobianFit, now: FitState
    ) -> None:
        self.model, self.layers, self.target, self.settings, self.now = model, layers, target, settings, now
        self.look: Callable[[], None] = lambda: None

    @property
    def settled(self) -> bool:
        """Whether the mean changes no more."""
        return self.now.texts >= self.settings.least and self.now.change < self.settings.tolerance

    def read(
        self, pieces: Sequence[list[int]], layers: tuple[int, ...], target: int, skip: int
    ) -> Iterator[torch.Tensor]:  # fmt: skip
        """Yield the Jacobians of texts, each when it is asked for."""
        reader = TextJacobians(self.model, layers, target, skip, lambda: self.look())
        return map(reader.read, pieces)

    def add(self, found: torch.Tensor, ids: Sequence[int]) -> None:
        """Take one text's Jacobians into the mean."""
        if not bool(found.isfinite().all()):
            raise LensError(f"Nothing can be fitted to states that are no numbers. {_why(self.model, ids)}".strip())
        self.now = self.now.with_one_more(found)

    def expected(self, texts: int) -> int:
        """Return how many texts will have been read at the end: a mean over n texts changes by about c / n with one."""
        if not self.settings.tolerance or math.isnan(self.now.change):
            return texts
        needed = math.ceil(self.now.texts * self.now.change / self.settings.tolerance)
        return min(texts, max(self.settings.least, self.now.texts, needed))

    def result(self, name: str) -> Jacobians:
        """Return the mean."""
        return Jacobians(
            matrices=dict(zip(self.layers, self.now.mean.clone(), strict=True)),
            n_texts=self.now.texts,
            target=self.target,
            n_layers=len(plan_of(self.model)),
            base_model=name,
            unembed_hash=unembed_hash(root_of(self.model)),
            plan="" if base_of(self.model) is None else str(plan_of(self.model)),
            change=self.now.change,
        )


def _check(model: nn.Module) -> int:
    """Refuse a model that cannot be fitted on; return how many slots it has."""
    check_one_stream(model, "Jacobian lens")
    if is_quantised(model):
        raise LensError(
            "The model is quantised, and packed weights hand on no gradients; open the one that is not, and fit on that."
        )
    if broken := broken_weights(model):
        raise LensError(f"Nothing can be fitted to states that are no numbers. {broken}")
    if (deep := len(plan_of(model))) < 2:
        raise LensError(f"The model has {deep} layers; a Jacobian lens needs one before the last.")
    return deep


def _pieces(
    model: nn.Module, tokenizer: Any, texts: Sequence[Text], settings: JacobianFit
) -> tuple[list[list[int]], tuple[str, ...]]:
    """Return the tokens that are read, and the titles of texts that are too short."""
    size = min(settings.tokens, context_length(model) or settings.tokens)
    least = settings.skip + 2
    pieces, short = [], []
    for text in texts:
        found = list(_cut(encode(tokenizer, text), size, settings.cut))
        whole = [piece for piece in found if len(piece) >= least]
        pieces += whole
        short += [] if whole else [text.title]
    if not pieces:
        raise TextError(
            f"No text has {least} tokens, which a fit needs at least ({', '.join(map(repr, short[:3])) or 'there is none'}); "
            "give longer ones."
        )
    return pieces, tuple(short)


def _cut(ids: list[int], size: int, several: bool) -> Iterator[list[int]]:
    for at in range(0, len(ids) if several else 1, size):
        yield ids[at : at + size]


def _why(model: nn.Module, ids: Sequence[int]) -> str:
    tokens, nothing = (
        torch.tensor([list(ids)], device=next(model.parameters()).device),
        torch.zeros(0, dtype=torch.long),
    )
    return not_finite(model, Batch(tokens, torch.ones_like(tokens), nothing, nothing, nothing, nothing, nothing))
