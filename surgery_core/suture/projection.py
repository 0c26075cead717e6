"""The last projection of a layer: the one module whose weight a linear map on what the layer adds can go into.

A map T on what the MLP adds is T·W in the MLP's last projection W only where nothing but a factor stands between that
projection and the residual stream. Whether that is so is found by trying: the projection's output is replaced, and what
leaves the layer has to change by just that, times one number. A norm behind the MLP (Gemma 2 and 3, OLMo 2), a gate on it,
or experts that share the work do not pass; parallel attention, biases and factors do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from surgery_core.errors import RefusedPlanError
from surgery_core.plans.slots import Layer
from surgery_core.surgery.layer_io import hidden_input, hidden_of
from surgery_core.surgery.layer_parts import halves_of
from surgery_core.surgery.recording import Call, watched

_LAST = 3
"""Projections at the end of a half that are tried: behind the one that makes what it adds there may be one for a gate."""

_CLOSE = {torch.float32: 1e-4, torch.float64: 1e-6}
"""Largest part of a change that may be something else than the projection's output times a number."""
_CLOSE_IN_HALF = 3e-2


@dataclass(frozen=True)
class Projection:
    """Where a map can go.

    Attributes:
        path: of the projection in its layer.
        gain: what its output is multiplied by before it is added to the residual stream.
        transposed: whether its weight is `[width, d_model]`, as GPT-2's Conv1D keeps it.
        has_bias: whether it adds a bias.
    """

    path: str
    gain: float
    transposed: bool
    has_bias: bool

    def added(self, module: nn.Module, change: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return weight and bias with a map `[width, d_model]` added, as the module keeps them.

        Where the projection has a bias, the map's last row is what is added to that.
        """
        weight, bias = module._parameters["weight"], module._parameters.get("bias")
        if weight is None:
            raise LookupError(f"{self.path} has no weight.")
        rows = change[: weight.shape[0 if self.transposed else 1]]
        mapped = weight.detach().double().cpu() + (rows if self.transposed else rows.T)
        shift = None if bias is None else (bias.detach().double().cpu() + change[-1]).to(bias)
        return mapped.to(weight).contiguous(), shift


def find_projection(layer: nn.Module, spec: Layer, call: Call, look: Callable[[], None] = lambda: None) -> Projection:
    """Return the last projection of what a layer adds last: of its MLP, or of its attention where its MLP is cut.

    Args:
        layer: of a private view; it runs some times.
        spec: how the plan runs it.
        call: how it was called on a few tokens.
        look: called before it runs; it may raise to stop the work.

    Raises:
        RefusedPlanError: when there is none that a map can go into.
    """
    half = _last_half(layer, spec)
    with torch.inference_mode(), watched([layer], lambda number, inner: look()):
        for path in _candidates(layer, half, call):
            found = _tried(layer, path, call)
            if found is not None:
                return found
    raise RefusedPlanError(
        f"L{spec.index} cannot be stitched: what leaves a {type(layer).__name__} is not just what entered it with the output "
        "of one last projection (a norm, a gate or experts stand behind it), so no map can be folded into that."
    )


def _last_half(layer: nn.Module, spec: Layer) -> str:
    """Return the path of the half that adds last."""
    halves = halves_of(layer)
    paths = halves.attention if spec.part == "attn" else halves.mlp
    if len(paths) == 1:
        return paths[0]
    what = "no separate MLP" if not paths else f"{len(paths)} MLPs side by side"
    raise RefusedPlanError(
        f"L{spec.index} cannot be stitched: a {type(layer).__name__} has {what}, so there is no one projection that a map "
        "could be folded into."
    )


def _candidates(layer: nn.Module, half: str, call: Call) -> list[str]:
    """Return the projections in a half that ran, the last one first, and no more than some."""
    within = layer.get_submodule(half)
    paths = [f"{half}.{name}" if name else half for name, module in within.named_modules() if _is_projection(module)]
    order: list[str] = []
    modules = [layer.get_submodule(path) for path in paths]
    with watched(modules, returned=lambda number, inner, output: order.append(paths[number])):
        layer(*call[0], **call[1])
    return order[::-1][:_LAST]


def _is_projection(module: nn.Module) -> bool:
    weight = module._parameters.get("weight")
    return (
        weight is not None
        and weight.dim() == 2
        and weight.is_floating_point()
        and not weight.is_meta
        and not list(module.children())
    )


def _tried(layer: nn.Module, path: str, call: Call) -> Projection | None:
    module: Any = layer.get_submodule(path)
    inputs, made = _run_of(layer, module, call)
    transposed = _orientation(module, inputs, made)
    if transposed is None:
        return None
    noise = torch.randn(made.shape, generator=torch.Generator().manual_seed(0)).to(made) * made.std().clamp_min(1e-3)
    nothing, noisy, own = (_with_output(layer, module, call, output) for output in (made * 0, noise, made))
    if own.shape != hidden_input(*call).shape or own.shape[-1] != made.shape[-1]:
        return None
    gain = float(((noisy - nothing).flatten() @ noise.reshape(-1).float()) / noise.float().pow(2).sum())
    most = _CLOSE.get(made.dtype, _CLOSE_IN_HALF)
    rest = [(left - nothing) - gain * out.reshape(left.shape).float() for left, out in ((noisy, noise), (own, made))]
    if abs(gain) < 1e-6 or any(float(one.std()) > most * float((noisy - nothing).std()) for one in rest):
        return None
    return Projection(path, gain, transposed, module._parameters.get("bias") is not None)


def _run_of(layer: nn.Module, module: nn.Module, call: Call) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a module of a layer is given and returns when the layer runs."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    with watched([module], returned=lambda number, inner, output: seen.append((hidden_input(*inner), output))):
        layer(*call[0], **call[1])
    return seen[-1]


def _orientation(module: nn.Module, inputs: torch.Tensor, made: Any) -> bool | None:
    """Return whether a module's weight is transposed; None where it is not that linear map of its input."""
    weight: Any = module._parameters["weight"]
    bias = module._parameters.get("bias")
    if not isinstance(made, torch.Tensor) or type(weight) is not nn.Parameter:
        return None
    for transposed in (False, True):
        matrix = weight if transposed else weight.T
        if inputs.shape[-1] == matrix.shape[0] and made.shape[-1] == matrix.shape[1]:
            ours = inputs.float() @ matrix.float() + (0 if bias is None else bias.float())
            most = 10 * _CLOSE.get(made.dtype, _CLOSE_IN_HALF)
            if float((ours - made.float()).abs().max()) <= most * float(made.float().abs().max().clamp_min(1e-6)):
                return transposed
    return None


def _with_output(layer: nn.Module, module: nn.Module, call: Call, output: torch.Tensor) -> torch.Tensor:
    """Return what leaves a layer whose projection returns `output`, in float32."""
    hook = module.register_forward_hook(lambda *_: output)
    try:
        # a layer may write into its input
        args, kwargs = call
        first = hidden_input(args, kwargs).clone()
        given = ((first, *args[1:]), kwargs) if args else ((), {**kwargs, "hidden_states": first})
        return hidden_of(layer(*given[0], **given[1])).float()
    finally:
        hook.remove()
