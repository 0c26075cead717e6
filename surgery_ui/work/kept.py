"""Values that are made once and shared by all threads: bounded, and never made twice at the same time.

Streamlit's caches are for the script's thread; jobs run in others.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The values that were asked for last.

    Args:
        most: how many are kept; the one that was asked for longest ago goes first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value for a key; the first who asks makes it, and whoever asks meanwhile waits."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
            value = make()
            with self._lock:
                self._values[key] = value
                self._trim()
            return value

    def put(self, key: Hashable, value: Value) -> None:
        """Keep a value that was made already."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            self._trim()

    def find(self, key: Hashable) -> Value | None:
        """Return the value for a key, or None where it is not kept (any more)."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def _trim(self) -> None:
        while len(self._values) > self._most:
            gone, _ = self._values.popitem(last=False)
            self._making.pop(gone, None)

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            self._values.clear()
