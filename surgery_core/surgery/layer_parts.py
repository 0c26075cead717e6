"""The two halves of a layer: its attention (or other token mixer) and its MLP, each as the modules to take away.

A half is taken away by letting a module add nothing. That has to be the module whose output is added to the residual
stream, and not one that adds the residual (or norms the sum) itself: of BERT's `attention` that is
`attention.output.dense`. A layer can have several of a kind: attention and Mamba side by side (Falcon-H1), a shared
MLP beside the experts (Granite), two of each (LongCat-Flash).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from surgery_core.surgery.names import INSIDE, MIXER_CLASSES, MIXERS, MLP_CLASSES, MLPS, OUTPUTS, names_of


@dataclass(frozen=True)
class Halves:
    """What to silence in a layer, as dotted paths in it; empty where there is no such half.

    Attributes:
        attention: modules whose outputs are what the token mixers add.
        mlp: modules whose outputs are what the MLPs add.
        mixer: path of the token mixer as a whole, or None.
    """

    attention: tuple[str, ...]
    mlp: tuple[str, ...]
    mixer: str | None

    @property
    def both(self) -> bool:
        """Whether the layer has both."""
        return bool(self.attention and self.mlp)


def halves_of(layer: nn.Module) -> Halves:
    """Return the halves of a layer, found by structure: names and classes of its parts, never the class of the layer.

    What `name_parts` said of the layer's class comes first.
    """
    told = names_of(layer)
    if told.attention or told.mlp:
        return Halves(told.attention, told.mlp, told.attention[0] if told.attention else None)
    children = dict(layer.named_children())
    mixers = _named(children, MIXERS) or _classed(children, MIXER_CLASSES)
    rest = {name: child for name, child in children.items() if name not in mixers}
    mlps = _named(rest, MLPS) or _classed(rest, MLP_CLASSES)
    if not mlps and "intermediate" in rest and "output" in rest:
        mlps = ["output"]
    mixer_paths = [path for name in mixers for path in _members(name, children[name])]
    return Halves(
        attention=tuple(_adding(layer, path) for path in mixer_paths),
        mlp=tuple(_adding(layer, path) for name in mlps for path in _members(name, children[name])),
        mixer=mixer_paths[0] if mixer_paths else None,
    )


def _named(children: dict[str, nn.Module], names: tuple[str, ...]) -> list[str]:
    return [name for name in names if isinstance(children.get(name), nn.Module)]


def _classed(children: dict[str, nn.Module], words: tuple[str, ...]) -> list[str]:
    return [name for name, child in children.items() if any(word in type(child).__name__.lower() for word in words)][:1]


def _members(name: str, child: nn.Module) -> Iterator[str]:
    """Yield the path of a part, or of each of several in a list, which has no output of its own."""
    if isinstance(child, nn.ModuleList):
        yield from (f"{name}.{number}" for number in range(len(child)))
    else:
        yield name


def _adding(layer: nn.Module, path: str) -> str:
    """Return the path of the module that makes what is added: the part, or the one in it before residual and norm."""
    part = layer.get_submodule(path)
    paths = dict(part.named_modules())
    for inner in (*INSIDE.get(path, ()), *OUTPUTS):
        if inner in paths:
            return f"{path}.{inner}"
    inside = _named(dict(part.named_children()), (*MIXERS, path))
    if inside and any("norm" in type(child).__name__.lower() for child in part.children()):
        return f"{path}.{inside[0]}"
    return path
