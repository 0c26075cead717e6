"""Stitched views of many plans over the same calibration texts: each is fitted once, and the last ones are kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import nn

from surgery_core.plans.plan import LayerPlan
from surgery_core.suture.stitch import stitch
from surgery_core.text import Text

KEPT = 2
"""Views that are kept; each holds little besides its projections."""


class Stitcher:
    """Fits the stitches of plans.

    Args:
        model: the base; it is not changed.
        tokenizer: its tokenizer.
        texts: that stitches are fitted on.
        stop: when set, the work ends with `Stopped`.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, texts: Sequence[Text], stop: threading.Event | None = None
    ) -> None:
        self.model, self.tokenizer, self.texts, self.stop = model, tokenizer, tuple(texts), stop
        self._views: OrderedDict[LayerPlan, Any] = OrderedDict()

    def view(self, plan: LayerPlan) -> Any:
        """Return the view of a plan with stitches, fitted where it is none of the last ones. Errors as `stitch`."""
        if plan not in self._views:
            self._views[plan] = stitch(self.model, plan, self.tokenizer, self.texts, stop=self.stop)
        self._views.move_to_end(plan)
        while len(self._views) > KEPT:
            self._views.popitem(last=False)
        return self._views[plan]
