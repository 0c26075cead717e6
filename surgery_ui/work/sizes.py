"""How much memory a result keeps, for the bound of what is kept.

Counted are numbers, texts and tables wherever they lie in it. Models are not: they are shared, and have a bound of their
own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

_log = logging.getLogger(__name__)

_OBJECT = 64
"""Of a Python object by itself, roughly."""


def size_of(result: object) -> int:
    """Return about how many bytes a result keeps alive, each part once; 0 for one that does not let itself be looked at."""
    try:
        return _size(result, set())
    except Exception:  # noqa: BLE001 - a result may be anything, and a worker must outlive it
        _log.exception("The size of a %s is not known.", type(result).__name__)
        return 0


def _size(value: Any, seen: set[int]) -> int:
    if id(value) in seen or value is None or isinstance(value, (bool, int, float, complex, type)):
        return 0
    seen.add(id(value))
    if isinstance(value, str):
        return _OBJECT + len(value)
    if isinstance(value, (bytes, bytearray)):
        return _OBJECT + len(value)
    if callable(getattr(value, "named_parameters", None)) or callable(value):  # a model, or what has no data of its own
        return 0
    if callable(usage := getattr(value, "memory_usage", None)):  # a table
        found = usage(deep=True)
        return int(found.sum() if hasattr(found, "sum") else found)
    if callable(storage := getattr(value, "untyped_storage", None)):  # a tensor keeps all that it is a part of
        return _once(storage(), seen)
    if isinstance(nbytes := getattr(value, "nbytes", None), int):
        return nbytes if getattr(value, "base", None) is None else _size(value.base, seen) or nbytes
    return _OBJECT + sum(_size(part, seen) for part in _parts(value))


def _once(storage: Any, seen: set[int]) -> int:
    place = storage.data_ptr()
    if place in seen:
        return 0
    seen.add(place)
    return int(storage.nbytes())


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    slots = [getattr(value, name, None) for name in getattr(type(value), "__slots__", ()) if isinstance(name, str)]
    return [*vars(value).values(), *slots] if hasattr(value, "__dict__") else slots
