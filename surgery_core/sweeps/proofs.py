"""Are the rows of a sweep right? Each kind of change (`change_kinds`) that its plans make is proved once on its model.

The first plan of each kind is run in two ways on a few tokens, as `prove` does, with and without a cache, left-padded. What
that found is kept for as long as the model lives.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from surgery_core.failures import FAILURES, failure
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.checks import Trial
from surgery_core.proof.preflight import proved
from surgery_core.surgery.change_kinds import change_kind, layer_kinds
from surgery_core.surgery.ingredients import Ingredients

_KNOWN: WeakKeyDictionary[nn.Module, dict[Hashable, str]] = WeakKeyDictionary()
"""By model, what is wrong with each kind of change that was tried; an empty text where nothing is."""


class SweepProof:
    """Proves the plans of a sweep, a kind of change at a time.

    Args:
        model: the base.
        tokenizer: only its special tokens matter, which the test prompts avoid.
        ingredients: donors and means that the plans name.
        stop: looked at between layers.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, ingredients: Ingredients, stop: threading.Event | None = None
    ) -> None:
        self.model, self.tokenizer, self.ingredients, self.stop = model, tokenizer, ingredients, stop
        self.types = layer_kinds(model)
        self.known, self.own = _KNOWN.setdefault(model, {}), dict[Hashable, str]()
        self._trial: Trial | None = None

    def problem(self, plan: LayerPlan) -> str:
        """Return why a plan's figures may be wrong, as a sentence; empty where plans of its kind passed their checks.

        Other weights change nothing in how a plan runs, so one with stitches is proved without them.
        """
        plan = plan.unstitched
        kind = change_kind(plan, self.types)
        # what donors and means are called says nothing about which they are
        foreign = any(layer.mean or layer.donor for slot in plan for layer in slot.layers)
        known = self.own if foreign else self.known
        if kind not in known:
            known[kind] = self._found(plan)
        return known[kind]

    def _found(self, plan: LayerPlan) -> str:
        if self._trial is None:
            self._trial = Trial(self.model, self.tokenizer, self.ingredients, stop=self.stop)
        try:
            proved(self._trial, plan, brief=True)
        except FAILURES as error:
            return failure(error)
        return ""
