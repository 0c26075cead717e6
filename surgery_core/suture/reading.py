"""What a stitch is fitted on: read from the operated model up to the cut, and from the base up to where it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from surgery_core.errors import RefusedPlanError
from surgery_core.plans.cuts import Cut
from surgery_core.plans.slots import Layer, Slot
from surgery_core.states.beginnings_check import beginning
from surgery_core.states.finite import not_finite
from surgery_core.states.last import run_body
from surgery_core.states.windows import Batch
from surgery_core.surgery.anatomy import find_layers, plan_of, width_of
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.layer_io import hidden_input, hidden_of
from surgery_core.surgery.placement import place
from surgery_core.surgery.recording import Call, recorded, watched
from surgery_core.surgery.stream_form import stream_of
from surgery_core.surgery.view import operate_slot
from surgery_core.suture.projection import find_projection

Look = Callable[[], None]


class _Enough(Exception):
    """Ends a run of which nothing more is needed."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Tokens of one batch.

    Attributes:
        inputs: `[tokens, width]`, what the projection before the cut reads.
        left: `[tokens, d_model]`, the stream that leaves its layer.
        wanted: `[tokens, d_model]`, the stream that the base hands on where the rest goes on.
    """

    inputs: torch.Tensor
    left: torch.Tensor
    wanted: torch.Tensor


class CutReader:
    """Reads both sides of a cut, batch by batch.

    Where the operated model is the base up to the cut, the base runs once for both sides, and no further than where the
    rest goes on.

    Args:
        base: the model.
        view: it, operated, with the stitches of earlier cuts.
        cut: the cut of the view's plan.
        batch: any texts, of which a few tokens are tried.
        look: called before every layer; it may raise to stop the work.

    Raises:
        RefusedPlanError: when the layer before the cut has no projection that a map can be folded into, or states are
            not one vector a token.
    """

    def __init__(self, base: nn.Module, view: nn.Module, cut: Cut, batch: Batch, look: Look) -> None:
        _check_stream(base)
        self.base, self.view, self.cut, self.look = base, view, cut, look
        self._base, self._view = private_copy(base), private_copy(view)
        self._at = next(at for at, one in enumerate(place(plan_of(view))) if one.slot == cut.position)
        self._half = _attention_of(base, cut.end) if cut.half else None
        self._same = [slot.is_plain and slot.layers[0].index == at for at, slot in enumerate(plan_of(view))]
        self.projection = find_projection(self.layer, cut.layer, self._call(beginning(batch)), look)

    @property
    def layer(self) -> nn.Module:
        """Return the layer before the cut, of a private copy of the view."""
        return find_layers(self._view)[1][self._at]

    def pairs(self, batch: Batch) -> Pairs:
        """Return what was read of a batch, without its padding.

        Raises:
            RefusedPlanError: when states are not numbers, and says from which layer on; or when the layer where the rest
                goes on does not run.
        """
        seen: dict[str, torch.Tensor] = {}
        shared = all(self._same[: self.cut.position + 1])
        if not shared:
            self._run(self._view, batch, seen, self._at, None)
        self._run(self._base, batch, seen, self._at if shared else None, self.cut.end)
        if "wanted" not in seen:
            raise RefusedPlanError(
                f"L{self.cut.end} does not run on text alone, so what it is handed cannot be reached."
            )
        real = batch.attention_mask.bool()
        inputs, left, wanted = (seen[name][real.to(seen[name].device)] for name in ("inputs", "left", "wanted"))
        home = wanted.device
        for model, state in ((self.base, wanted), (self.view, inputs), (self.view, left)):
            if not bool(state.isfinite().all()):
                raise RefusedPlanError(
                    f"Nothing can be fitted to states that are no numbers. {not_finite(model, batch)}"
                )
        return Pairs(inputs.to(home), left.to(home), wanted)

    def _call(self, batch: Batch) -> Call:
        layers = find_layers(self._view)[1]
        with recorded([self.layer]) as seen, watched(layers, lambda number, call: self.look()):
            run_body(self._view, batch.input_ids, batch.attention_mask)
        if not seen.calls:
            raise RefusedPlanError(
                f"L{self.cut.layer.index} does not run on text alone, so nothing can be folded into it."
            )
        return seen.calls[0]

    def _run(self, copy: Any, batch: Batch, seen: dict[str, torch.Tensor], at: int | None, until: int | None) -> None:
        """Run a model until all is seen: what layer `at` reads and hands on, and what enters the base's layer `until`."""
        layers = find_layers(copy)[1]
        projection = [] if at is None else [layers[at].get_submodule(self.projection.path)]

        def called(number: int, call: Call) -> None:
            self.look()
            if number == until:
                seen["wanted"] = self._entering(call)
                raise _Enough

        def returned(number: int, call: Call, output: Any) -> None:
            if number == at:
                # a copy: a layer may write into its input
                seen["left"] = hidden_of(output).clone()
                if until is None:
                    raise _Enough
            if number + 1 == until == len(layers):
                seen["wanted"] = hidden_of(output)

        def read(number: int, call: Call, output: Any) -> None:
            seen["inputs"] = hidden_input(*call).reshape(*batch.input_ids.shape, -1)

        try:
            with watched(layers, called, returned), watched(projection, returned=read):
                run_body(copy, batch.input_ids, batch.attention_mask)
        except _Enough:
            pass

    def _entering(self, call: Call) -> torch.Tensor:
        """Return what enters the rest: the stream, or what the attention that is missing makes of it."""
        if self._half is None:
            return hidden_input(*call).clone()
        with torch.inference_mode():
            return hidden_of(self._half(*call[0], **call[1]))


def _attention_of(base: nn.Module, index: int) -> nn.Module:
    """Return a layer of the base without its MLP."""
    view = operate_slot(base, Slot((replace(Layer(index), part="attn"),)))
    return find_layers(view)[1][0]


def _check_stream(base: nn.Module) -> None:
    stream = stream_of(base)
    if not stream.is_plain or stream.problem or stream.width != width_of(base):
        raise RefusedPlanError(
            f"Layers of a {type(base).__name__} do not hand on one vector a token, so no map between them can be folded into "
            "a projection."
        )
