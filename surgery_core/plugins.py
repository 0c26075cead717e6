"""What other packages add: entry points of this project's groups, found by name and loaded when they are used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from surgery_core.errors import InputError

Group = Literal["tools"]


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
    except (ImportError, AttributeError, ValueError) as error:
        package = point.dist.name if point.dist is not None else point.module
        raise InputError(
            f"{point.name!r} of the package {package} cannot be loaded ({type(error).__name__}: {error}); "
            "mend or uninstall that package."
        ) from error
