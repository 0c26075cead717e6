"""Single checks of surgery on one model: each compares two ways to the same numbers, and says how they differ."""

from __future__ import annotations

import math
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from surgery_core.errors import AnatomyError, PlanError
from surgery_core.failures import FAILURES, failure
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.layer_by_layer import ByHand
from surgery_core.states.finite import broken_weights, not_finite
from surgery_core.states.windows import Batch
from surgery_core.stopping import looking
from surgery_core.surgery.adapters import adapter_paths, switched_off
from surgery_core.surgery.anatomy import device_of, find_layers, is_quantised
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.closeness import relative_difference
from surgery_core.surgery.ingredients import Ingredients
from surgery_core.surgery.recording import Call, watched
from surgery_core.surgery.view import operate

LENGTHS = (5, 9, 3)
"""Tokens of the prompts in the left-padded batch."""

NEW_TOKENS = 3
"""Tokens that are generated to compare cached with uncached generation; of the model itself, four times as many."""

LARGEST_COPY = 2 * 2**30
"""Most bytes of weights that are written to a temporary folder to see whether a saved copy is the same model."""


def tolerance(model: Any) -> float:
    """Return how far two ways to the logits of a model may lie apart in its format, as a share of their spread."""
    return 1e-3 if model.dtype == torch.float32 else 0.1


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        key: stable name.
        title: what is claimed, as a sentence.
        passed: whether it holds, or was not tried.
        detail: the figure that shows it, or what went wrong, or why it was not tried.
        tried: whether it was tried.
    """

    key: str
    title: str
    passed: bool
    detail: str
    tried: bool = True


class Trial:
    """The test prompts for one model, and the checks on them."""

    def __init__(
        self, model: nn.Module, tokenizer: Any, ingredients: Ingredients | None = None, *,
        stop: threading.Event | None = None, on_check: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        """Prepare the prompts.

        Args:
            model: the base.
            tokenizer: only its special tokens matter.
            ingredients: donors and means that plans name.
            stop: set to end with `Stopped`: before the next layer of a view, or token of the model itself.
            on_check: told how many checks are done, after each.
        """
        self._look = looking(stop, "Stopped before everything was checked.")
        self._on_check, self._done = on_check or (lambda done: None), 0
        self.model: Any = model
        self.ingredients = ingredients or Ingredients()
        self.device = device_of(model)
        self.tolerance = tolerance(model)
        self.batch = self._padded(tokenizer)
        self.single = {name: tensor[1:2] for name, tensor in self.batch.items()}
        self._hands: dict[str, ByHand] = {}

    def identity(self, plan: LayerPlan) -> Check:
        """Compare the view of the unchanged model with the model."""

        def run() -> tuple[bool, str]:
            with torch.inference_mode():
                left, right = (m(**self.single, use_cache=False).logits for m in (self._view(plan), self.model))
            return self._close(left, right)

        return self._attempt("identity", "Surgery that changes nothing gives the same logits", run)

    def numbers(self) -> Check:
        """Look whether the model computes numbers at all: equal nonsense on two sides would be no agreement."""

        def run() -> tuple[bool, str]:
            if broken := broken_weights(self.model):
                return False, broken
            with torch.inference_mode():
                logits = self.model(**self.single, use_cache=False).logits
            if not bool((logits.isnan() | logits.isposinf()).any()):
                return True, "All logits of the test prompt are numbers."
            return False, not_finite(self.model, _batch(self.single))

        return self._attempt("numbers", "The model's weights and logits are numbers", run)

    def plan_checks(self, plan: LayerPlan, *, brief: bool = False) -> list[Check]:
        """Compare the view of a plan with its layers called one by one, and its generation with and without cache.

        With `brief`, on the left-padded batch only, in which one prompt is as long as the batch.
        """
        if not len(plan):
            return [self._none_runs(plan), *self.generation(plan, "plan", brief=brief)]
        return [*self._by_hand(plan, brief), *self.generation(plan, "plan", brief=brief), *self._halves(plan)]

    def generation(self, plan: LayerPlan, what: str, *, brief: bool = False) -> list[Check]:
        """Compare greedy generation with and without the cache, of the `"base"` or of the `"plan"`."""
        subject = "The model itself" if what == "base" else "The operated model"
        checks = []
        for name, suffix, inputs in self._prompts(brief):

            def run(inputs: dict[str, torch.Tensor] = inputs) -> tuple[bool, str]:
                model = self.model if what == "base" else self._view(plan)
                return self._same_text(model, inputs, 4 * NEW_TOKENS if what == "base" else NEW_TOKENS)

            title = f"{subject} writes the same with and without its cache for {name}"
            checks.append(self._attempt(f"{what}-cache{suffix}", title, run))
        return checks

    def lens(self) -> Check:
        """Compare the last layer's state, read through what comes behind the layers, with the model's own logits."""
        from surgery_core.states.residuals import residuals
        from surgery_core.states.tail import Tail

        def run() -> tuple[bool, str]:
            try:
                tail, stream = Tail(self.model), residuals(self.model, self.single["input_ids"])
            except AnatomyError as error:
                return False, str(error)
            with torch.inference_mode():
                own = self.model(input_ids=self.single["input_ids"], use_cache=False).logits[0]
            return self._close(tail.logits(stream.states[-1]), own)

        return self._attempt("lens", "The logit lens reads the model's own output off its last layer", run)

    def without_adapter(self, identity: LayerPlan) -> Check:
        """Compare the view whose layers all run without their adapters with the model when peft switches them off."""
        plan = identity.switch_adapter(range(len(identity)), on=False)

        def run() -> tuple[bool, str]:
            copy = private_copy(self.model)
            switched_off(copy, adapter_paths(copy))
            with torch.inference_mode():
                left, right = (m(**self.single, use_cache=False).logits for m in (self._view(plan), copy))
            return torch.equal(left, right), self._close(left, right)[1]

        return self._attempt("adapter", "Without its adapter in every layer, the model is its base to the bit", run)

    def reload(self, plan: LayerPlan) -> Check:
        """Save the view of a plan to a temporary folder, open it with plain transformers, and compare the logits."""
        key, title = "reload", "An exported copy opens as the same model"
        if (why := self._not_to_save(plan)) is not None:
            return Check(key, title, True, why, tried=False)
        try:
            return self._attempt(key, title, lambda: self._reloaded(plan))
        except OSError as error:
            return Check(key, title, True, f"Not tried: no room for it ({error.strerror or error}).", tried=False)

    def _reloaded(self, plan: LayerPlan) -> tuple[bool, str]:
        from surgery_core.models.weights import quiet
        from surgery_core.surgery.saving import cannot_be_saved, reopened, save_view

        view = self._view(plan)
        with torch.inference_mode():
            expected = view(**self.single, use_cache=False).logits
        with tempfile.TemporaryDirectory() as folder, quiet():
            save_view(view, folder)
            try:
                saved = reopened(view, folder)
            except FAILURES:
                return False, f"transformers does not open what a {type(view).__name__} with these layers is saved as."
        with torch.inference_mode():
            logits = saved(**self.single, use_cache=False).logits
        same, detail = self._close(logits, expected)
        return same, detail if same else cannot_be_saved(view, saved) or detail

    def _not_to_save(self, plan: LayerPlan) -> str | None:
        tensors = [*self.model.parameters(), *self.model.buffers()]
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if not len(plan) or any(not slot.is_whole for slot in plan):
            return "Not tried: a checkpoint holds whole layers only."
        if any(tensor.device.type == "meta" for tensor in tensors):
            return "Not tried: parts of the model are not in memory."
        if is_quantised(self.model):
            return "Not tried: quantised models are not exported."
        return f"Not tried: the weights take {size / 2**30:.1f} GB." if size > LARGEST_COPY else None

    def _attempt(self, key: str, title: str, run: Callable[[], tuple[bool, str]]) -> Check:
        """Return the check's outcome; an error of the model's own code is a failed check that says what it was."""
        self._look()
        try:
            passed, detail = run()
        except PlanError:
            raise
        except FAILURES as error:
            passed, detail = False, failure(error)
        self._done += 1
        self._on_check(self._done)
        return Check(key, title, passed, detail)

    def _view(self, plan: LayerPlan) -> Any:
        """Return a plan's view, which looks before each of its layers whether to go on."""
        view = operate(self.model, plan, **self.ingredients.named)
        for layer in find_layers(view)[1]:
            layer.register_forward_pre_hook(lambda layer, args: self._look())
        return view

    def _prompts(self, brief: bool = False) -> list[tuple[str, str, dict[str, torch.Tensor]]]:
        padded = ("a left-padded batch", "-padded", self.batch)
        return [padded] if brief else [("one prompt", "", self.single), padded]

    def _hand(self, suffix: str, inputs: dict[str, torch.Tensor]) -> ByHand:
        """Return the base's run on a prompt, made once for all plans."""
        if suffix not in self._hands:
            self._hands[suffix] = ByHand(self.model, inputs, self.ingredients)
        return self._hands[suffix]

    def _by_hand(self, plan: LayerPlan, brief: bool) -> list[Check]:
        """Return whether as many layers run as should, and whether their logits are right for both kinds of prompt."""
        counts: list[tuple[int, int]] = []
        checks = []
        for name, suffix, inputs in self._prompts(brief):

            def run(suffix: str = suffix, inputs: dict[str, torch.Tensor] = inputs) -> tuple[bool, str]:
                hand = self._hand(suffix, inputs)
                self._look()
                expected = hand.logits(plan)
                self._look()
                logits, ran = self._counted(plan, inputs)
                counts.append((ran, hand.runs(plan)))
                return self._close(logits, expected, inputs["attention_mask"].bool())

            title = f"Layers called one by one give the same logits for {name}"
            checks.append(self._attempt(f"by-hand{suffix}", title, run))
        return [_all_ran(counts, checks), *checks]

    def _halves(self, plan: LayerPlan) -> list[Check]:
        """Return whether layers of which half is kept have nothing but the two halves to hand words to each other.

        With both taken away, a layer has to pass on what it was given, each token by itself.
        """
        parts = {layer.index for slot in plan for layer in slot.layers if layer.part != "both" and layer.donor is None}
        if not parts:
            return []

        def run() -> tuple[bool, str]:
            hand = self._hand("", self.single)
            wrong = [f"L{index}" for index in sorted(parts) if not hand.passes_on(index)]
            return not wrong, f"Not so in {', '.join(wrong)}." if wrong else f"So in {len(parts)} layers."

        return [
            self._attempt("halves", "Without attention and MLP, a layer passes each token's state on by itself", run)
        ]

    def _counted(self, plan: LayerPlan, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
        """Return the logits of a plan's view, and how many layers ran."""
        view, ran = self._view(plan), 0

        def count(number: int, call: Call, output: Any) -> None:
            nonlocal ran
            ran += 1

        with torch.inference_mode(), watched(find_layers(view)[1], returned=count):
            return view(**inputs, use_cache=False).logits, ran

    def _none_runs(self, plan: LayerPlan) -> Check:
        def run() -> tuple[bool, str]:
            ran = self._counted(plan, self.single)[1]
            return ran == 0, f"{ran} of 0 ran."

        return self._attempt("layers", _LAYERS_RUN, run)

    def _same_text(self, model: Any, inputs: dict[str, torch.Tensor], count: int) -> tuple[bool, str]:
        """Compare the logits of the last of some greedily generated tokens with and without the cache.

        Those without the cache are computed from the tokens that were written with it, so that a cache which
        went wrong at any step shows, whatever token was written there. Where a prompt's tokens see each other (XLNet),
        tokens that were written are not like a longer prompt; they are written without the cache one by one.
        """
        with torch.inference_mode():
            cached = _generate(model, inputs, count, self._look, use_cache=True)
            longer = _extended(inputs, cached.sequences, count - 1)
            plain = _generate(model, longer, 1, self._look, use_cache=False)
            worst = relative_difference(cached.logits[-1], plain.logits[0])
            if worst > self.tolerance:
                plain = _generate(model, inputs, count, self._look, use_cache=False)
                worst = max(relative_difference(*pair) for pair in zip(cached.logits, plain.logits, strict=True))
        return worst <= self.tolerance, _difference(worst)

    def _close(self, left: torch.Tensor, right: torch.Tensor, real: torch.Tensor | None = None) -> tuple[bool, str]:
        if real is not None:
            left, right = left[real.to(left.device)], right[real.to(right.device)]
        worst = relative_difference(left, right)
        return worst <= self.tolerance, _difference(worst)

    def _padded(self, tokenizer: Any) -> dict[str, torch.Tensor]:
        vocab = self.model.get_input_embeddings().weight.shape[0]
        special = set(getattr(tokenizer, "all_special_ids", None) or ())
        usable = torch.tensor([index for index in range(min(vocab, 5000)) if index not in special])
        generator = torch.Generator().manual_seed(0)
        width = max(LENGTHS)
        picks = torch.randint(len(usable) // 20, len(usable), (len(LENGTHS), width), generator=generator)
        mask = torch.stack([(torch.arange(width) >= width - length).long() for length in LENGTHS])
        ids = usable[picks] * mask
        return {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}


def _batch(inputs: dict[str, torch.Tensor]) -> Batch:
    """Return prompts as a batch of which nothing is scored."""
    nothing = torch.zeros(0, dtype=torch.long)
    return Batch(inputs["input_ids"], inputs["attention_mask"], nothing, nothing, nothing, nothing, nothing)


_LAYERS_RUN = "Exactly the planned layers run"


def _all_ran(counts: list[tuple[int, int]], checks: list[Check]) -> Check:
    """Return whether as many layers ran as planned; where nothing ran, for the reason that the other checks give."""
    if not counts:
        return replace(checks[0], key="layers", title=_LAYERS_RUN)
    ran, expected = counts[0]
    return Check("layers", _LAYERS_RUN, ran == expected, f"{ran} of {expected} ran.")


@dataclass(frozen=True, eq=False)
class _Written:
    """Prompts with the tokens written after them, `[batch, seq]`, and the logits `[batch, vocab]` of each."""

    sequences: torch.Tensor
    logits: list[torch.Tensor]


def _generate(
    model: Any, inputs: dict[str, torch.Tensor], count: int, look: Callable[[], None], *, use_cache: bool
) -> _Written:
    """Write tokens greedily; `look` is called after each.

    Logits are seen by a processor and not asked for: transformers then returns the cache too, and on some devices winds
    it back, which the cache of a layer that does not attend does not allow.
    """
    seen: list[torch.Tensor] = []

    def keep(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        look()
        seen.append(scores.clone())
        return scores

    sequences = model.generate(
        **inputs, do_sample=False, max_new_tokens=count, min_new_tokens=count, pad_token_id=0, use_cache=use_cache,
        logits_processor=[keep],
    )  # fmt: skip
    return _Written(sequences, seen)


def _extended(inputs: dict[str, torch.Tensor], sequences: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
    """Return the prompts with the first `step` tokens that were written after them."""
    mask = inputs["attention_mask"]
    longer = torch.cat([mask, mask.new_ones(len(mask), step)], dim=1)
    return {"input_ids": sequences[:, : longer.shape[1]], "attention_mask": longer}


def _difference(worst: float) -> str:
    if math.isinf(worst):
        return "Logits are not numbers, or not in the same places."
    if not worst:
        return "Logits are equal to the bit."
    return f"Largest relative difference of logits: {worst:.1e}."
