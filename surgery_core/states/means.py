"""Mean contributions of layers, measured over texts."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from surgery_core.stopping import looking
from surgery_core.surgery.anatomy import device_of
from surgery_core.surgery.ingredients import Means

_TOKENS = 256
"""Tokens whose states are summed at once, in float64."""


def mean_contributions(
    model: nn.Module, tokenizer: Any, texts: Iterable[Any], *, stop: threading.Event | None = None
) -> Means:
    """Return the mean contribution of every layer over texts.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        texts: `Text` records; of one longer than the context only the beginning is read.
        stop: when set, the work ends with `Stopped`.

    Raises:
        TextError: when a text has no token.
        Stopped: when `stop` was set.
    """
    from surgery_core.states.residuals import residuals
    from surgery_core.states.windows import window_length
    from surgery_core.text import as_texts, encode

    found, look = as_texts(texts), looking(stop, "Stopped before all texts were read.")
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    for text in found:
        ids = encode(tokenizer, text)[: window_length(model)]
        states = residuals(model, torch.tensor([ids], device=device_of(model)), look=look).states
        for some in states.split(_TOKENS, dim=1):  # type: ignore[no-untyped-call]
            # float64 only once it is on the CPU: Apple's GPU has none
            own = some.cpu().double()
            total = total + (own[1:] - own[:-1]).sum(1)
        count += len(ids)
    dtype = next(model.parameters()).dtype
    return Means((total / count).to(dtype), tuple(text.title for text in found), count)
