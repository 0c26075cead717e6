"""Can a model start in the middle? Found out on a few tokens, before a sweep relies on it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from surgery_core.failures import FAILURES
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.shared_beginnings import SharedRuns
from surgery_core.states.tail import Tail
from surgery_core.states.windows import Batch
from surgery_core.stopping import looking
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.closeness import relative_difference
from surgery_core.surgery.ingredients import Ingredients
from surgery_core.surgery.recording import watched
from surgery_core.surgery.view import operate

PROBES = 2
"""Plans of a sweep that are run both ways on a few tokens, to see whether the model can start in the middle."""

TOLERANCE = 1e-4
"""Largest difference of the two ways' logits, as a share of their spread (float32); ten times that in half formats."""


def cannot_start_in_the_middle(
    model: nn.Module, batch: Batch, plans: Sequence[LayerPlan], ingredients: Ingredients | None = None,
    stop: threading.Event | None = None,
) -> str:  # fmt: skip
    """Return why plans have to be run whole on this model, or an empty string.

    A few of the plans are run both ways on a few tokens, and their logits compared. Raises `Stopped` once `stop` is set.
    """
    probes = [plans[at] for at in sorted({n * len(plans) // PROBES for n in range(PROBES)})]
    return _difference(model, beginning(batch), [[plan] for plan in probes], ingredients or Ingredients(), stop)


def cannot_run_together(
    model: nn.Module, batch: Batch, plans: Sequence[LayerPlan], ingredients: Ingredients | None = None,
    stop: threading.Event | None = None,
) -> bool:  # fmt: skip
    """Whether plans that end alike must not run their end as one batch: tried with one plan twice.

    Raises `Stopped` once `stop` is set.
    """
    longest = max(plans, key=len)
    return bool(_difference(model, beginning(batch), [[longest, longest]], ingredients or Ingredients(), stop))


def _difference(
    model: nn.Module, batch: Batch, groups: Sequence[Sequence[LayerPlan]], ingredients: Ingredients,
    stop: threading.Event | None,
) -> str:  # fmt: skip
    look = looking(stop, "Stopped before it was known how plans can run.")
    try:
        plans = [plan for group in groups for plan in group]
        runs, tail = SharedRuns(model, [batch], plans, ingredients=ingredients, stop=stop), Tail(model)
        for group in groups:
            view = operate(model, group[0], **ingredients.named)
            shared = tail.logits(runs.hidden(group, 0)[-1])
            for plan in group:
                runs.finish(plan)
            with watched(find_layers(view)[1], lambda number, call: look()):
                gap = _gap(shared, view, batch)
            if gap > TOLERANCE * (1 if shared.dtype == torch.float32 else 10):
                return f"Starting in the middle changes the logits of {group[0]} by {gap:.1g} of their spread."
    except FAILURES as error:
        return f"Starting in the middle stopped with {type(error).__name__}."
    return ""


def _gap(shared: torch.Tensor, view: Any, batch: Batch) -> float:
    with torch.inference_mode():
        whole = view(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    real = batch.attention_mask.bool()
    return relative_difference(shared[real.to(shared.device)], whole[real.to(whole.device)], blind=True)


def beginning(batch: Batch, rows: int = 2, tokens: int = 12) -> Batch:
    """Return the last rows' first tokens: the shortest windows, so that there is padding where the batch has some."""
    ids, mask = batch.input_ids[-rows:, :tokens], batch.attention_mask[-rows:, :tokens].clone()
    if len(ids) > 1:
        mask[-1, -tokens // 3 :] = 0
    nothing = torch.zeros(0, dtype=torch.long)
    return Batch(ids * mask, mask, nothing, nothing, nothing, nothing, nothing)
