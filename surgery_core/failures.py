"""What a model's own code raises on what it cannot do, and how that is said."""

from __future__ import annotations

from huggingface_hub.errors import StrictDataclassError
from torch import nn

from surgery_core.errors import SurgeryError

FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, StrictDataclassError)
"""Errors of a model's own code, or of the writing of its config. Those of this package are among them."""


_NO_MEMORY = ("not enough memory", "out of memory", "can't allocate memory", "cannot allocate memory")
"""How torch says it, on each device; numpy and Python have a class for it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether something ended because there was not enough memory for it."""
    return isinstance(error, MemoryError) or (
        isinstance(error, (RuntimeError, OSError)) and any(sign in str(error).lower() for sign in _NO_MEMORY)
    )


def failure(error: BaseException) -> str:
    """Return in a sentence why a model stopped."""
    if isinstance(error, SurgeryError):
        return str(error)
    if is_out_of_memory(error):
        return "There was not enough memory for it; close what is not needed, or choose less."
    if isinstance(error, AttributeError) and isinstance(error.obj, nn.Module):
        return (
            f"The model uses {error.name} of a {type(error.obj).__name__}, which only some of its layers have, and this "
            "one stands in the place of one that has it."
        )
    lines = str(error).splitlines() or [""]
    return f"It stopped with {type(error).__name__}: {lines[0][:160]}"
