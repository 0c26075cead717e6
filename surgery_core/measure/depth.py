"""How much later layers change what they add when one layer is skipped, and how much each layer adds at all.

What layer l adds at a token is its contribution, d_l = h_l+1 - h_l. With layer s skipped it adds d'_l, and the relative
change is ||d'_l - d_l|| / ||d_l|| (Csordás, Manning and Potts, "Do Language Models Use Their Depth Efficiently?", arXiv
2505.13898, the section on layers' effects on later ones). The paper's map has the largest change over tokens and prompts;
a mean has an interval, so both are kept here, text by text. The paper leaves the first token of a prompt as it was; here
a skipped layer is skipped for every token, as in a plan.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from surgery_core.errors import PlanError
from surgery_core.measure.encoding import encode_texts
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.beginnings_check import cannot_start_in_the_middle
from surgery_core.states.residuals import residuals
from surgery_core.states.shared_beginnings import SharedRuns
from surgery_core.states.windows import Batch, Window, batches_of
from surgery_core.statistics.units import Array
from surgery_core.stopping import Progress, looking
from surgery_core.surgery.anatomy import device_of, find_layers
from surgery_core.surgery.ingredients import Ingredients
from surgery_core.surgery.stream_form import stream_of
from surgery_core.surgery.view import check_operable, operate
from surgery_core.text import TextsLike

HELD_BYTES = 2**29
"""Bytes of the base's states that are held at once (512 MB), as long as one text does not need more."""

LEAST_NORM = 1e-6
"""Smallest length of a contribution that is divided by, as in the paper's code."""

TOKENS = 256
"""Tokens of a text that are read by default: every layer's states of them are held at once."""


@dataclass(frozen=True, eq=False)
class LayerEffects:
    """What skipping layers changes in later ones, for the n layers of a model over some texts.

    Attributes:
        titles: of the texts.
        n_tokens: `[n_texts]`, over how many tokens of each the means are.
        change: `[n_texts, n, n]`, mean over a text's tokens of the relative change of layer l's contribution with layer s
            skipped, at `[text, s, l]`, at least 0; NaN up to l = s, and for a layer that this model cannot do without.
        largest: `[n_texts, n, n]`, the largest of a text's tokens.
        contribution: `[n_texts, n]`, mean of ||d_l|| / ||h_l||, at least 0.
        layer_runs: how often a layer was run over all texts of a batch, over all batches.
        note: why the model had to be run whole, and which layers cannot be skipped; empty where nothing is to be said.
    """

    titles: tuple[str, ...]
    n_tokens: Array
    change: Array
    largest: Array
    contribution: Array
    layer_runs: int
    note: str

    def frame(self) -> pd.DataFrame:
        """Return one line a pair: skipped, layer, change (mean over all tokens), largest."""
        weights = self.n_tokens / self.n_tokens.sum()
        means = np.einsum("t,tsl->sl", weights, self.change)
        pairs = [(s, later) for s in range(len(means)) for later in range(s + 1, len(means))]
        return pd.DataFrame(
            [(s, later, means[s, later], self.largest[:, s, later].max()) for s, later in pairs],
            columns=["skipped", "layer", "change", "largest"],
        )


def layer_effects(
    model: nn.Module,
    tokenizer: Any,
    texts: TextsLike,
    *,
    max_tokens: int = TOKENS,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> LayerEffects:
    """Skip each layer and say how that changes what the later ones add.

    The base runs once over every batch of texts, and of a model without layer s only the layers behind s; a model that
    cannot start in the middle is run whole.

    Args:
        model: the base; it is not changed.
        tokenizer: its tokenizer.
        texts: what is read.
        max_tokens: so many tokens of each text are read, from its beginning; at least 2.
        stop: when set, the work ends with `Stopped`.
        on_progress: called with (layers skipped, in all), over all batches.

    Raises:
        TextError: when there is no text, or one of fewer than two tokens.
        Stopped: when `stop` was set.
    """
    encoded = encode_texts(model, tokenizer, texts)
    windows = [Window(number, 0, ids[: min(max_tokens, encoded.context)], 1) for number, ids in enumerate(encoded.ids)]
    effects = _Effects(model, windows, stop)
    effects.run(on_progress)
    return effects.result(tuple(text.title for text in encoded.texts))


class _Effects:
    def __init__(self, model: nn.Module, windows: list[Window], stop: threading.Event | None) -> None:
        self.model, self.stop, self.look = model, stop, looking(stop)
        self.n = len(find_layers(model)[1])
        self.base = LayerPlan.identity(self.n)
        self.plans, refused = _skips(model, self.base)
        first = next(batches_of(windows[:1], device_of(model)))
        self.whole = cannot_start_in_the_middle(model, first, list(self.plans.values())) if self.plans else ""
        self.note = " ".join(filter(None, (self.whole, refused)))
        self.batches = list(_batches(model, windows, one_by_one=bool(self.whole)))
        shape = (len(windows), self.n, self.n)
        self.tokens = np.array([len(window.ids) - 1 for window in windows])
        self.change, self.largest = np.full(shape, np.nan), np.full(shape, np.nan)
        self.contribution = np.full(shape[:2], np.nan)
        self.layer_runs = 0

    def run(self, on_progress: Progress | None) -> None:
        """Read all batches."""
        done, most = 0, len(self.batches) * len(self.plans)

        def skipped() -> None:
            nonlocal done
            done += 1
            if on_progress is not None:
                on_progress(done, most)

        for batch in self.batches:
            reader = _BatchReader(self, batch)
            if self.whole:
                self._run_whole(batch, reader, skipped)
            else:
                self._run_shared(batch, reader, skipped)

    def result(self, titles: tuple[str, ...]) -> LayerEffects:
        """Return what was read."""
        return LayerEffects(
            titles, self.tokens, self.change, self.largest, self.contribution, self.layer_runs, self.note
        )

    def _run_shared(self, batch: Batch, reader: _BatchReader, skipped: Callable[[], None]) -> None:
        runs = SharedRuns(self.model, [batch], self.plans.values(), stop=self.stop, seen=reader.seen)
        for layer, plan in self.plans.items():
            reader.skipped = layer
            runs.hidden([plan], 0)
            runs.finish(plan)
            skipped()
        self.layer_runs += runs.runs

    def _run_whole(self, batch: Batch, reader: _BatchReader, skipped: Callable[[], None]) -> None:
        for layer, plan in ((-1, self.base), *self.plans.items()):
            reader.skipped = layer
            view = self.model if layer < 0 else operate(self.model, plan)
            for depth, state in enumerate(residuals(view, batch.input_ids, look=self.look).states):
                reader.seen(plan, 0, depth, state[None])
            self.layer_runs += len(plan)
            if layer >= 0:
                skipped()


class _BatchReader:
    """Takes the states of a batch as they come, and writes what they come to into the arrays of its texts.

    Attributes:
        skipped: the layer that is left out of the plan that runs, or -1 for the base.
    """

    def __init__(self, effects: _Effects, batch: Batch) -> None:
        self.effects, self.rows, self.columns = effects, batch.rows, batch.columns
        self.texts = batch.texts.numpy()
        self.skipped = -1
        self.states: list[torch.Tensor] = []
        self.before = torch.empty(0)

    def seen(self, plan: LayerPlan, number: int, depth: int, state: torch.Tensor) -> None:
        """Take the state behind `depth` slots of a plan."""
        tokens = state[self.rows.to(state.device), self.columns.to(state.device)]
        if self.skipped < 0:
            self._base(depth, tokens)
        elif depth >= self.skipped:
            self._after(depth, tokens)

    def _base(self, depth: int, tokens: torch.Tensor) -> None:
        self.states.append(tokens)
        if depth:
            entering = self.states[depth - 1]
            own = entering.to(tokens.device).float()
            relative = _length(tokens.float() - own) / _length(own).clamp_min(LEAST_NORM)
            means, _ = self._by_text(relative)
            self.effects.contribution[np.unique(self.texts), depth - 1] = means

    def _after(self, depth: int, tokens: torch.Tensor) -> None:
        """Compare what layer `depth` adds, which stands behind so many slots and one less where one is left out."""
        if depth > self.skipped:
            before = self.states[self.skipped] if depth - 1 == self.skipped else self.before
            added = tokens.float() - before.to(tokens.device).float()
            own = self._contribution(depth, tokens.device)
            changed = _length(added - own) / _length(own).clamp_min(LEAST_NORM)
            texts = np.unique(self.texts)
            means, largest = self._by_text(changed)
            self.effects.change[texts, self.skipped, depth] = means
            self.effects.largest[texts, self.skipped, depth] = largest
        self.before = tokens

    def _contribution(self, layer: int, device: torch.device) -> torch.Tensor:
        return self.states[layer + 1].to(device).float() - self.states[layer].to(device).float()

    def _by_text(self, values: torch.Tensor) -> tuple[Array, Array]:
        """Return the means and the largest of values `[tokens]` for each text, in the order of their numbers."""
        # float64 only once it is on the CPU: Apple's GPU has none
        found = values.cpu().double().numpy()
        parts = [found[self.texts == text] for text in np.unique(self.texts)]
        return np.array([part.mean() for part in parts]), np.array([part.max() for part in parts])


def _length(vectors: torch.Tensor) -> torch.Tensor:
    """Return the lengths `[tokens]` of vectors `[tokens, d_model]`."""
    # `Tensor.norm` warns on Apple's GPU
    found: torch.Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return found


def _skips(model: nn.Module, base: LayerPlan) -> tuple[dict[int, LayerPlan], str]:
    """Return the plans that leave out one layer each, but for the last, by that layer; and which are refused."""
    plans, refused = {}, []
    for layer in range(len(base) - 1):
        plan = base.delete(layer)
        try:
            check_operable(model, plan, Ingredients())
        except PlanError:
            refused.append(f"L{layer}")
        else:
            plans[layer] = plan
    return plans, f"This model cannot be run without {', '.join(refused)}." if refused else ""


def _batches(model: nn.Module, windows: list[Window], *, one_by_one: bool) -> Iterator[Batch]:
    """Yield batches whose states at every layer fit the memory that is meant for them."""
    token = (len(find_layers(model)[1]) + 1) * stream_of(model).width * 4
    group: list[Window] = []
    for window in sorted(windows, key=lambda window: -len(window.ids)):
        if group and (one_by_one or token * sum(len(one.ids) for one in (*group, window)) > HELD_BYTES):
            yield from batches_of(group, device_of(model))
            group = []
        group.append(window)
    yield from batches_of(group, device_of(model))
