"""The tuned lens: one affine translator a layer in front of the model's own decoding.

Belrose et al., "Eliciting Latent Predictions from Transformers with the Tuned Lens" (arXiv 2303.08112, section 3).
Translator `i` reads the residual stream that enters layer `i` (0: the embeddings) and is `h + h A^T + b`, so that
zeros are the logit lens, as in the tuned-lens library.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from surgery_core.errors import LensError
from surgery_core.lenses.translating import TranslatingLens, check_one_stream, check_unembedding, unembed_hash
from surgery_core.surgery.anatomy import device_of, find_layers, plan_of, root_of, width_of


@dataclass(frozen=True, eq=False)
class Translators:
    """The trained part of a tuned lens, and the model that it is for.

    Attributes:
        weights: `[n_layers, d_model, d_model]`.
        biases: `[n_layers, d_model]`.
        base_model: name of the model.
        unembed_hash: of its unembedding, as the tuned-lens library computes it; empty where unknown.
    """

    weights: torch.Tensor
    biases: torch.Tensor
    base_model: str = ""
    unembed_hash: str = ""

    @property
    def n_layers(self) -> int:
        """Return the number of translators."""
        return int(self.weights.shape[0])

    @property
    def d_model(self) -> int:
        """Return the width that they read and write."""
        return int(self.weights.shape[1])


class TunedLens(TranslatingLens):
    """Translators and a model's own decoding.

    Args:
        model: the model, or a view of it, whose norm and unembedding decode.
        translators: trained for that model.

    Raises:
        LensError: when they are for another model; it says what differs.
    """

    name = "tuned lens"

    def __init__(self, model: nn.Module, translators: Translators) -> None:
        check_fits(model, translators)
        device = device_of(model)
        self.translators = translators
        self.weights, self.biases = translators.weights.to(device), translators.biases.to(device)
        super().__init__(model)

    def transform(self, hidden: torch.Tensor, translator: int | None) -> torch.Tensor:
        """Return hidden states `[..., d_model]` translated for the final norm; None leaves them as they are."""
        if translator is None:
            return hidden
        return hidden + hidden @ self.weights[translator].T.to(hidden) + self.biases[translator].to(hidden)


def untrained(model: nn.Module, name: str = "") -> Translators:
    """Return translators of zeros, which make the tuned lens of a model equal its logit lens.

    Raises:
        LensError: when its states are no single vectors.
    """
    check_one_stream(model)
    n_layers, d_model = len(find_layers(model)[1]), width_of(model)
    zeros = torch.zeros((n_layers, d_model, d_model))
    return Translators(zeros, torch.zeros((n_layers, d_model)), name, unembed_hash(model))


def check_fits(model: nn.Module, translators: Translators) -> None:
    """Refuse translators that were trained for another model.

    Raises:
        LensError: naming what differs.
    """
    root = root_of(model)
    check_one_stream(model)
    n_layers, d_model = plan_of(root).n_layers, width_of(root)
    if (translators.n_layers, translators.d_model) != (n_layers, d_model):
        raise LensError(
            f"This lens is for {translators.n_layers} layers of width {translators.d_model}, "
            f"but the model has {n_layers} of width {d_model}; choose the lens of this model or train one."
        )
    check_unembedding(root, translators.unembed_hash, translators.base_model)
