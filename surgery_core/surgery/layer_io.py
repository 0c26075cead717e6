"""What a layer is called with and what it returns: the residual stream in it, read and replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def hidden_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """Return the residual stream that enters a layer: its first argument, or `hidden_states`."""
    hidden: torch.Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def contributed(entering: torch.Tensor, output: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what entered a layer and what the layer added to it, both on the device on which the layer ran.

    Both are float32 at least: what a layer adds to a large state would round away in half precision, and what is made of
    it is rounded once, by `with_hidden`.
    """
    hidden = hidden_of(output)
    wide = torch.promote_types(hidden.dtype, torch.float32)
    entering = entering.to(hidden.device, wide)
    return entering, hidden.to(wide) - entering


def hidden_of(output: Any) -> torch.Tensor:
    """Return the residual stream in a layer's output, a tensor or a tuple that begins with it."""
    return output if isinstance(output, torch.Tensor) else output[0]


def with_hidden(output: Any, hidden: torch.Tensor, further: Mapping[int, Any] | None = None) -> Any:
    """Return `output` with its residual stream replaced by `hidden`, in the same form and format.

    `further` replaces other values of a tuple, by their position.
    """
    hidden = hidden.to(hidden_of(output).dtype)
    if isinstance(output, torch.Tensor):
        return hidden
    values = [hidden, *output[1:]]
    for at, value in (further or {}).items():
        values[at] = value
    return _like(output, tuple(values))


def _like(output: Any, values: tuple[Any, ...]) -> Any:
    """Return `values` as a tuple of the kind that `output` is, a named one too."""
    return type(output)(*values) if hasattr(output, "_fields") else type(output)(values)
