"""What other packages add: entry points of this project's groups, found by name and loaded when they are used.

docs/extending.md tells what each group takes. What cannot be used is left out and told in the log, so that one broken
package does not stop the program; a tool that an experiment asks for by name is an error instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeVar

from surgery_core.errors import InputError

Group = Literal["presets", "skills", "sweeps", "tools"]
Item = TypeVar("Item")

_log = logging.getLogger(__name__)


def plugins(group: Group) -> Mapping[str, EntryPoint]:
    """Return what installed packages declare under `model_surgery.GROUP`, by name; nothing of it is loaded yet."""
    return {point.name: point for point in entry_points(group=f"model_surgery.{group}")}


def load_plugin(point: EntryPoint) -> Any:
    """Return what an entry point names.

    Raises:
        InputError: when its package cannot be imported or has no such name; says which package.
    """
    try:
        return point.load()
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise InputError(
            f"{point.name!r} of the package {_package(point)} cannot be loaded ({type(error).__name__}: {error}); "
            "mend or uninstall that package."
        ) from error


def with_added(
    group: Group, own: tuple[Item, ...], name: Callable[[Item], str], read: Callable[[Any], Iterable[Item]]
) -> tuple[Item, ...]:
    """Return what comes with this package, then what others add.

    Args:
        group: of entry points.
        own: what comes with this package; its names are taken.
        name: of an item.
        read: from what an entry point names to its items; raises `InputError` where there are none.
    """
    found = {name(item): item for item in own}
    for point in plugins(group).values():
        try:
            for item in read(load_plugin(point)):
                if found.setdefault(name(item), item) is not item:
                    raise InputError(f"The name {name(item)!r} is taken already; the package should choose another.")
        except InputError as error:
            _log.warning("%s of the package %s is left out: %s", group.capitalize(), _package(point), error)
    return tuple(found.values())


def several(kind: type[Item]) -> Callable[[Any], Iterable[Item]]:
    """Return the reader of entry points that name one record of a kind, or several.

    The reader raises `InputError` for anything else.
    """

    def read(value: Any) -> Iterable[Item]:
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        wrong = next((item for item in items if not isinstance(item, kind)), None)
        if wrong is not None:
            raise InputError(f"It is {type(wrong).__name__}, not {kind.__name__}.")
        return items

    return read


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module
