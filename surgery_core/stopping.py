"""Long work looks between its steps whether it should go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from surgery_core.errors import Stopped

Progress = Callable[[int, int], None]
"""What is told how far work is: steps done, steps in all."""


def raise_if_stopped(stop: threading.Event | None, what: str) -> None:
    """Stop the work where that was asked for.

    Raises:
        Stopped: which says `what`, once `stop` is set.
    """
    if stop is not None and stop.is_set():
        raise Stopped(what)


def looking(stop: threading.Event | None, what: str = "Stopped before all texts were scored.") -> Callable[[], None]:
    """Return what is called between layers and chunks: it raises `Stopped`, which says `what`, once `stop` is set."""
    return partial(raise_if_stopped, stop, what)
