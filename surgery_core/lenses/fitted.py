"""What of a lens is fitted or trained, and the lens that it makes of a model: one way for every kind."""

from __future__ import annotations

from torch import nn

from surgery_core.lenses.jacobian import JacobianLens, Jacobians
from surgery_core.lenses.tuned import Translators, TunedLens

Fitted = Translators | Jacobians
"""What can be kept, written and read of a lens, without a model."""


def lens_for(model: nn.Module, fitted: Fitted) -> TunedLens | JacobianLens:
    """Return the lens that this makes of a model, or of a view of it.

    Raises:
        LensError: when it is for another one; it says what differs.
    """
    return TunedLens(model, fitted) if isinstance(fitted, Translators) else JacobianLens(model, fitted)
