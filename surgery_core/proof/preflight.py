"""Preflight: is surgery on this model, with this plan, to be trusted? Found out by trying, in seconds.

Each check compares two ways to the same numbers, and names what differs. `prove` runs those that concern a plan
and refuses the plan when one fails, so that no wrong number is shown.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn

from surgery_core.errors import RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.checks import Check, Trial
from surgery_core.states.finite import broken_weights
from surgery_core.stopping import Progress
from surgery_core.surgery.adapters import has_adapter
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.ingredients import Ingredients, Means
from surgery_core.surgery.stitches import Stitches
from surgery_core.surgery.view import checked_plan

_FINGERPRINT_BYTES = 2**28
_PLAN_CHECKS = 4
"""Checks of a plan: layers by hand and generation, each for one prompt and for a batch."""
_CHECKS = _PLAN_CHECKS + 6
"""Those, and of the model its numbers, the unchanged view, generation for both, the lens and a saved copy."""


@dataclass(frozen=True)
class PreflightReport:
    """The checks of one plan on one model, and how long they took."""

    plan: str
    checks: tuple[Check, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """Return what failed first, and how much else did; empty where nothing did."""
        failed = [check for check in self.checks if not check.passed]
        if not failed:
            return ""
        more = f" {len(failed) - 1} more of {len(self.checks)} checks failed." if len(failed) > 1 else ""
        return f"{failed[0].title}: no. {failed[0].detail}{more}"

    def frame(self) -> pd.DataFrame:
        """Return one line a check: key, title, passed, detail, tried."""
        return pd.DataFrame([vars(check) for check in self.checks])


def preflight(
    model: nn.Module, tokenizer: Any = None, plan: LayerPlan | str | None = None, *,
    stop: threading.Event | None = None, on_progress: Progress | None = None,
) -> PreflightReport:  # fmt: skip
    """Check whether surgery on this model gives results that can be trusted.

    Args:
        model: the base; it is not changed, and that is checked too.
        tokenizer: only its special tokens matter, which the test prompts avoid.
        plan: the plan to check besides; by default the layers backwards after dropping the first.
        stop: set to end with `Stopped`.
        on_progress: told how many checks are done, and how many there are.

    Raises:
        AnatomyError: when the model's layers cannot be found.
        PlanError: when the plan does not fit the model.
        Stopped: when `stop` was set.
    """
    began = time.perf_counter()
    n_layers = len(find_layers(model)[1])
    identity = LayerPlan.identity(n_layers)
    chosen = _default_plan(n_layers) if plan is None else checked_plan(plan, n_layers)
    trial = Trial(model, tokenizer, stop=stop, on_check=_of(_CHECKS + has_adapter(model), on_progress))
    before = fingerprint(model)
    checks = [
        trial.numbers(),
        trial.identity(identity),
        *trial.generation(identity, "base"),
        *trial.plan_checks(chosen),
    ]
    checks += [trial.lens(), trial.reload(identity if plan is None else chosen)]
    if has_adapter(model):
        checks.append(trial.without_adapter(identity))
    same = fingerprint(model) == before
    checks.append(
        Check("untouched", "The base model is left as it was", same, "Its weights have the same fingerprint.")
    )
    return PreflightReport(str(chosen), tuple(checks), time.perf_counter() - began)


def prove(
    model: nn.Module,
    tokenizer: Any,
    plan: LayerPlan | str,
    *,
    donors: Mapping[str, nn.Module] | None = None,
    means: Means | None = None,
    stitches: Stitches | None = None,
    suggest: bool = False,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> PreflightReport:
    """Return the checks of one plan, all passed: as many layers run as planned, logits and cached generation are right.

    Args:
        model: the base; it is not changed.
        tokenizer: only its special tokens matter, which the test prompts avoid.
        plan: a plan for it, or the notation of one.
        donors: other models by name, as in `operate`.
        means: mean contributions of the layers, as in `operate`.
        stitches: projections that were fitted for this plan, as in `operate`.
        suggest: whether to look for the nearest plan that is allowed where this one is not; takes as long again for
            each that is tried.
        stop: set to end with `Stopped`.
        on_progress: told how many checks are done, and how many there are; of a suggestion it says nothing.

    Raises:
        PlanError: when the plan does not fit the model, or names what is not there.
        RefusedPlanError: when a check fails; says which and why, and has the nearest allowed plan as `nearest`.
        Stopped: when `stop` was set.
    """
    from surgery_core.proof.nearest import nearest_plan

    plan = checked_plan(plan, len(find_layers(model)[1]))
    ingredients = Ingredients(donors or {}, means, stitches)
    try:
        told = _of(_PLAN_CHECKS, on_progress)
        return proved(Trial(model, tokenizer, ingredients, stop=stop, on_check=told), plan)
    except RefusedPlanError as error:
        if not suggest:
            raise
        raise RefusedPlanError(error.reason, nearest_plan(model, tokenizer, plan, ingredients, stop=stop)) from None


def proved(trial: Trial, plan: LayerPlan, *, brief: bool = False) -> PreflightReport:
    """Return the checks of a plan, all passed; with `brief`, on the left-padded batch only, which takes half the time.

    Raises:
        RefusedPlanError: when one failed; says which and why.
    """
    began = time.perf_counter()
    report = PreflightReport(str(plan), tuple(trial.plan_checks(plan, brief=brief)), time.perf_counter() - began)
    if not report.passed:
        name = type(trial.model).__name__
        raise RefusedPlanError(f"This plan cannot be trusted on a {name}. {_own_fault(trial, report) or report.reason}")
    return report


def _of(total: int, on_progress: Progress | None) -> Callable[[int], None] | None:
    """Return what a trial tells of its checks; what a plan's layers need besides is not counted."""
    return None if on_progress is None else lambda done: on_progress(min(done, total), total)


def _own_fault(trial: Trial, report: PreflightReport) -> str:
    """Return what is wrong with the unchanged model already: weights, or cached generation where only that failed."""
    if broken := broken_weights(trial.model):
        return broken
    failed = {check.key for check in report.checks if not check.passed}
    if not failed or not all(key.startswith("plan-cache") for key in failed):
        return ""
    base = trial.generation(LayerPlan.identity(len(find_layers(trial.model)[1])), "base")
    wrong = next((check for check in base if not check.passed), None)
    return f"{wrong.title}: no, so no surgery on it can be checked." if wrong else ""


def fingerprint(model: nn.Module) -> str:
    """Return a hash of the model's weights: of all of them up to 256 MB, else of an even sample of each tensor."""
    digest = hashlib.sha256()
    tensors = [pair for name, value in model.state_dict().items() for pair in _stored(name, value)]
    total = sum(tensor.numel() * tensor.element_size() for _, tensor in tensors)
    step = max(1, -(-total // _FINGERPRINT_BYTES))
    for name, tensor in tensors:
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        sample = tensor.detach().reshape(-1)[::step].contiguous().cpu()
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _stored(name: str, value: Any) -> list[tuple[str, torch.Tensor]]:
    """Return the plain tensors in an entry of a state dict: itself, or what a quantised one is made of."""
    if not isinstance(value, torch.Tensor):
        parts = value if isinstance(value, tuple) else ()
        return [pair for at, part in enumerate(parts) for pair in _stored(f"{name}.{at}", part)]
    if hasattr(value, "__tensor_flatten__"):
        names = value.__tensor_flatten__()[0]
        return [pair for part in names for pair in _stored(f"{name}.{part}", getattr(value, part))]
    if value.is_quantized:
        return [(name, value.int_repr())]
    return [] if value.device.type == "meta" else [(name, value)]


def _default_plan(n_layers: int) -> LayerPlan:
    plan = LayerPlan.identity(n_layers)
    return plan.delete([0]).reverse() if n_layers > 2 else plan.reverse()
