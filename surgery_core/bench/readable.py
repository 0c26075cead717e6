"""Arguments as a person reads them: plain values as they are, everything else in a few words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from surgery_core.plans.plan import LayerPlan

MAX_VALUES = 256
"""Most numbers of a tensor or array, or members of a list, that are written out."""
MAX_TEXT = 10_000
"""Most characters of a text that are written out."""
_DEPTH = 8


def readable(value: Any, depth: int = _DEPTH) -> Any:
    """Return an argument as plain JSON: numbers and texts as they are, records by their fields, the rest described."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (str, Path)):
        return _shortened(str(value))
    if isinstance(value, LayerPlan):
        return value.notation
    if isinstance(value, nn.Module):
        return f"{type(value).__name__} ({sum(p.numel() for p in value.parameters()):,} parameters)"
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        return _numbers(value)
    if isinstance(value, (pd.DataFrame, pd.Series)):
        return f"{type(value).__name__} of {len(value):,} rows"
    return _made_of(value, depth - 1) if depth else _shortened(repr(value))


def described(value: Any) -> str:
    """Return what kind of thing a value is, and how it is printed."""
    return _shortened(f"{type(value).__module__}.{type(value).__qualname__}: {value!r}")


def _made_of(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return {str(key): readable(item, depth) for key, item in list(value.items())[:MAX_VALUES]}
    if isinstance(value, (list, tuple, range, Set)):
        more = [f"... {len(value):,} in all"] if len(value) > MAX_VALUES else []
        return [*(readable(item, depth) for item in list(value)[:MAX_VALUES]), *more]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: readable(getattr(value, field.name), depth) for field in fields(value)}
    name = getattr(value, "__qualname__", None)
    return name if isinstance(name, str) else described(value)


def _numbers(value: torch.Tensor | np.ndarray[Any, Any] | np.generic) -> Any:
    kind = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if (value.numel() if isinstance(value, torch.Tensor) else value.size) > MAX_VALUES:
        return kind
    values = value.detach().cpu().tolist() if isinstance(value, torch.Tensor) else value.tolist()
    return {"kind": kind, "values": readable(values)}


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... {len(text):,} characters in all"
