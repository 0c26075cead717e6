"""Run only what comes after the layers, as the model itself would: final norm, head, scales and soft caps.

A view with a single slot whose layer returns a given hidden state leaves everything behind the layers to the
model's own code, whatever the architecture does there.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext

import torch
from torch import nn

from surgery_core.errors import AnatomyError
from surgery_core.surgery.stream_form import decoded, injecting, stream_of, with_layers


class Tail:
    """The part of a model behind its layers.

    Args:
        model: a transformers causal language model, or a view of one. A view without layers has its base's tail.

    Raises:
        RefusedPlanError: when there is no layer to stand in for.
        AnatomyError: when what comes behind the layers needs more than a state for each token.
    """

    def __init__(self, model: nn.Module) -> None:
        model = with_layers(model)
        self.stream = stream_of(model)
        if self.stream.problem:
            raise AnatomyError(self.stream.problem)
        self.hidden = threading.local()
        self.model = injecting(model, self.stream, self.hidden)

    @property
    def width(self) -> int:
        """Return how many values a state has: d_model, or that of all streams where a model has several."""
        return self.stream.width

    def logits(self, hidden: torch.Tensor, *, grad: bool = False) -> torch.Tensor:
        """Return the logits `[..., seq, vocab]` of hidden states `[..., seq, width]` as they leave a layer.

        With `grad`, gradients flow back to the hidden states.
        """
        with nullcontext() if grad else torch.inference_mode():
            return decoded(self.model, self.stream, self.hidden, hidden)
