"""Factors and halves of layers as weights, so that an ordinary checkpoint can hold them.

What a half of a layer adds is made by its last projection, or by the norm behind that where a family has one: with the
factor in those weights and biases (0 for a half that does not run) the half adds that much. Which weights these are is
found by trying, each layer by itself, on the states that enter it.

A factor on a whole layer is one on each half only where both read the same input (GPT-NeoX, GPT-J, Phi, Falcon). In
other layers the MLP reads what the attention has added, and in x + f·(a + m(x + a)) it has to read all of it, while the
stream gets f·a: no weights do both. That is refused; the plan `7.attn*0.5,7.mlp*0.5`, whose MLP reads x + f·a, can be
saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import nn

from surgery_core.errors import RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Layer, format_number
from surgery_core.proof.checks import tolerance
from surgery_core.surgery.adapters import has_adapter, merge
from surgery_core.surgery.anatomy import device_of, find_layers
from surgery_core.surgery.closeness import relative_difference
from surgery_core.surgery.layer_io import contributed, hidden_input, hidden_of
from surgery_core.surgery.layer_parts import halves_of
from surgery_core.surgery.recording import Call, recorded
from surgery_core.surgery.stitches import Stitches
from surgery_core.surgery.view import operate

LAST = ("down_proj", "w2", "output_linear", "output.dense", "wo")
"""Parts of names of the last projections of experts, which are no modules of their own."""
_ROUNDING = 1e-5
"""Of sums in float32, as a share of their spread."""
_MOST = 81
"""Most ways in which one layer is tried."""
_LAST_PROJECTIONS = 3
"""Projections at the end of a half that are tried: behind the one that makes what it adds there may be one for a gate."""


@dataclass(frozen=True)
class Spot:
    """Where a half's factor goes: parameters of the layer by name, and what is added to each before it counts.

    Norms of Gemma multiply by one more than their weight.
    """

    parameters: tuple[tuple[str, float], ...]


def folded(model: Any, plan: LayerPlan, stitches: Stitches | None = None) -> Any:
    """Return a view of whole layers that computes what the plan's scaled and half layers do, adapters merged.

    Args:
        model: the base; it is not changed.
        plan: slots of one layer each, whole, half or scaled.
        stitches: projections that were fitted for this plan, which are weights already.

    Returns:
        The view; changed layers have weights of their own.

    Raises:
        RefusedPlanError: when the weights of a layer cannot express its factor or half.
    """
    view, found = _folded(model, plan, stitches)
    if any(found):
        _require_equal(view, operate(model, plan, stitches=stitches), plan)
    return view


def factors(model: Any, plan: LayerPlan) -> list[dict[str, float]]:
    """Return, for each slot, the factors on parameters of its layer, by their names in it, that do what the plan says.

    Raises:
        RefusedPlanError: as `folded`, and where a parameter does not count by itself (norms of Gemma).
    """
    named = []
    for slot, found in zip(plan, _folded(model, plan)[1], strict=True):
        if shifted := [name for spot, _ in found for name, shift in spot.parameters if shift]:
            raise RefusedPlanError(f"{slot} is no factor on a weight: {shifted[0]} counts from one in this model.")
        named.append({name: factor for spot, factor in found for name, _ in spot.parameters})
    return named


Found = list[tuple[Spot, float]]
"""Where the factors of a layer went."""


def _folded(model: Any, plan: LayerPlan, stitches: Stitches | None = None) -> tuple[Any, list[Found]]:
    whole = LayerPlan(tuple(slot.map(_whole) for slot in plan), plan.n_layers)
    view = operate(model, whole, stitches=None if stitches is None else stitches.mapped(_whole))
    _merge(view)
    if whole == plan:
        return view, [[] for _ in plan]
    asked = operate(model, plan, stitches=stitches)
    layers, wanted = find_layers(view)[1], find_layers(asked)[1]
    # each layer is tried on what enters it in the model that was asked for
    with torch.no_grad(), recorded(wanted) as seen:
        asked(input_ids=probe(asked), use_cache=False)
    found: list[Found] = []
    for number, slot in enumerate(plan):
        plain = slot.layers[0] == _whole(slot.layers[0])
        call, most = seen.calls.get(number), tolerance(asked)
        found.append([] if plain else _fold(layers[number], wanted[number], call, slot.layers[0], most))
    return view, found


def _merge(view: Any) -> None:
    """Make adapters in a view part of its weights, and refuse where that changes what it computes."""
    if not has_adapter(view):
        return
    ids = probe(view)
    with torch.inference_mode():
        before = view(ids).logits
        merge(view)
        worst = relative_difference(view(ids).logits, before)
    if worst > tolerance(view):
        raise RefusedPlanError(
            f"The adapter cannot be merged in {view.dtype}: that would change logits by {worst:.1e} of their spread; "
            "open the model with dtype float32."
        )


def probe(model: Any) -> torch.Tensor:
    """Return 16 tokens `[1, seq]` on which models are compared."""
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    return torch.arange(16, device=device_of(model))[None] % vocabulary


def _whole(layer: Layer) -> Layer:
    return replace(layer, part="both", scale=1.0)


def _fold(layer: Any, wanted: Any, call: Call | None, spec: Layer, most: float) -> Found:
    """Put a factor or half into the weights of a layer, and return where they went."""
    halves = halves_of(layer)
    paths = [(path, "attn") for path in halves.attention] + [(path, "mlp") for path in halves.mlp]
    if call is None or not paths:
        raise RefusedPlanError(
            f"A checkpoint cannot hold {spec}: a {type(layer).__name__} has no parts to put it into."
        )
    amounts = [spec.scale if spec.part in ("both", kind) else 0.0 for _, kind in paths]
    with torch.no_grad():
        expected, untouched = _added(wanted, call), _added(layer, call)
        # in half precision a small factor is within the tolerance by itself, so a way has to come much closer than none
        most = min(most, 0.1 * relative_difference(untouched, expected)) + _ROUNDING
        found, undo = _tried(layer, [path for path, _ in paths], amounts, call, expected, most)
        if found is not None:
            return found
        alone = False
        if spec.part != "both" and spec.scale not in (0, 1):
            bare = [1.0 if amount else 0.0 for amount in amounts]
            half, undo = _tried(layer, [path for path, _ in paths], bare, call, expected / spec.scale, most)
            alone = half is not None
            undo()
    raise RefusedPlanError(_why(layer, spec, both=halves.both, alone=alone))


def _tried(
    layer: Any, paths: Sequence[str], amounts: Sequence[float], call: Call, expected: torch.Tensor, most: float
) -> tuple[Found | None, Callable[[], None]]:
    """Put amounts into the weights of a layer so that it adds what is expected.

    Returns:
        Where they went, and what takes that back; None where no way was found, and the layer is as it was.
    """
    for choice in _first(product(*_spots(layer, paths, amounts, call)), _MOST):
        put = [(spot, amount) for spot, amount in zip(choice, amounts, strict=True) if amount != 1]
        undo = [_put(layer, spot, amount) for spot, amount in put]

        def back(undo: Sequence[Callable[[], None]] = undo) -> None:
            for one in reversed(undo):
                one()

        if _same(_added(layer, call), expected, most):
            return put, back
        back()
    return None, lambda: None


def _first(ways: Iterator[tuple[Spot, ...]], most: int) -> Iterator[tuple[Spot, ...]]:
    yield from (way for _, way in zip(range(most), ways, strict=False))


def _why(layer: nn.Module, spec: Layer, *, both: bool, alone: bool) -> str:
    name = type(layer).__name__
    if spec.part == "both" and both:
        halves = ",".join(str(replace(spec, part=part)) for part in ("attn", "mlp"))
        return (
            f"A checkpoint cannot hold {spec}: the MLP of a {name} reads what its attention has added, so a factor on what "
            f"both add is no factor in their weights. The plan {halves} scales each half by {format_number(spec.scale)} and "
            "can be saved."
        )
    if alone:
        return (
            f"A checkpoint cannot hold {spec}: what leaves a {name} is not just what entered it with what its halves add (a "
            "norm, a gate or a factor stands behind), so a factor on the difference is no factor in their weights. "
            f"{replace(spec, scale=1.0)} without one can be saved."
        )
    return f"A checkpoint cannot hold {spec}: no weights of a {name} are known into which it could go."


def _added(layer: Any, call: Call) -> torch.Tensor:
    args, kwargs = call
    entering = hidden_input(args, kwargs).clone()
    return contributed(entering, layer(*args, **kwargs))[1]


def _same(found: torch.Tensor, expected: torch.Tensor, most: float) -> bool:
    if not bool(expected.any()):
        return not bool(found.any())
    return relative_difference(found, expected) <= most


def _spots(layer: Any, paths: Sequence[str], amounts: Sequence[float], call: Call) -> list[list[Spot]]:
    """Return, for each half, the places where its factor may go, the likeliest first."""
    with _watching(layer) as seen:
        layer(*call[0], **call[1])
    ran = {name for name, _, _ in seen}
    # nothing is to be changed in a half that stays, or that no text reaches, as a decoder's that asks an encoder
    return [
        _spots_of(layer, path, seen) if path in ran and amount != 1 else [Spot(())]
        for path, amount in zip(paths, amounts, strict=True)
    ]


def _spots_of(layer: Any, path: str, seen: Seen) -> list[Spot]:
    half = layer.get_submodule(path)
    inside = {f"{path}.{name}" if name else path for name, _ in half.named_modules()}
    norms = [Spot(((f"{name}.weight", shift),)) for name in _norms_behind(seen, path) for shift in (0.0, 1.0)]
    ran = [name for name, _, _ in seen if name in inside and _is_projection(layer.get_submodule(name))]
    last = [Spot(((f"{name}.weight", 0.0),)) for name in reversed(ran[-_LAST_PROJECTIONS:])]
    return [*(_with_bias(layer, spot) for spot in (*norms, *last)), *_experts(half, path)]


def _experts(half: nn.Module, path: str) -> list[Spot]:
    """Return the last projections of experts all together, without and with a bias that all of them share."""
    names = [name for name, _ in half.named_parameters()]
    last = [name for name in names if any(part in name for part in LAST)]
    shared = [
        name
        for owner, _, end in (name.rpartition("bias") for name in names)
        if not end and (not owner or owner.endswith("."))
        for name in [f"{owner}bias"]
        if name not in last and any(one.startswith(owner) for one in last)
    ]
    spots = [Spot(tuple((f"{path}.{name}", 0.0) for name in (*last, *more))) for more in ([], shared)]
    return spots[: 2 if shared else 1] if last else []


def _is_projection(module: nn.Module) -> bool:
    weight = module._parameters.get("weight")
    return weight is not None and weight.dim() >= 2 and not list(module.children())


def _with_bias(layer: nn.Module, spot: Spot) -> Spot:
    name = spot.parameters[0][0].removesuffix(".weight")
    bias = layer.get_submodule(name)._parameters.get("bias")
    return spot if bias is None else Spot((*spot.parameters, (f"{name}.bias", 0.0)))


Seen = list[tuple[str, torch.Tensor | None, torch.Tensor | None]]
"""Modules of a layer in the order in which they returned: name, first argument, output."""


@contextmanager
def _watching(layer: nn.Module) -> Iterator[Seen]:
    seen: Seen = []
    hooks = [
        module.register_forward_hook(lambda _, args, output, name=name: seen.append((name, *_tensors(args, output))))
        for name, module in layer.named_modules()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(args: tuple[Any, ...], output: Any) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    entered = args[0] if args and isinstance(args[0], torch.Tensor) else None
    left = hidden_of(output) if isinstance(output, (torch.Tensor, tuple)) and len(output) else None
    return entered, left if isinstance(left, torch.Tensor) else None


def _norms_behind(seen: Seen, path: str) -> list[str]:
    """Return the norms that read just what a half has returned, and those in it that made that."""
    outputs = [left for name, _, left in seen if name == path and left is not None]
    return [
        name
        for name, entered, left in seen
        if outputs and "norm" in name.lower() and _equal(left if name.startswith(f"{path}.") else entered, outputs[-1])
    ]


def _equal(one: torch.Tensor | None, other: torch.Tensor) -> bool:
    return one is not None and one.shape == other.shape and torch.equal(one, other)


def _put(layer: nn.Module, spot: Spot, factor: float) -> Callable[[], None]:
    """Multiply parameters by a factor, as new ones; return what takes that back."""
    before = []
    for path, shift in spot.parameters:
        where, _, name = path.rpartition(".")
        owner = layer.get_submodule(where)
        old = owner._parameters.get(name)
        if old is None:
            continue
        before.append((owner, name, old))
        owner._parameters[name] = nn.Parameter((old + shift) * factor - shift, requires_grad=False)

    def undo() -> None:
        for owner, name, old in before:
            owner._parameters[name] = old

    return undo


def _require_equal(view: Any, asked: Any, plan: LayerPlan) -> None:
    """Refuse weights with which the model as a whole does not compute what the plan does."""
    ids = probe(view)
    with torch.inference_mode():
        worst = relative_difference(view(input_ids=ids).logits, asked(input_ids=ids).logits)
    if worst > tolerance(asked):
        wider = "" if asked.dtype == torch.float32 else "open the model with dtype float32, or "
        raise RefusedPlanError(
            f"A checkpoint cannot hold {plan} of a {type(view).__name__}: with its factors and halves in the weights, logits "
            f"would differ by {worst:.1e} of their spread; {wider}export whole layers."
        )
