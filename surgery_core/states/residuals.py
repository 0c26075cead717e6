"""Record the residual stream of a model: what enters its first layer and what leaves every slot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from surgery_core.errors import AnatomyError
from surgery_core.plans.labels import slot_labels
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Slot
from surgery_core.states.last import last_state, run_body
from surgery_core.states.mid_layer import halfway
from surgery_core.surgery.anatomy import find_layers, plan_of, width_of
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.recording import Call, Returned, watched
from surgery_core.surgery.stream_form import stream_of

INPUT = "input"
"""Label of the row that shows the residual stream before any layer."""


@dataclass(frozen=True)
class Point:
    """A place where the residual stream is read.

    Attributes:
        label: `"input"`, `"L3"`, `"L3 (2)"`, `"L3 mid"`; all of a model's are different.
        origin: the layer of the base that it belongs to: `"input"`, `"3"`, `"3 mid"`.
        slot: number of the slot that it is in, or -1 for the input.
        mid: whether it lies inside the layer, after the attention.
    """

    label: str
    origin: str
    slot: int
    mid: bool = False


@dataclass(frozen=True, eq=False)
class Residuals:
    """The residual stream of one text.

    Attributes:
        points: where it was read: the input, then every slot.
        states: `[rows, seq, width]`, a row a point; the width is d_model, or that of all streams one after the other
            where layers hand on several.
    """

    points: tuple[Point, ...]
    states: torch.Tensor

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the points' labels."""
        return tuple(point.label for point in self.points)


def residuals(
    model: nn.Module, input_ids: torch.Tensor, *, sublayers: bool = False, look: Callable[[], None] = lambda: None
) -> Residuals:
    """Run the model on `input_ids` `[1, seq]`, without its head, and return its residual stream.

    The states are taken with hooks on the layers of a private view: the last entry of transformers'
    `output_hidden_states` is already normed in most architectures.

    Args:
        model: the model, or a view of it.
        input_ids: one text.
        sublayers: whether to read after each layer's attention too.
        look: called before every layer; it may raise to stop the work.

    Raises:
        AnatomyError: when `sublayers` is asked of layers that have no point after their attention, or when states have
            no place for each token.
    """
    layers = find_layers(model)[1]
    points, mask = points_of(plan_of(model), sublayers), torch.ones_like(input_ids)
    if not len(layers):
        return Residuals(points, last_state(model, input_ids, mask))
    if sublayers:
        _check_one_stream(model)
    places = places_of(plan_of(model))
    middle = halfway(model, [places[point.slot] - 1 for point in points if point.mid]) if sublayers else None
    middles: dict[int, torch.Tensor] = {}

    def returned(number: int, call: Call, output: Any) -> None:
        if middle is not None and (state := middle(number, call)) is not None:
            middles[number] = state

    view = private_copy(model)
    with _states_of(model, view, look, returned) as seen:
        run_body(view, input_ids, mask)
    states = [state[0] for state in seen.all()]
    rows = [middles[places[point.slot] - 1] if point.mid else states[places[point.slot]] for point in points]
    return Residuals(points, torch.stack([row.to(states[0].device) for row in rows]))


def residual_batch(model: nn.Module, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the model on several texts `[batch, seq]` at once; return what enters and leaves its layers, and the logits.

    Returns:
        States `[n_layers + 1, batch, seq, width]` and logits `[batch, seq, vocab]`.
    """
    view = private_copy(model)
    with torch.inference_mode(), _states_of(model, view) as seen:
        logits = view(input_ids=input_ids, use_cache=False).logits
    return torch.stack([state.to(logits.device) for state in seen.all()]), logits


def points_of(plan: LayerPlan, sublayers: bool = False) -> tuple[Point, ...]:
    """Return where the residual stream of a plan is read, in running order.

    Half a layer, a mean, a donor's layer and parallel layers have no point inside.
    """
    points = [Point(INPUT, INPUT, -1)]
    for number, (slot, label) in enumerate(zip(plan, slot_labels(plan), strict=True)):
        layer = slot.layers[-1]
        whole = len(slot.layers) == 1 and layer.part == "both" and not layer.mean and layer.donor is None
        if sublayers and whole:
            points.append(Point(f"{label} mid", f"{layer.index} mid", number, mid=True))
        points.append(Point(label, _origin(slot, label), number))
    return tuple(points)


def _origin(slot: Slot, label: str) -> str:
    """Return the base layer whose row this one is compared with; a donor's layer has none."""
    if any(layer.donor is not None for layer in slot.layers):
        return label
    return str(max(layer.index for layer in slot.layers))


@dataclass(eq=False)
class _States:
    """What entered the first of some layers and what left each, `[batch, seq, width]`."""

    n_layers: int
    entered: torch.Tensor | None = None
    left: dict[int, torch.Tensor] = field(default_factory=dict)

    def all(self) -> list[torch.Tensor]:
        """Return what entered, and what left each layer; one that did not run (for lack of an image) passes it on."""
        if self.entered is None:
            raise AnatomyError("None of the layers ran.")
        found = [self.entered]
        for number in range(self.n_layers):
            found.append(self.left.get(number, found[-1]))
        return found


@contextmanager
def _states_of(
    model: nn.Module,
    view: nn.Module,
    look: Callable[[], None] = lambda: None,
    also: Returned = lambda number, call, output: None,
) -> Iterator[_States]:
    """Keep the states of a private copy's layers that run inside the block."""
    layers, stream = find_layers(view)[1], stream_of(model)
    states = _States(len(layers))

    def called(number: int, call: Call) -> None:
        look()
        if states.entered is None:
            states.entered = stream.entering(*call).detach()

    def returned(number: int, call: Call, output: Any) -> None:
        states.left[number] = stream.leaving(output).detach()
        also(number, call, output)

    with watched(layers, called, returned):
        yield states


def _check_one_stream(model: nn.Module) -> None:
    """Refuse to read inside layers whose states are not `[batch, seq, d_model]`."""
    stream = stream_of(model)
    if not stream.is_plain or stream.width != width_of(model):
        raise AnatomyError(
            f"Layers of a {type(model).__name__} do not hand on one vector a token, so no point inside them can be read; "
            "read after whole layers."
        )


def places_of(plan: LayerPlan) -> dict[int, int]:
    """Return which recorded state belongs to each slot: of a parallel one, that of its last member; -1 is the input."""
    places = {-1: 0}
    for number, slot in enumerate(plan):
        places[number] = places[number - 1] + len(slot.layers)
    return places
