"""Preflight: is surgery on this model, with this plan, to be trusted? Found out by trying, in seconds.

Each check compares two ways to the same numbers, and names what differs. `prove` runs those that concern a plan
and refuses the plan when one fails, so that no wrong number is shown.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn

from surgery_core.anatomy import device_of, find_layers
from surgery_core.by_hand import ByHand
from surgery_core.errors import RefusedPlanError
from surgery_core.material import Material, Means
from surgery_core.plan import LayerPlan
from surgery_core.slots import place
from surgery_core.view import checked_plan, operate

LENGTHS = (5, 9, 3)
"""Tokens of the prompts in the left-padded batch."""

NEW_TOKENS = 6
_FAILURES = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError)
_FINGERPRINT_BYTES = 2**28


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        key: stable name.
        title: what is claimed, as a sentence.
        passed: whether it holds.
        detail: the figure that shows it, or what went wrong.
    """

    key: str
    title: str
    passed: bool
    detail: str


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
        """Return what failed, in a sentence; empty where nothing did."""
        return " ".join(f"{check.title}: no. {check.detail}" for check in self.checks if not check.passed)

    def frame(self) -> pd.DataFrame:
        """Return one line a check: key, title, passed, detail."""
        return pd.DataFrame([vars(check) for check in self.checks])


def preflight(model: nn.Module, tokenizer: Any = None, plan: LayerPlan | str | None = None) -> PreflightReport:
    """Check whether surgery on this model gives results that can be trusted.

    Args:
        model: the base; it is not changed, and that is checked too.
        tokenizer: only its special tokens matter, which the test prompts avoid.
        plan: the plan to check besides; by default the layers backwards after dropping the first.

    Raises:
        AnatomyError: when the model's layers cannot be found.
        PlanError: when the plan does not fit the model.
    """
    began = time.perf_counter()
    n_layers = len(find_layers(model)[1])
    identity = LayerPlan.identity(n_layers)
    chosen = _default_plan(n_layers) if plan is None else checked_plan(plan, n_layers)
    trial = _Trial(model, tokenizer)
    before = fingerprint(model)
    checks = [trial.identity(identity), *trial.generation(identity, "base"), *trial.plan_checks(chosen)]
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
) -> PreflightReport:
    """Return the checks of one plan, all passed.

    Raises:
        RefusedPlanError: when one of them fails; it says which and why.
    """
    began = time.perf_counter()
    plan = checked_plan(plan, len(find_layers(model)[1]))
    material = Material(donors or {}, means)
    report = PreflightReport(
        str(plan), tuple(_Trial(model, tokenizer, material).plan_checks(plan)), time.perf_counter() - began
    )
    if not report.passed:
        raise RefusedPlanError(f"This plan cannot be trusted on a {type(model).__name__}. {report.reason}")
    return report


def fingerprint(model: nn.Module) -> str:
    """Return a hash of the model's weights: of all of them up to 256 MB, else of an even sample of each tensor."""
    digest = hashlib.sha256()
    tensors = [(name, tensor) for name, tensor in model.state_dict().items() if tensor.device.type != "meta"]
    total = sum(tensor.numel() * tensor.element_size() for _, tensor in tensors)
    step = max(1, -(-total // _FINGERPRINT_BYTES))
    for name, tensor in tensors:
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        sample = tensor.detach().reshape(-1)[::step].contiguous().cpu()
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class _Trial:
    """The test prompts for one model, and the checks on them."""

    def __init__(self, model: nn.Module, tokenizer: Any, material: Material | None = None) -> None:
        self.model = model
        self.material = material or Material()
        self.device = device_of(model)
        self.tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
        self.batch = self._padded(tokenizer)
        row = {name: tensor[1:2] for name, tensor in self.batch.items()}
        self.single = row

    def _view(self, plan: LayerPlan) -> Any:
        return operate(self.model, plan, donors=self.material.donors, means=self.material.means)

    def identity(self, plan: LayerPlan) -> Check:
        title = "Surgery that changes nothing gives the same logits"
        with torch.inference_mode():
            return self._difference(
                "identity", title, operate(self.model, plan)(**self.single, use_cache=False).logits,
                self.model(**self.single, use_cache=False).logits,
            )  # fmt: skip

    def plan_checks(self, plan: LayerPlan) -> list[Check]:
        if not len(plan):
            return [self._layers_run(plan), *self.generation(plan, "plan")]
        return [self._layers_run(plan), *self._logits(plan), *self.generation(plan, "plan")]

    def _layers_run(self, plan: LayerPlan) -> Check:
        expected, ran = len(place(plan)), []

        def run() -> tuple[bool, str]:
            view = self._view(plan)
            for layer in find_layers(view)[1]:
                layer.register_forward_hook(lambda module, args, output: ran.append(module))
            with torch.inference_mode():
                view(**self.single, use_cache=False)
            return len(ran) == expected, f"{len(ran)} of {expected} ran."

        return _attempt("layers", "Exactly the planned layers run", run)

    def _logits(self, plan: LayerPlan) -> list[Check]:
        checks = []
        for name, inputs in (("one prompt", self.single), ("a left-padded batch", self.batch)):

            def run(inputs: dict[str, torch.Tensor] = inputs) -> tuple[bool, str]:
                expected = ByHand(self.model, inputs, self.material).logits(plan)
                with torch.inference_mode():
                    logits = self._view(plan)(**inputs, use_cache=False).logits
                return self._close(logits, expected, inputs["attention_mask"].bool())

            key = "by-hand" if inputs is self.single else "by-hand-padded"
            checks.append(_attempt(key, f"Layers called one by one give the same logits for {name}", run))
        return checks

    def generation(self, plan: LayerPlan, what: str) -> list[Check]:
        subject = "The model itself" if what == "base" else "The operated model"
        checks = []
        for name, inputs in (("one prompt", self.single), ("a left-padded batch", self.batch)):

            def run(inputs: dict[str, torch.Tensor] = inputs) -> tuple[bool, str]:
                model = self.model if what == "base" else self._view(plan)
                return self._same_text(model, inputs)

            key = f"{what}-cache" + ("" if inputs is self.single else "-padded")
            checks.append(_attempt(key, f"{subject} writes the same with and without its cache for {name}", run))
        return checks

    def _same_text(self, model: Any, inputs: dict[str, torch.Tensor]) -> tuple[bool, str]:
        """Compare greedy generation with and without the cache, up to the first token where they part."""
        settings = {
            "do_sample": False, "max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "pad_token_id": 0,
            "output_logits": True, "return_dict_in_generate": True,
        }  # fmt: skip
        with torch.inference_mode():
            cached, plain = (model.generate(**inputs, **settings, use_cache=use) for use in (True, False))
        width = inputs["input_ids"].shape[1]
        worst = 0.0
        agree = torch.ones(len(inputs["input_ids"]), dtype=torch.bool, device=self.device)
        for step, (left, right) in enumerate(zip(cached.logits, plain.logits, strict=True)):
            if agree.any():
                worst = max(worst, _relative(left[agree], right[agree]))
            agree &= cached.sequences[:, width + step] == plain.sequences[:, width + step]
        return worst <= self.tolerance, f"Largest relative difference of logits: {worst:.1e}."

    def _difference(self, key: str, title: str, left: torch.Tensor, right: torch.Tensor) -> Check:
        worst = _relative(left, right)
        return Check(key, title, worst <= self.tolerance, f"Largest relative difference of logits: {worst:.1e}.")

    def _close(self, left: torch.Tensor, right: torch.Tensor, real: torch.Tensor) -> tuple[bool, str]:
        worst = _relative(left[real], right[real])
        return worst <= self.tolerance, f"Largest relative difference of logits: {worst:.1e}."

    def _padded(self, tokenizer: Any) -> dict[str, torch.Tensor]:
        vocab = self.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        special = set(getattr(tokenizer, "all_special_ids", None) or ())
        usable = torch.tensor([index for index in range(min(vocab, 5000)) if index not in special])
        generator = torch.Generator().manual_seed(0)
        width = max(LENGTHS)
        picks = torch.randint(len(usable) // 20, len(usable), (len(LENGTHS), width), generator=generator)
        mask = torch.stack([(torch.arange(width) >= width - length).long() for length in LENGTHS])
        ids = usable[picks] * mask
        return {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}


def _attempt(key: str, title: str, run: Callable[[], tuple[bool, str]]) -> Check:
    """Return the check's outcome; an error of the model's own code is a failed check that says what it was."""
    try:
        passed, detail = run()
    except RefusedPlanError:
        raise
    except _FAILURES as error:
        lines = str(error).splitlines() or [""]
        return Check(key, title, False, f"It stopped with {type(error).__name__}: {lines[0][:160]}")
    return Check(key, title, passed, detail)


def _relative(left: torch.Tensor, right: torch.Tensor) -> float:
    """Return the largest difference over the spread of `right`; infinite where either is not finite alike."""
    left, right = left.float(), right.float()
    finite = torch.isfinite(right)
    if not torch.equal(torch.isfinite(left), finite):
        return float("inf")
    left, right = left[finite], right[finite]
    return float((left - right).abs().max() / right.std().clamp_min(1e-6)) if right.numel() > 1 else 0.0


def _default_plan(n_layers: int) -> LayerPlan:
    plan = LayerPlan.identity(n_layers)
    return plan.delete([0]).reverse() if n_layers > 2 else plan.reverse()
