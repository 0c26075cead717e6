"""What surgery keeps on a module: records, one of a kind, under one key.

An operated model remembers its base and its plan; a scaled layer its factor; a parallel one its group. Each is a small
frozen record of its own class, and clones and deep copies carry them along.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

from torch import nn

KEY = "_surgery"
"""The only attribute that surgery adds to a module."""

T = TypeVar("T")


class Marks:
    """The records on one module; never changed, only replaced by one with more of them."""

    def __init__(self, records: dict[type, Any]) -> None:
        self._records = records

    def of(self, kind: type[T]) -> T | None:
        """Return the record of a kind, or None."""
        return self._records.get(kind)

    def with_(self, record: Any) -> Marks:
        """Return these and one more, which takes the place of one of its kind."""
        return Marks(self._records | {type(record): record})

    def mapped(self, change: Callable[[Any], Any]) -> Marks:
        """Return these with every field of every record as `change` makes it."""
        return Marks({kind: _mapped(record, change) for kind, record in self._records.items()})

    def __deepcopy__(self, memo: dict[int, Any]) -> Marks:
        return self.mapped(lambda value: copy.deepcopy(value, memo))


def marks_of(module: nn.Module) -> Marks:
    """Return the records on a module; there may be none."""
    return module.__dict__.get(KEY) or Marks({})


def mark_of(module: nn.Module, kind: type[T]) -> T | None:
    """Return a module's record of a kind, or None."""
    return marks_of(module).of(kind)


def needed_mark(module: nn.Module, kind: type[T]) -> T:
    """Return a module's record of a kind, which must be there."""
    found = mark_of(module, kind)
    if found is None:
        raise LookupError(f"A {type(module).__name__} has no {kind.__name__}.")
    return found


def mark(module: nn.Module, record: Any) -> None:
    """Put a record on a module, in place of one of its kind."""
    module.__dict__[KEY] = marks_of(module).with_(record)


def _mapped(record: Any, change: Callable[[Any], Any]) -> Any:
    return replace(record, **{field.name: change(getattr(record, field.name)) for field in fields(record)})
