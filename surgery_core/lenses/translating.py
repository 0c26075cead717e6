"""What lenses with a map for each layer share: how rows are decoded, and for which models they are."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from surgery_core.errors import LensError
from surgery_core.states.tail import Tail
from surgery_core.surgery.anatomy import root_of, width_of
from surgery_core.surgery.stream_form import stream_of


def is_whole(tensor: torch.Tensor) -> bool:
    """Return whether a tensor that was read has memory for each of its numbers: a file can say many and hold one."""
    return tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()


class TranslatingLens(ABC):
    """A lens that maps a row of the residual stream before the model's own decoding.

    Args:
        model: the model, or a view of it, whose norm and unembedding decode.

    Attributes:
        by_slot: whether the maps belong to the slots of an operated model, and not to layers of the base.
    """

    name: str
    by_slot = False

    def __init__(self, model: nn.Module) -> None:
        self.tail = Tail(model)

    @abstractmethod
    def transform(self, hidden: torch.Tensor, translator: int | None) -> torch.Tensor:
        """Return hidden states `[..., d_model]` mapped for the final norm; None leaves them as they are."""

    def decode(self, states: torch.Tensor, translators: Sequence[int | None]) -> torch.Tensor:
        """Return logits `[rows, seq, vocab]` of states `[rows, seq, d_model]`, a translator a row."""
        rows = [self.transform(state, index) for state, index in zip(states, translators, strict=True)]
        return self.tail.logits(torch.stack(rows))


def unembed_hash(model: nn.Module) -> str:
    """Return the hash by which the tuned-lens library recognises an unembedding; empty where there is none.

    It is the SHA-256 of numpy's abbreviated print of the matrix with one decimal.
    """
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    if head is None or head.weight.device.type == "meta":
        return ""
    printed = np.array_str(head.weight.detach().cpu().float().numpy(), precision=1)
    return hashlib.sha256(printed.encode("utf-8")).hexdigest()


def check_one_stream(model: nn.Module, lens: str = "tuned lens") -> None:
    """Refuse a model whose states are more than one vector of d_model values a token, which a translator could map.

    Raises:
        LensError: naming both widths.
    """
    stream, d_model = stream_of(model), width_of(model)
    if stream.problem:
        raise LensError(stream.problem)
    if stream.width != d_model:
        raise LensError(
            f"Layers of a {type(root_of(model)).__name__} hand on {stream.width} values a token, in several streams, "
            f"and not one vector of d_model = {d_model}, so there is no {lens} for it; use the logit lens."
        )


def check_unembedding(root: nn.Module, known: str, base_model: str) -> None:
    """Refuse a lens whose model had another unembedding.

    Args:
        root: the base.
        known: the hash of the unembedding of the lens's model; empty where unknown.
        base_model: that model's name; empty where unknown.

    Raises:
        LensError: naming the model that it is for.
    """
    if known and (own := unembed_hash(root)) and own != known:
        raise LensError(
            f"This lens was trained for another model{' (' + base_model + ')' if base_model else ''}: "
            "its unembedding has another hash. Choose the lens of this model or train one."
        )
