"""Modules that a person puts in place of a layer: checked before anything runs, then called like a layer."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from surgery_core.errors import PlanError, SurgeryError
from surgery_core.failures import FAILURES, failure
from surgery_core.surgery.anatomy import width_of
from surgery_core.surgery.layer_io import hidden_input, hidden_of
from surgery_core.surgery.names import DECLARED_WIDTHS
from surgery_core.surgery.stream_form import stream_of


class Adapter(nn.Module):
    """Calls a replacement module like a layer and answers like one.

    Args:
        module: the replacement.
        d_model: width of the residual stream.
        extras: None where layers of this model return a tensor, else how many values follow it in their tuple.
    """

    def __init__(self, module: nn.Module, d_model: int, extras: int | None) -> None:
        super().__init__()
        self.module = module
        self.d_model = d_model
        self.extras = extras
        self.accepted = _accepted_keywords(module)
        self.train(module.training)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the module's residual stream `[batch, seq, d_model]`, in the form that the model's layers use.

        Raises:
            PlanError: when the module returns another shape.
        """
        entering = hidden_input(args, kwargs)
        rest = {key: value for key, value in kwargs.items() if key != "hidden_states"}
        if self.accepted is not None:
            rest = {key: value for key, value in rest.items() if key in self.accepted}
        hidden = self._answer(entering, rest)
        if hidden.shape != entering.shape:
            raise PlanError(
                f"The replacement {type(self.module).__name__} returned the shape {list(hidden.shape)}; "
                f"a layer of this model returns {list(entering.shape)}."
            )
        return hidden if self.extras is None else (hidden, *[None] * self.extras)

    def _answer(self, entering: torch.Tensor, rest: dict[str, Any]) -> torch.Tensor:
        try:
            return hidden_of(self.module(entering, **rest))
        except (SurgeryError, torch.OutOfMemoryError):
            raise
        except FAILURES as error:
            raise PlanError(
                f"The replacement {type(self.module).__name__} cannot take the residual stream {list(entering.shape)}: "
                f"{failure(error)}"
            ) from error


def adapt(module: nn.Module, model: nn.Module) -> Adapter:
    """Return `module` wrapped so that it can stand in for a layer of `model`."""
    return Adapter(module, width_of(model), stream_of(model).extras)


def check_width(module: nn.Module, model: nn.Module) -> None:
    """Refuse a module whose declared input or output width is not that of the residual stream.

    Raises:
        PlanError: naming both widths.
    """
    d_model = width_of(model)
    for width, what in declared_widths(module, d_model):
        if width != d_model:
            raise PlanError(
                f"The replacement {type(module).__name__} {what} {width} values a token ([batch, seq, {width}]), but the "
                f"residual stream of this model is {d_model} wide ([batch, seq, {d_model}]); give a module that reads and "
                f"writes {d_model}."
            )


def declared_widths(module: nn.Module, d_model: int) -> list[tuple[int, str]]:
    """Return the (width, "reads" or "writes") that a module declares; empty where it declares nothing."""
    config = next((m.config for m in module.modules() if hasattr(m, "config")), None)
    for source in (config, module):
        for name in DECLARED_WIDTHS:
            if type(width := getattr(source, name, None)) is int:
                return [(width, "reads and writes")]
    if isinstance(module, nn.Sequential):
        return _sequential_widths(module, d_model)
    if (pair := _leaf_widths(module)) is not None:
        return [(pair[0], "reads"), (pair[1], "writes")]
    return _parameter_width(module, d_model)


def _sequential_widths(module: nn.Sequential, d_model: int) -> list[tuple[int, str]]:
    pairs = [pair for child in module if (pair := _leaf_widths(child)) is not None]
    return [(pairs[0][0], "reads"), (pairs[-1][1], "writes")] if pairs else _parameter_width(module, d_model)


def _leaf_widths(module: nn.Module) -> tuple[int, int] | None:
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    weight = getattr(module, "weight", None)
    if "norm" in type(module).__name__.lower() and isinstance(weight, torch.Tensor):
        return weight.shape[-1], weight.shape[-1]
    return None


def _parameter_width(module: nn.Module, d_model: int) -> list[tuple[int, str]]:
    """Return the width of a module with parameters none of which fits the residual stream."""
    shapes = [parameter.shape for parameter in module.parameters() if parameter.dim() > 0]
    if not shapes or any(d_model in shape for shape in shapes):
        return []
    return [(shapes[0][-1], "reads")]


def _accepted_keywords(module: nn.Module) -> frozenset[str] | None:
    """Return the keyword arguments that the module's `forward` takes, None for any."""
    parameters = inspect.signature(module.forward).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY)
