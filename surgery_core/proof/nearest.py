"""Find the plan nearest to a refused one that is allowed: the fewest layers put back, or put back in place."""

from __future__ import annotations

import threading
import time
from typing import Any

from torch import nn

from surgery_core.errors import Stopped, SurgeryError
from surgery_core.plans.nearby import neighbours
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.checks import Trial
from surgery_core.stopping import Progress
from surgery_core.surgery.ingredients import Ingredients

MOST_TRIES = 48
"""Plans that are tried at most."""


def nearest_plan(
    model: nn.Module, tokenizer: Any, plan: LayerPlan, ingredients: Ingredients | None = None, *,
    seconds: float = 20.0, stop: threading.Event | None = None, on_progress: Progress | None = None,
) -> LayerPlan | None:  # fmt: skip
    """Return the plan with the fewest edits to `plan` that passes its checks on this model, or None.

    The neighbours of the plan are tried in their order, then the unchanged model.

    Args:
        model: the base.
        tokenizer: only its special tokens matter, which the test prompts avoid.
        plan: the refused plan.
        ingredients: donors and means that it names.
        seconds: how long to look; None is returned where even the unchanged model does not pass.
        stop: set to end with `Stopped`.
        on_progress: told how much of the longest search is done, in tenths of a second, and how long that is.

    Raises:
        Stopped: when `stop` was set.
    """
    trial = Trial(model, tokenizer, ingredients, stop=stop)
    identity = LayerPlan.identity(plan.n_layers)
    if not allowed(trial, identity):
        return None
    end = time.monotonic() + seconds
    for tried, candidate in enumerate(neighbours(plan)):
        if tried == MOST_TRIES or time.monotonic() > end:
            break
        if on_progress is not None:
            on_progress(round(10 * (seconds - end + time.monotonic())), round(10 * seconds))
        if allowed(trial, candidate):
            return candidate
    return identity


def allowed(trial: Trial, plan: LayerPlan) -> bool:
    """Whether a plan passes its checks."""
    try:
        return all(check.passed for check in trial.plan_checks(plan))
    except Stopped:
        raise
    except SurgeryError:
        return False
