"""Which layers go first, by several searches over the same texts, so that texts can be drawn anew.

What a search needs is kept text by text: losses of the plans that it tried, cosines and angles of the residual stream.
With other texts, or some of them twice, only plans that were not tried before are run.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from surgery_core.measure.encoding import encode_texts
from surgery_core.measure.importance import importance
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.units import Array
from surgery_core.surgery.anatomy import find_layers
from surgery_core.sweeps.kinds import SweepPoint
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import Sweep
from surgery_core.text import Text, as_texts, encode

Gone = tuple[int, ...]
"""Layers that are left out, in ascending order."""


class LossTable:
    """Losses of a model without some of its layers, text by text; each is measured once.

    Args:
        model: the base; it is not changed.
        tokenizer: its tokenizer.
        texts: what is scored.
        stop: when set, measuring ends with `Stopped`.

    Attributes:
        tokens: `[n_texts]`, scored tokens of each.
        tried: how many plans were measured.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, texts: Sequence[Text], stop: threading.Event | None = None
    ) -> None:
        self.model, self.tokenizer, self.stop = model, tokenizer, stop
        self.encoded = encode_texts(model, tokenizer, texts)
        self.base = LayerPlan.identity(len(find_layers(model)[1]))
        self.tokens = np.array([len(ids) - 1 for ids in self.encoded.ids])
        self._nats: dict[Gone, Array] = {}

    @property
    def tried(self) -> int:
        """Return how many plans were measured."""
        return len(self._nats)

    def nats(self, plans: Sequence[Gone]) -> Array:
        """Return the summed loss of each text in nats, `[plans, n_texts]`; infinite for a plan that cannot run."""
        missing = [gone for gone in dict.fromkeys(plans) if gone not in self._nats]
        if missing:
            points = [SweepPoint(number, number, None, self.base.delete(gone)) for number, gone in enumerate(missing)]
            measures = SweepMeasures(agreement=False)
            sweep = Sweep(self.model, self.tokenizer, self.encoded, points, measures=measures, stop=self.stop)
            for row in sweep.rows():
                if row.number >= 0:
                    means = [row.texts.get(text.title, math.inf) for text in self.encoded.texts]
                    self._nats[missing[row.number]] = np.array(means) * self.tokens
        return np.stack([self._nats[gone] for gone in plans])


class Searches:
    """What each search removes first on some texts.

    Args:
        model, tokenizer, texts, stop: as for `LossTable`.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, texts: Sequence[Text], stop: threading.Event | None = None
    ) -> None:
        self.losses = LossTable(model, tokenizer, texts, stop)
        self.n = len(self.losses.base)
        found = [importance(model, tokenizer, [text], stop=stop) for text in texts]
        self._influence = np.stack([one.block_influence * one.n_tokens for one in found])
        self._angular = np.stack([one.angular for one in found])
        self._read = np.array([one.n_tokens for one in found])

    def __len__(self) -> int:
        """Return how many texts there are."""
        return len(self._read)

    def costs(self, search: str, texts: Array) -> Array:
        """Return what each layer costs by itself, `[n_layers]`: those that cost least go first.

        Args:
            search: `"one-shot"`: the loss without it, nats a token; `"influence"`: its Block Influence; `"angular"`: the
                angular distance of what enters it and what leaves it.
            texts: texts by number, of which some may be there several times.
        """
        if search == "one-shot":
            return self._losses([(layer,) for layer in range(self.n)], texts)
        if search == "influence":
            found: Array = self._influence[texts].sum(0) / self._read[texts].sum()
            return found
        costs: Array = self._angular[texts].mean(0)[:, 0]
        return costs

    def removed(self, search: str, count: int, texts: Array) -> frozenset[int] | None:
        """Return the `count` layers that a search removes, or None where its figures are no numbers.

        Besides those of `costs` there is `"greedy"`, the layer whose removal leaves the least loss, time after time; and
        `"angular"` removes the block of neighbours with the least angular distance from end to end (Gromov et al., arXiv
        2403.17887).
        """
        if search == "greedy":
            return self._greedy(count, texts)
        if search == "angular":
            distances = self._angular[texts].mean(0)[: self.n - count + 1, count - 1]
            start = None if np.isnan(distances).any() else int(distances.argmin())
            return None if start is None else frozenset(range(start, start + count))
        costs = self.costs(search, texts)
        if np.isnan(costs).any():
            return None
        return frozenset(np.argsort(costs, kind="stable")[:count].tolist())

    def _greedy(self, count: int, texts: Array) -> frozenset[int] | None:
        gone: Gone = ()
        for _ in range(count):
            plans = [tuple(sorted((*gone, layer))) for layer in range(self.n) if layer not in gone]
            losses = self._losses(plans, texts)
            # a plan that is no number cannot be the best, as in `remove_greedily`
            if np.isnan(losses).all():
                return None
            gone = plans[int(np.nanargmin(losses))]
        return frozenset(gone)

    def _losses(self, plans: Sequence[Gone], texts: Array) -> Array:
        found: Array = self.losses.nats(plans)[:, texts].sum(1) / self.losses.tokens[texts].sum()
        return found


SEARCHES = ("one-shot", "greedy", "influence", "angular")


def shortened(tokenizer: Any, texts: Sequence[Text], most: int) -> tuple[Text, ...]:
    """Return texts of which only the first `most` tokens are left."""
    return tuple(_shortened(tokenizer, text, most) for text in as_texts(texts))


def _shortened(tokenizer: Any, text: Text, most: int) -> Text:
    found = tokenizer(text.text, verbose=False, return_offsets_mapping=True, add_special_tokens=not text.formatted)
    ends = [end for _, end in found["offset_mapping"]]
    if len(encode(tokenizer, text)) <= most:
        return text
    return Text(text.title, text.text[: max(ends[:most])], text.kind, text.formatted)
