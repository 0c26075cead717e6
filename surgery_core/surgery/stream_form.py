"""How layers hand on the residual stream: the form of what they return, found by running one layer on a few tokens.

Most layers return a tensor `[batch, seq, d_model]`. Some put the tokens first (XLNet), keep several streams side by
side (hyper-connections; AltUp in Gemma 3n; the two of a reversible network in Reformer) or return a tuple. Whatever the
form, a state is read here as `[batch, seq, width]`, its streams one after the other, and put back into the form that
the model's own code behind the layers expects. That this code needs nothing else is checked too.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from surgery_core.errors import AnatomyError, RefusedPlanError
from surgery_core.surgery.anatomy import base_of, device_of, find_layers, root_of, width_of
from surgery_core.surgery.behaviours import mix_in
from surgery_core.surgery.building import operate_part
from surgery_core.surgery.closeness import relative_difference
from surgery_core.surgery.marks import mark, needed_mark
from surgery_core.surgery.recording import recorded

_FEW, _MORE = (2, 3), (5, 7)
"""Texts and tokens of the probing runs; the second where sizes of the first could be mistaken for others."""

_KNOWN: WeakKeyDictionary[nn.Module, Stream] = WeakKeyDictionary()
"""The form of each model that was asked for, for as long as the model lives."""


@dataclass(frozen=True)
class Stream:
    """The form in which layers of a model hand on the residual stream.

    Attributes:
        shape: of one token's state in one part: `(d_model,)`, or `(streams, d_model)`.
        batch_axis: axis of the texts, or None where no axis is that.
        seq_axis: axis of the tokens, or None where no axis is that.
        parts: which values of a layer's tuple are the state; `(0,)` also where a layer returns a tensor.
        arguments: where a layer is given those parts; `hidden_states` is also the first positional argument.
        extras: None where layers return a tensor, else how many values follow the first one in their tuple.
        kind: the class of that tuple.
        carries: whether one of the following values is a state made of several tensors, from which a cache is filled.
        problem: why a single state cannot be read, as a sentence; empty where it can.
    """

    shape: tuple[int, ...]
    batch_axis: int | None = 0
    seq_axis: int | None = 1
    parts: tuple[int, ...] = (0,)
    arguments: tuple[str, ...] = ("hidden_states",)
    extras: int | None = None
    kind: type = tuple
    carries: bool = False
    problem: str = ""

    @property
    def width(self) -> int:
        """Return how many values a token's state has."""
        return math.prod(self.shape) * len(self.parts)

    @property
    def is_plain(self) -> bool:
        """Whether states are `[batch, seq, d_model]` as layers return them."""
        return (self.batch_axis, self.seq_axis, len(self.shape), len(self.parts)) == (0, 1, 1, 1)

    def leaving(self, output: Any) -> torch.Tensor:
        """Return the state in what a layer returned, `[batch, seq, width]`.

        Raises:
            AnatomyError: when the state has no place for each token.
        """
        values = [output] if isinstance(output, torch.Tensor) else [output[at] for at in self.parts]
        return self._together(values)

    def entering(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        """Return the state with which a layer is called, `[batch, seq, width]`. Raises as `leaving`."""
        return self._together([args[0] if name not in kwargs else kwargs[name] for name in self.arguments])

    def output(self, hidden: torch.Tensor) -> Any:
        """Return what a layer would return that leaves the state `hidden` `[batch, seq, width]`."""
        parts = [self._apart(part) for part in hidden.chunk(len(self.parts), dim=-1)]
        if self.extras is None:
            return parts[0]
        given = dict(zip(self.parts, parts, strict=True))
        values = [given.get(at) for at in range(1 + self.extras)]
        return self.kind(*values) if hasattr(self.kind, "_fields") else self.kind(values)

    def added(self, vector: torch.Tensor) -> torch.Tensor:
        """Return a vector `[width]`, or `[d_model]` for every stream, as it can be added to what a layer returns."""
        if self.batch_axis is None or self.seq_axis is None or vector.shape == self.shape[-1:]:
            return vector
        return self._apart(vector[None, None])

    def _together(self, values: list[torch.Tensor]) -> torch.Tensor:
        if self.is_plain:
            return values[0]
        if self.batch_axis is None or self.seq_axis is None:
            raise AnatomyError(self.problem)
        axes = (self.batch_axis, self.seq_axis)
        return torch.cat([value.movedim(axes, (0, 1)).flatten(2) for value in values], dim=-1)

    def _apart(self, part: torch.Tensor) -> torch.Tensor:
        if self.batch_axis is None or self.seq_axis is None:
            raise AnatomyError(self.problem)
        apart: torch.Tensor = part.reshape(*part.shape[:-1], *self.shape)
        return apart.movedim((0, 1), (self.batch_axis, self.seq_axis))


@dataclass(frozen=True, eq=False)
class Injection:
    """What a layer returns in place of its own output: the state of this thread, in the model's form."""

    hidden: threading.local
    stream: Stream
    device: torch.device | None


class Injected:
    """A layer that ignores its input and returns the state of this thread, an `Injection`."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the injected state `[batch, seq, width]` in the form of the layer's own output."""
        given = needed_mark(self, Injection)  # type: ignore[arg-type]
        hidden = given.hidden.value
        return given.stream.output(hidden if given.device is None else hidden.to(given.device))


def stream_of(model: nn.Module) -> Stream:
    """Return the form in which layers of a model, or of the base of a view, hand on the residual stream.

    Raises:
        RefusedPlanError: when there is no layer.
    """
    model = with_layers(model)
    root = root_of(model)
    if root not in _KNOWN:
        _KNOWN[root] = _found(model)
    return _KNOWN[root]


def with_layers(model: nn.Module) -> nn.Module:
    """Return the model, or the nearest base of a view without layers that has some.

    Raises:
        RefusedPlanError: when there is none.
    """
    found: nn.Module | None = model
    while found is not None and not len(find_layers(found)[1]):
        found = base_of(found)
    if found is None:
        raise RefusedPlanError("The model has no layers, so there is nothing to read from.")
    return found


def injecting(model: nn.Module, stream: Stream, hidden: threading.local) -> Any:
    """Return a view whose single layer returns what `hidden.value` holds for this thread."""
    view = operate_part(model, 0)
    layer: Any = find_layers(view)[1][0]
    mix_in(layer, Injected)
    # of layers that are spread over devices, the last one's is where what comes behind them expects their states
    last = next(find_layers(model)[1][-1].parameters(), None)
    device = None if last is None or last.device.type == "meta" else last.device
    mark(layer, Injection(hidden, stream, device))
    return view


def decoded(view: Any, stream: Stream, hidden: threading.local, states: torch.Tensor) -> torch.Tensor:
    """Return the logits `[..., seq, vocab]` that an injecting view makes of states `[..., seq, width]`.

    Where a token's streams lie behind batch and seq, states may also have them apart, as layers return them.
    """
    if states.shape[-1] != stream.width and stream.seq_axis == 1 and states.shape[-len(stream.shape) :] == stream.shape:
        states = states.flatten(-len(stream.shape))
    if states.shape[-1] != stream.width:
        raise AnatomyError(
            f"States of {states.shape[-1]} values a token were given, but this model's have {stream.width}; "
            "give what leaves a layer, all of its streams."
        )
    # one token a row: nothing behind the layers looks at other tokens, and no position is beyond the context
    flat = states.reshape(-1, 1, stream.width)
    ids = torch.zeros(flat.shape[:2], dtype=torch.long, device=device_of(view))
    hidden.value = flat
    try:
        logits = view(input_ids=ids, use_cache=False).logits
    finally:
        hidden.value = None
    return logits.reshape(*states.shape[:-1], -1)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class _Run:
    """One layer of a model, run alone: how it was called, what it returned, and the logits."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    logits: torch.Tensor

    @property
    def values(self) -> list[Any]:
        """Return what the layer returned, one by one."""
        return [self.output] if isinstance(self.output, torch.Tensor) else list(self.output)


def _run(model: nn.Module, size: tuple[int, int]) -> _Run:
    view = _without_dropout(operate_part(model, 0))
    vocab = view.get_input_embeddings().weight.shape[0]
    ids = (1 + torch.arange(size[0] * size[1], device=device_of(model)).reshape(size)) % vocab
    with torch.inference_mode(), recorded(find_layers(view)[1]) as seen:
        logits = view(input_ids=ids, use_cache=False).logits
    return _Run(*seen.calls[0], seen.outputs[0], logits)


def _without_dropout(view: Any) -> Any:
    """Return a private view that does not drop values; other modules keep their mode, in which some pack weights."""
    for module in view.modules():
        if isinstance(module, nn.Dropout):
            module.training = False
    return view


def _found(model: nn.Module) -> Stream:
    run, size = _run(model, _FEW), _FEW
    if run.values[0].shape != (*_FEW, width_of(model)):
        run, size = _run(model, _MORE), _MORE
    stream = _form(model, run, size)
    if stream.problem or _reads(model, stream, run):
        return stream
    several = _several(stream, run)
    if several is not None and _reads(model, several, run):
        return several
    name = type(model).__name__
    return replace(
        stream,
        problem=f"What comes behind the layers of {name} needs the states of several of them, so a lens cannot read "
        "one layer alone.",
    )


def _form(model: nn.Module, run: _Run, size: tuple[int, int]) -> Stream:
    """Return the form of a layer's first value alone."""
    shape = tuple(run.values[0].shape)
    texts, tokens = ([axis for axis, length in enumerate(shape) if length == wanted] for wanted in size)
    is_tensor = isinstance(run.output, torch.Tensor)
    stream = Stream(
        shape=shape[-1:],
        extras=None if is_tensor else len(run.output) - 1,
        kind=tuple if is_tensor else type(run.output),
        carries=any(isinstance(value, (list, tuple)) for value in run.values[1:]),
    )
    if len(texts) == 1 and len(tokens) == 1:
        rest = tuple(length for axis, length in enumerate(shape) if axis not in (texts[0], tokens[0]))
        return replace(stream, shape=rest, batch_axis=texts[0], seq_axis=tokens[0])
    return replace(
        stream,
        batch_axis=None,
        seq_axis=None,
        problem=f"Layers of a {type(model).__name__} hand on states of the shape {list(shape)} for {size[0]} texts of "
        f"{size[1]} tokens, which has no place for each token, so a lens cannot read them.",
    )


def _several(stream: Stream, run: _Run) -> Stream | None:
    """Return the form with every further value of the same shape as part of the state, where there is one."""
    first = run.values[0]
    parts = [at for at, v in enumerate(run.values) if isinstance(v, torch.Tensor) and v.shape == first.shape]
    names = [name for name, v in run.kwargs.items() if isinstance(v, torch.Tensor) and v.shape == first.shape]
    fields = getattr(type(run.output), "_fields", ())
    if len(parts) < 2 or len(names) != len(parts) or not fields:
        return None
    names.sort(key=lambda name: next((at for at in parts if fields[at] in name), len(fields)))
    return replace(stream, parts=tuple(parts), arguments=tuple(names))


def _reads(model: nn.Module, stream: Stream, run: _Run) -> bool:
    """Whether the model's own code makes the same logits of a state that is given to it, whatever the tokens are."""
    hidden = threading.local()
    view = _without_dropout(injecting(model, stream, hidden))
    with torch.inference_mode():
        try:
            logits = decoded(view, stream, hidden, stream.leaving(run.output)).float()
        except (TypeError, AttributeError, RuntimeError, ValueError, LookupError):
            return False
    close = 1e-3 if run.logits.dtype == torch.float32 else 0.1
    # weights that are no numbers say nothing about how states are read
    return relative_difference(logits, run.logits, blind=True) <= close
