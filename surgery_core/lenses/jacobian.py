"""The Jacobian lens: a state carried into the last layer's basis by the model's average Jacobian, then decoded.

`lens_l(h) = unembed(J_l h)`, where `J_l` is the mean, over texts and positions, of the gradient of what leaves the last
layer by what leaves layer l ("A global workspace in language models", transformer-circuits.pub/2026/workspace). Nothing
is trained to say what the model says in the end: a state is read by what it would move there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from surgery_core.errors import LensError
from surgery_core.lenses.translating import TranslatingLens, check_one_stream, check_unembedding
from surgery_core.surgery.anatomy import device_of, plan_of, root_of, width_of


@dataclass(frozen=True, eq=False)
class Jacobians:
    """The fitted part of a Jacobian lens, and the model that it is for.

    Attributes:
        matrices: `[d_model, d_model]` in float32 on the CPU, by the layer whose output they map.
        n_texts: how many texts they are the mean of.
        target: the layer into whose basis they map; None where a file does not say.
        n_layers: how many layers the model has; None where a file does not say.
        base_model: its name.
        unembed_hash: of its unembedding, as the tuned-lens library computes it; empty where unknown.
        plan: the plan of the operated model on which they were fitted, by whose slots layers are counted then; empty for
            a base.
        change: by how much of its norm the mean last changed with a text, averaged over layers and the last ten texts.
    """

    matrices: Mapping[int, torch.Tensor]
    n_texts: int
    target: int | None = None
    n_layers: int | None = None
    base_model: str = ""
    unembed_hash: str = ""
    plan: str = ""
    change: float = math.nan

    @property
    def layers(self) -> tuple[int, ...]:
        """Return the layers that have a matrix, rising."""
        return tuple(sorted(self.matrices))

    @property
    def d_model(self) -> int:
        """Return the width that they read and write."""
        return int(self.matrices[self.layers[0]].shape[0])


class JacobianLens(TranslatingLens):
    """Jacobians and a model's own decoding.

    What leaves a layer without a matrix is read as it is: the last one's output, and what enters the first layer.

    Args:
        model: the model, or a view of it, whose norm and unembedding decode.
        fitted: on that model; or on this very view, whose slots have matrices of their own then.

    Attributes:
        fitted: what was given.
        jacobians: `[d_model, d_model]` by layer, on the model's device.

    Raises:
        LensError: when they are for another model or plan; it says what differs.
    """

    name = "Jacobian lens"

    def __init__(self, model: nn.Module, fitted: Jacobians) -> None:
        check_jacobians(model, fitted)
        self.fitted, self.by_slot = fitted, bool(fitted.plan)
        self.jacobians = {layer: matrix.to(device_of(model)) for layer, matrix in fitted.matrices.items()}
        super().__init__(model)

    def transform(self, hidden: torch.Tensor, translator: int | None) -> torch.Tensor:
        """Return hidden states `[..., d_model]` carried to the last layer's basis.

        Args:
            hidden: `[..., d_model]`.
            translator: number of the layer that the states enter, which is one more than that of the layer they leave;
                None leaves them as they are.
        """
        matrix = None if translator is None else self.jacobians.get(translator - 1)
        return hidden if matrix is None else hidden @ matrix.T.to(hidden)


def check_jacobians(model: nn.Module, fitted: Jacobians) -> None:
    """Refuse Jacobians that were fitted on another model, or on another plan.

    Raises:
        LensError: naming what differs.
    """
    root = root_of(model)
    check_one_stream(model, "Jacobian lens")
    if fitted.plan and str(plan_of(model)) != fitted.plan:
        raise LensError(
            f"This lens was fitted on the plan {fitted.plan} and reads that one only, but the plan is {plan_of(model)}; "
            "choose the lens of the unchanged model, or fit one on this plan."
        )
    n_layers, d_model = plan_of(model if fitted.plan else root), width_of(root)
    deep = len(n_layers) if fitted.plan else n_layers.n_layers
    if fitted.d_model != d_model or fitted.n_layers not in (None, deep) or fitted.layers[-1] >= deep:
        known = fitted.n_layers or f"at least {fitted.layers[-1] + 2}"
        raise LensError(
            f"This lens is for {known} layers of width {fitted.d_model}, but the model has {deep} of width {d_model}; "
            "choose the lens of this model or fit one."
        )
    check_unembedding(root, fitted.unembed_hash, fitted.base_model)


def merge_jacobians(parts: Sequence[Jacobians]) -> Jacobians:
    """Return the mean of Jacobians that were fitted on different texts, each weighted by how many it had.

    Args:
        parts: of the same model, plan, layers and target.

    Raises:
        LensError: when there is none, or they do not belong together; it says what differs.
    """
    if not parts:
        raise LensError("There is nothing to merge; give at least one fitted lens.")
    first = parts[0]
    for number, part in enumerate(parts[1:], 2):
        for what in ("d_model", "layers", "target", "n_layers", "plan", "unembed_hash"):
            mine, other = getattr(first, what), getattr(part, what)
            if mine != other:
                raise LensError(
                    f"Part {number} has another {what} than part 1, {other!r} and {mine!r}; merge parts of one fit."
                )
    total = sum(part.n_texts for part in parts)
    merged = {
        layer: torch.stack([part.matrices[layer] * (part.n_texts / total) for part in parts]).sum(0)
        for layer in first.layers
    }
    return replace(first, matrices=merged, n_texts=total, change=math.nan)
