"""What else is tried on every architecture: halves, scales, parallel and mean slots, the lens, generation, export.

Expected logits come from the base itself, its layers left where they are and changed by hooks written here; nothing
of what makes a view is used. What the library refuses is refused; what it lets pass has to be right.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from surgery_core.errors import ModelError
from surgery_core.lenses.reading import LogitLens
from surgery_core.models.opening import LoadedModel, ModelInfo
from surgery_core.models.weights import quiet
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.checks import Trial
from surgery_core.proof.export import export_model
from surgery_core.proof.folding import folded
from surgery_core.proof.preflight import prove
from surgery_core.states.residuals import residuals
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.ingredients import Means
from surgery_core.surgery.saving import save_view
from surgery_core.surgery.view import operate
from tests.core.support.families import greedy
from tests.core.support.halves_by_hand import residual_of, written_down
from tests.tiny import build_tokenizer

FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError, OSError)
NEW_TOKENS = 10
"""Tokens that are generated with and without the cache; prompt and text are longer than any window of the tiny models."""
Inputs = dict[str, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one surgery on one class came to: `right`, `refused` or `wrong`, and why not."""

    verdict: str
    reason: str = ""


def inputs(batch: int, padded: bool) -> Inputs:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, 90, (batch, 9), generator=generator)
    mask = torch.ones_like(ids)
    if padded:
        mask[0, :6], mask[2, :3] = 0, 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def first(value: Any) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else value[0]


def renewed(output: Any, hidden: torch.Tensor) -> Any:
    if isinstance(output, torch.Tensor):
        return hidden
    rest = (hidden, *output[1:])
    return type(output)(*rest) if hasattr(output, "_fields") else type(output)(rest)


def entering(args: Any, kwargs: Any) -> torch.Tensor:
    return args[0] if args else kwargs["hidden_states"]


class Hooked:
    """A deep copy of a base with hooks on its layers."""

    def __init__(self, model: Any) -> None:
        self.model = copy.deepcopy(model)
        self.layers = find_layers(self.model)[1]

    def change(self, index: int, new: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        """Replace what layer `index` returns by `new(what entered, what it returned)`."""

        def hook(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
            return renewed(output, new(entering(args, kwargs), first(output)))

        self.layers[index].register_forward_hook(hook, with_kwargs=True)

    def silence(self, index: int, name: str) -> None:
        """Take away what a half of layer `index` adds; one that adds to a `residual` itself returns that."""
        half = self.layers[index].get_submodule(name)
        names = list(inspect.signature(type(half).forward).parameters)

        def hook(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
            if "residual" not in names:
                return renewed(output, torch.zeros_like(first(output)))
            return renewed(output, residual_of(args, kwargs, names))

        half.register_forward_hook(hook, with_kwargs=True)

    def together(self, one: int, other: int) -> None:
        """Let two neighbouring layers read the same input and add the mean of their contributions."""
        seen: list[torch.Tensor] = []

        def note(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
            seen[:] = [after - before]
            return before

        self.change(one, note)
        self.change(other, lambda before, after: before + (seen[0] + after - before) / 2)


def scaled(model: Any) -> tuple[str, Hooked, Means | None]:
    hooked = Hooked(model)
    hooked.change(1, lambda before, after: before + 0.5 * (after - before))
    hooked.change(3, lambda before, after: before - 2 * (after - before))
    return "0,1*0.5,2,3*-2", hooked, None


def halved(model: Any) -> tuple[str, Hooked, Means | None]:
    hooked = Hooked(model)
    for index, kept in ((1, 0), (2, 1)):
        halves = written_down(hooked.layers[index])
        for path in halves[1 - kept] if halves else ():
            hooked.silence(index, path)
    return "0,1.attn,2.mlp,3", hooked, None


def beside(model: Any) -> tuple[str, Hooked, Means | None]:
    hooked = Hooked(model)
    hooked.together(1, 2)
    return "0,(1|2),3", hooked, None


def looped(model: Any) -> tuple[str, Hooked, Means | None]:
    """Two neighbours as a damped block: what enters the first is kept, and the second returns the way half gone."""
    hooked, kept = Hooked(model), []

    def note(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        kept[:] = [before.clone()]
        return after

    hooked.change(1, note)
    hooked.change(2, lambda before, after: kept[0] + 0.5 * (after - kept[0]))
    return "0,[1-2]*0.5,3", hooked, None


def averaged(model: Any) -> tuple[str, Hooked, Means | None]:
    hooked = Hooked(model)
    seen: list[torch.Tensor] = []
    probe = Hooked(model)
    probe.change(2, lambda before, after: (seen.append(after[:1]), after)[1])
    with torch.inference_mode():
        probe.model(**inputs(1, padded=False), use_cache=False)
    width = seen[0].shape[-1] if seen else 1
    vectors = torch.randn(4, width, generator=torch.Generator().manual_seed(5))
    hooked.change(2, lambda before, after: before + vectors[2])
    return "0-1,mean(2),3", hooked, Means(vectors, ("random",), 1)


def parted(model: Any) -> tuple[str, Hooked, Means | None]:
    """Halves with factors: what a half adds is silenced, and what is left of the layer is scaled."""
    _, hooked, _ = halved(model)
    hooked.change(1, lambda before, after: before + 0.5 * (after - before))
    hooked.change(2, lambda before, after: before - 3 * (after - before))
    return "0,1.attn*0.5,2.mlp*-3,3", hooked, None


SLOTS = {"parts": halved, "scale": scaled, "parallel": beside, "damped": looped, "mean": averaged}


def slot_outcome(model: Any, name: str) -> Outcome:
    """Return the outcome of a plan whose slots are not plain."""
    notation, hooked, means = SLOTS[name](model)
    plan = LayerPlan.parse(notation, len(find_layers(model)[1]))
    try:
        prove(model, None, plan, means=means)
    except ModelError as error:
        return Outcome("refused", str(error))
    view = operate(model, plan, means=means)
    for batch in (inputs(1, padded=False), inputs(3, padded=True)):
        with torch.inference_mode():
            logits, expected = (one(**batch, use_cache=False).logits for one in (view, hooked.model))
        if problem := difference(logits, expected, batch["attention_mask"].bool()):
            return Outcome("wrong", problem)
        if not torch.equal(greedy(view, batch, 6), greedy(view, batch, 6, use_cache=False)):
            return Outcome("wrong", "cached generation differs from uncached")
    return Outcome("right")


def lens_outcome(model: Any) -> Outcome:
    """Return whether the last layer's state, taken with a plain hook, is read as the model's own logits."""
    try:
        check = Trial(model, None).lens()
    except ModelError as error:
        return Outcome("refused", str(error))
    if not check.passed:
        return Outcome("refused", f"{check.title}: no. {check.detail}")
    hooked, seen = Hooked(model), []
    laid_out = LAID_OUT.get(type(model).__name__, lambda output: first(output).flatten(2))
    for layer in hooked.layers:
        layer.register_forward_hook(lambda module, args, output: seen.append(laid_out(output)))
    batch = inputs(2, padded=False)
    with torch.inference_mode():
        expected = hooked.model(**batch, use_cache=False).logits
    try:
        logits = LogitLens(model).logits(seen[-1])
    except ModelError as error:
        return Outcome("refused", str(error))
    if problem := difference(logits, expected, batch["attention_mask"].bool()):
        return Outcome("wrong", problem)
    return rows_outcome(model, [state[:1] for state in seen], expected[0], batch["input_ids"][:1])


def rows_outcome(model: Any, states: list[torch.Tensor], expected: torch.Tensor, ids: torch.Tensor) -> Outcome:
    """Return whether the rows of a text's residual stream are what hooks saw, and the last is read as the logits."""
    stream = residuals(model, ids)
    for number, state in enumerate(states):
        if not torch.allclose(stream.states[number + 1], state[0], atol=1e-4, rtol=1e-4):
            return Outcome("wrong", f"row {number + 1} is not what left layer {number}")
    everywhere = torch.ones(1, ids.shape[1], dtype=torch.bool)
    problem = difference(LogitLens(model).decode(stream.states[-1:], [None]), expected[None], everywhere)
    return Outcome("wrong", problem) if problem else Outcome("right")


LAID_OUT: dict[str, Callable[[Any], torch.Tensor]] = {
    "Gemma3nForCausalLM": lambda output: output.permute(1, 2, 0, 3).flatten(2),
    "ReformerModelWithLMHead": lambda output: torch.cat([output.hidden_states, output.attn_output], dim=-1),
    "XLNetLMHeadModel": lambda output: output[0].transpose(0, 1),
}
"""A token's state `[batch, seq, width]` in what layers return, of classes that do not return it in that order."""


def cache_outcome(model: Any, padded: bool) -> Outcome:
    """Return whether the class itself generates the same with and without its cache."""
    batch = inputs(3, padded=True) if padded else inputs(1, padded=False)
    if torch.equal(greedy(model, batch, NEW_TOKENS), greedy(model, batch, NEW_TOKENS, use_cache=False)):
        return Outcome("right")
    trial = Trial(model, None)
    checks = {check.key: check for check in trial.generation(LayerPlan.identity(len(find_layers(model)[1])), "base")}
    check = checks["base-cache-padded" if padded else "base-cache"]
    verdict = "wrong" if check.passed else "refused"
    return Outcome(verdict, f"{check.title}: no, without any surgery.")


def export_outcome(model: Any, plan: str, expected: Callable[[Inputs], torch.Tensor]) -> Outcome:
    """Return whether the saved and reopened model of a plan has the logits of an independently built one."""
    trial = Trial(model, None)
    parsed = LayerPlan.parse(plan, len(find_layers(model)[1]))
    try:
        check = trial.reload(parsed)
    except ModelError as error:
        return Outcome("refused", str(error))
    if not check.passed:
        return Outcome("refused", f"{check.title}: no. {check.detail}")
    view = operate(model, parsed)
    with tempfile.TemporaryDirectory() as folder, quiet():
        save_view(view, folder)
        saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    batch = inputs(3, padded=True)
    with torch.inference_mode():
        logits = saved(**batch, use_cache=False).logits
    problem = difference(logits, expected(batch), batch["attention_mask"].bool())
    return Outcome("wrong", problem) if problem else Outcome("right")


FOLDED = {"saved halves": halved, "saved scaled halves": parted, "saved scale": scaled}


def folded_outcome(model: Any, name: str) -> Outcome:
    """Return whether halves and factors, put into weights and opened again by plain transformers, do what hooks do.

    What would come back as another model has to be refused by the export itself.
    """
    notation, hooked, _ = FOLDED[name](model)
    layers = find_layers(model)[1]
    plan = LayerPlan.parse(notation, len(layers))
    try:
        view = folded(model, plan)
    except ModelError as error:
        return Outcome("refused", unnamed(str(error), layers))
    problem = saved_problem(view, hooked)
    if not problem:
        return Outcome("right")
    try:
        with tempfile.TemporaryDirectory() as folder:
            export_model(opened(model), plan, f"{folder}/new")
    except ModelError as error:
        return Outcome("refused", unnamed(str(error), layers))
    return Outcome("wrong", problem)


def saved_problem(view: Any, hooked: Hooked) -> str:
    """Return in what a saved view, opened again, differs from the base with hooks; empty where in nothing."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        save_view(view, folder)
        saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for batch in (inputs(1, padded=False), inputs(3, padded=True)):
        with torch.inference_mode():
            logits, expected = (one(**batch, use_cache=False).logits for one in (saved, hooked.model))
        if problem := difference(logits, expected, batch["attention_mask"].bool()):
            return problem
    return ""


def unnamed(reason: str, layers: Any) -> str:
    """Return a reason without the name of the layers' class, so that classes with the same one can share it."""
    for name in sorted({type(layer).__name__ for layer in layers}, key=len, reverse=True):
        reason = reason.replace(f"a {name}", "a layer")
    return reason


def opened(model: Any) -> LoadedModel:
    """Return a tiny model as `load_model` would."""
    facts = dict.fromkeys((field.name for field in dataclasses.fields(ModelInfo)), "")
    known = {"n_layers": len(find_layers(model)[1]), "dtype": "float32", "notes": (), "name": "tiny", "licence": None}
    return LoadedModel(model, build_tokenizer(), ModelInfo(**(facts | known | {"adapter": None, "gguf": None})))


def difference(logits: torch.Tensor, expected: torch.Tensor, real: torch.Tensor) -> str:
    """Return how far logits `[batch, seq, vocab]` are from those expected at real tokens; empty within 1e-5."""
    worst = float((logits[real] - expected[real]).abs().max())
    return "" if worst <= 1e-5 * max(1.0, float(expected[real].abs().max())) else f"logits differ by {worst:.1g}"
