"""How layers are called, and what they return: told while a model runs.

The one way to look at layers that run, for lenses, proofs, sweeps, importance and whatever asks for a state. Hooks are
put on a private copy of a model (`view.private_copy`), or taken off again at the end of the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""The arguments of a layer, by position and by name."""

Called = Callable[[int, Call], None]
"""What is told of a layer that is about to run: its number and its arguments."""

Returned = Callable[[int, Call, Any], None]
"""What is told of a layer that has run: its number, its arguments, and what it returned."""

Replaced = Callable[[int, Any], Any]
"""What makes something else of what a layer returned: its number and the output; in the same form."""


@contextmanager
def watched(
    layers: Iterable[nn.Module], called: Called | None = None, returned: Returned | None = None
) -> Iterator[None]:
    """Tell of every layer that runs inside the block, by its place in `layers`; whatever is raised there stops the run."""

    with ExitStack() as hooks:
        for number, layer in enumerate(layers):
            if called is not None:
                before = partial(_before, called, number)
                hooks.callback(layer.register_forward_pre_hook(before, with_kwargs=True).remove)
            if returned is not None:
                after = partial(_after, returned, number)
                hooks.callback(layer.register_forward_hook(after, with_kwargs=True).remove)
        yield


@contextmanager
def replacing(layers: Iterable[nn.Module], replaced: Replaced) -> Iterator[None]:
    """Hand on, for every layer that runs inside the block, what `replaced` makes of its output."""
    with ExitStack() as hooks:
        for number, layer in enumerate(layers):
            hooks.callback(layer.register_forward_hook(partial(_instead, replaced, number)).remove)
        yield


def _before(called: Called, number: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    called(number, (args, kwargs))


def _after(
    returned: Returned, number: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> None:
    returned(number, (args, kwargs), output)


def _instead(replaced: Replaced, number: int, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    return replaced(number, output)


@dataclass
class Recording:
    """The calls and outputs of the layers that ran, by number, in the order in which they ran; the last of each."""

    calls: dict[int, Call] = field(default_factory=dict)
    outputs: dict[int, Any] = field(default_factory=dict)


@contextmanager
def recorded(layers: Iterable[nn.Module]) -> Iterator[Recording]:
    """Keep how layers are called inside the block, and what they return."""
    found = Recording()

    def called(number: int, call: Call) -> None:
        found.calls[number] = (call[0], dict(call[1]))

    def returned(number: int, call: Call, output: Any) -> None:
        found.outputs[number] = output

    with watched(layers, called, returned):
        yield found
