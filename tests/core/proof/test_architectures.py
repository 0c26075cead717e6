"""Every causal LM class that can be built from a tiny config, under every plain surgery.

A view's logits are compared with an independent model: one built anew from a config of the new depth with its
per-layer lists permuted, its weights copied by name; where a config cannot express the order, with the base's own
layers called one by one. Cached generation is compared with uncached. What `prove` lets pass must be right.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from surgery_core.errors import ModelError
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Slot
from surgery_core.proof.layer_by_layer import ByHand
from surgery_core.proof.preflight import prove
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.in_place import ModelSurgery
from surgery_core.surgery.names import INDEX_NAMES
from surgery_core.surgery.view import operate
from tests.core.support import zoo
from tests.core.support.columns import (
    FAILURES,
    FOLDED,
    NEW_TOKENS,
    SLOTS,
    Outcome,
    cache_outcome,
    difference,
    export_outcome,
    folded_outcome,
    inputs,
    lens_outcome,
    slot_outcome,
)
from tests.core.support.families import greedy

EXPORTED = "delete"
"""The surgery whose saved copy is opened again."""

SURGERIES = {
    "delete": (0, 1, 3),
    "delete first": (1, 2, 3),
    "swap": (0, 2, 1, 3),
    "reverse": (3, 2, 1, 0),
    "repeat": (0, 1, 1, 2, 3),
}
SUPPORT = Path(__file__).parents[3] / "docs" / "support.md"

IN_PLACE = "in place"
COLUMNS = (
    *SURGERIES, IN_PLACE, *SLOTS, "lens", "cached generation", "left-padded batch", "export and reload", *FOLDED,
)  # fmt: skip


def rebuilt(model: Any, order: Sequence[int]) -> Any | None:
    """Return an independently built model, or None where its config cannot express the order."""
    path, layers = find_layers(model)
    n_layers = len(layers)
    try:
        config = copy.deepcopy(model.config)
        settings = config.to_dict()
        inner = settings["text_config"] if isinstance(settings.get("text_config"), dict) else settings
        for key, value in list(inner.items()):
            if key in zoo.DEPTHS and value == n_layers:
                inner[key] = len(order)
            elif isinstance(value, list) and len(value) == n_layers and "token" not in key:
                inner[key] = [value[index] for index in order]
        built = AutoModelForCausalLM.from_config(type(config).from_dict(settings))
    except FAILURES:
        return None
    old, prefix = model.state_dict(), f"{path}."
    new = {name: tensor for name, tensor in old.items() if not name.startswith(prefix)}
    for position, index in enumerate(order):
        source = f"{prefix}{index}."
        new |= {f"{prefix}{position}.{n.removeprefix(source)}": t for n, t in old.items() if n.startswith(source)}
    shapes = {name: tensor.shape for name, tensor in built.state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in new.items()}:
        return None
    built.load_state_dict({name: tensor.clone() for name, tensor in new.items()})
    if not same_constants(layers, find_layers(built)[1], order):
        return None
    return built.float().eval().requires_grad_(False)


def same_constants(layers: Any, rebuilt_layers: Any, order: Sequence[int]) -> bool:
    """Whether every number that a layer computed from its index when it was built is the one it had in the base."""
    for position, index in enumerate(order):
        ours, theirs = layers[index].named_modules(), rebuilt_layers[position].named_modules()
        for (_, left), (_, right) in zip(ours, theirs, strict=True):
            if numbers(left) != numbers(right):
                return False
    return True


def numbers(module: Any) -> dict[str, Any]:
    plain = {name: value for name, value in module.__dict__.items() if isinstance(value, (int, float, str))}
    return {name: value for name, value in plain.items() if name not in INDEX_NAMES}


def expected_logits(model: Any, order: Sequence[int], batch: dict[str, torch.Tensor], plan: LayerPlan) -> torch.Tensor:
    built = rebuilt(model, order)
    if built is None or find_layers(built)[0] != find_layers(model)[0]:
        return ByHand(model, batch).logits(plan)
    with torch.inference_mode():
        logits: torch.Tensor = built(**batch, use_cache=False).logits
    return logits


def is_right(model: Any, plan: LayerPlan, order: Sequence[int]) -> str:
    """Return what is wrong with the view, or an empty string."""
    view = operate(model, plan)
    for batch in (inputs(2, padded=False), inputs(3, padded=True)):
        expected = expected_logits(model, order, batch, plan)
        with torch.inference_mode():
            logits = view(**batch, use_cache=False).logits
        real = batch["attention_mask"].bool()
        if problem := difference(logits, expected, real):
            return problem
    for batch in (inputs(1, padded=False), inputs(3, padded=True)):
        if not torch.equal(greedy(view, batch, NEW_TOKENS), greedy(view, batch, NEW_TOKENS, use_cache=False)):
            return "cached generation differs from uncached"
    return ""


def judge(model: Any, order: Sequence[int]) -> Outcome:
    """Return the outcome of one surgery. What `prove` refuses is refused; what it lets pass has to be right."""
    n_layers = len(find_layers(model)[1])
    plan = LayerPlan(tuple(Slot.of(index) for index in order), n_layers)
    try:
        prove(model, None, plan)
    except ModelError as error:
        return Outcome("refused", str(error))

    def run() -> Outcome:
        problem = is_right(model, plan, order)
        return Outcome("wrong", problem) if problem else Outcome("right")

    return outcome_of(run)


@cache
def outcomes(model_type: str) -> dict[str, Outcome]:
    """Return the outcome of every surgery for a model type; empty where it cannot be built here."""
    model = zoo.try_build(model_type)
    if model is None:
        return {}
    try:
        find_layers(model)
    except ModelError as error:
        return dict.fromkeys(COLUMNS, Outcome("refused", str(error)))
    found = {name: judge(model, order) for name, order in SURGERIES.items()}
    return found | {IN_PLACE: outcome_of(partial(in_place_outcome, model, found))} | further(model)


def in_place_outcome(model: Any, found: dict[str, Outcome]) -> Outcome:
    """Return the outcome of `ModelSurgery` over the surgeries that views do right: as right, and nothing left behind."""
    passing = [order for name, order in SURGERIES.items() if found[name].verdict == "right"]
    if not passing:
        return next(outcome for outcome in found.values() if outcome.verdict != "right")
    settings, batches = model.config.to_dict(), (inputs(2, padded=False), inputs(3, padded=True))
    with torch.inference_mode():
        before = model(**batches[0], use_cache=False).logits
    for order in passing:
        plan = LayerPlan(tuple(Slot.of(index) for index in order), len(find_layers(model)[1]))
        expected = [expected_logits(model, order, batch, plan) for batch in batches]
        with ModelSurgery(model).apply(plan):
            for batch, wanted in zip(batches, expected, strict=True):
                with torch.inference_mode():
                    logits = model(**batch, use_cache=False).logits
                if problem := difference(logits, wanted, batch["attention_mask"].bool()):
                    return Outcome("wrong", f"{plan}: {problem}")
            if not torch.equal(
                greedy(model, batches[1], NEW_TOKENS), greedy(model, batches[1], NEW_TOKENS, use_cache=False)
            ):
                return Outcome("wrong", f"{plan}: cached generation differs from uncached")
    with torch.inference_mode():
        after = model(**batches[0], use_cache=False).logits
    if model.config.to_dict() != settings or not torch.equal(before, after):
        return Outcome("wrong", "the model is not what it was before")
    return Outcome("right")


def further(model: Any) -> dict[str, Outcome]:
    """Return the outcome of everything besides the plain surgeries."""
    order = SURGERIES[EXPORTED]
    plan = ",".join(map(str, order))
    parsed = LayerPlan.parse(plan, len(find_layers(model)[1]))
    trials: dict[str, Callable[[], Outcome]] = {
        **{name: partial(slot_outcome, model, name) for name in SLOTS},
        "lens": partial(lens_outcome, model),
        "cached generation": partial(cache_outcome, model, padded=False),
        "left-padded batch": partial(cache_outcome, model, padded=True),
        "export and reload": partial(
            export_outcome, model, plan, lambda batch: expected_logits(model, order, batch, parsed)
        ),
        **{name: partial(folded_outcome, model, name) for name in FOLDED},
    }
    return {name: outcome_of(trial) for name, trial in trials.items()}


def outcome_of(trial: Callable[[], Outcome]) -> Outcome:
    """Return a trial's outcome; an error that is not a refusal is a wrong one."""
    try:
        return trial()
    except FAILURES as error:
        return Outcome("wrong", f"{type(error).__name__}: {str(error)[:120]}")


SAMPLE = ("falcon", "gemma3n_text", "gptj", "mamba", "mixtral", "recurrent_gemma", "xlm")
"""One of each kind that is hard in its own way; all the others run with `pytest -m matrix`."""


@pytest.mark.parametrize("model_type", SAMPLE)
def test_no_wrong_answer_is_let_pass_in_the_sample(model_type: str) -> None:
    assert outcomes(model_type), "not built"
    wrong = {name: outcome.reason for name, outcome in outcomes(model_type).items() if outcome.verdict == "wrong"}
    assert not wrong


@pytest.mark.matrix
@pytest.mark.parametrize("model_type", zoo.model_types())
def test_no_wrong_answer_is_let_pass(model_type: str) -> None:
    wrong = {name: outcome.reason for name, outcome in outcomes(model_type).items() if outcome.verdict == "wrong"}
    assert not wrong


@pytest.mark.matrix
def test_nearly_every_class_that_can_be_built_passes_every_surgery() -> None:
    found = {model_type: outcomes(model_type) for model_type in zoo.model_types()}
    built = {model_type: results for model_type, results in found.items() if results}
    passing = [t for t, results in built.items() if all(results[name].verdict == "right" for name in SURGERIES)]
    if os.environ.get("WRITE_SUPPORT_TABLE"):
        SUPPORT.write_text(table(found), encoding="utf-8")
    assert len(built) >= 175
    assert len(passing) / len(built) >= BAR


@pytest.mark.matrix
def test_the_logit_lens_is_right_wherever_every_surgery_is() -> None:
    found = {model_type: outcomes(model_type) for model_type in zoo.model_types()}
    passing = [t for t, results in found.items() if results and all(results[n].verdict == "right" for n in SURGERIES)]
    assert [model_type for model_type in passing if found[model_type]["lens"].verdict != "right"] == []


@pytest.mark.matrix
def test_most_classes_hold_halves_and_factors_in_their_weights() -> None:
    """A factor on a whole layer is in weights only where both halves read the same, or where a layer is one part."""
    found = [results for t in zoo.model_types() if (results := outcomes(t))]
    right = {name: sum(results[name].verdict == "right" for results in found) for name in FOLDED}
    assert right["saved halves"] >= 160
    assert right["saved scaled halves"] >= 130
    assert right["saved scale"] >= 14


@pytest.mark.matrix
def test_every_no_has_a_plain_sentence_for_a_reason() -> None:
    found = [results for t in zoo.model_types() for results in outcomes(t).values()]
    assert [one.reason for one in found if one.verdict != "right" and RAW.search(one.reason)] == []


RAW = re.compile(r"\w+Error\b|stopped with|<class|'\w+' object")
"""Marks of the text of a Python exception."""

BAR = 0.95
"""Share of the classes that must pass all five surgeries; docs/support.md says what is refused and why."""


def table(found: dict[str, dict[str, Outcome]]) -> str:
    """Return the support table as Markdown."""
    head = ["architecture", *COLUMNS]
    lines = ["# Support by architecture", "", INTRODUCTION, "", summary(found), ""]
    lines += [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    why: dict[tuple[str, str], list[str]] = {}
    for model_type, results in sorted(found.items()):
        if not results:
            continue
        cells = ["yes" if results[name].verdict == "right" else "no" for name in COLUMNS]
        lines.append(f"| {model_type} | {' | '.join(cells)} |")
        for reason, what in reasons(results).items():
            why.setdefault((what, reason), []).append(model_type)
    notes = [f"- {named(model_types)}, {what}: {reason}" for (what, reason), model_types in why.items()]
    missing = ", ".join(sorted(t for t, results in found.items() if not results))
    return "\n".join([*lines, "", "## Why not", "", *notes, "", "## Not built", "", NOT_BUILT, "", missing, ""])


def named(model_types: Sequence[str]) -> str:
    """Return the classes that share a reason."""
    return f"**{', '.join(model_types)}**" if len(model_types) < MANY else f"{len(model_types)} classes"


MANY = 100
"""So many classes that share a reason are not listed by name: the table has them."""


def reasons(results: dict[str, Outcome]) -> dict[str, str]:
    """Return every reason with what it is the reason for."""
    why: dict[str, list[str]] = {}
    for name in COLUMNS:
        if results[name].verdict != "right":
            why.setdefault(results[name].reason, []).append(name)
    return {reason: ", ".join(names) for reason, names in why.items()}


def summary(found: dict[str, dict[str, Outcome]]) -> str:
    """Return how many classes there are, how many were built, and how many pass each column."""
    built = [results for results in found.values() if results]
    whole = sum(all(results[name].verdict == "right" for name in SURGERIES) for results in built)
    counts = ", ".join(f"{name} {sum(r[name].verdict == 'right' for r in built)}" for name in COLUMNS)
    return (
        f"{len(built)} of {len(found)} classes were built. {whole} of them ({whole / len(built):.1%}) pass all five of "
        f"{', '.join(SURGERIES)}. By column: {counts}."
    )


INTRODUCTION = (
    "Written by `tests/core/proof/test_architectures.py` (with `WRITE_SUPPORT_TABLE=1`), from a tiny random model of every "
    "causal LM class of the pinned transformers. `yes`: logits equal those of an independently built model, and 10 "
    "greedily generated tokens are the same with and without the KV cache, for one prompt and for a left-padded "
    "batch of three. In place: the same with `ModelSurgery`, and the model is what it was afterwards. "
    "Parts, scale, parallel, damped and mean: logits equal those of the base with hooks on its layers. Lens: every "
    "row is what left its layer, and the last one, read through all that comes behind the layers, gives the model's own "
    "logits. Cached generation and left-padded batch: the "
    "class itself, without surgery, writes the same with and without its cache. Export: the saved copy of `delete`, opened "
    "by plain transformers, equals an independently built model. Saved halves, saved scaled halves, saved scale: the export of "
    "`0,1.attn,2.mlp,3`, of `0,1.attn*0.5,2.mlp*-3,3` and of `0,1*0.5,2,3*-2`, whose factors become part of the weights, "
    "opened by plain transformers, equals the base with hooks on its layers. `no`: it is refused, or preflight says so, for the "
    "reason below."
)
NOT_BUILT = "These need parts that a tiny config cannot make (or packages that are not required):"
