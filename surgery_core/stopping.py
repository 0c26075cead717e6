"""Long work looks between its steps whether it should go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

from surgery_core.errors import Stopped

Progress = Callable[[int, int], None]
"""What is told how far work is: steps done, steps in all."""


_STEPS = 1000
"""Steps of a stage, where several share one progress."""


def stages(n: int, on_progress: Progress | None) -> Iterator[Progress]:
    """Yield the progress of one of n stages after another, each for as much of the whole; a single one is the whole."""

    def report(stage: int, done: int, total: int) -> None:
        if on_progress is not None and n == 1:
            on_progress(done, total)
        elif on_progress is not None:
            on_progress(round((stage + done / max(1, total)) * _STEPS), n * _STEPS)

    for stage in range(n):
        yield partial(report, stage)


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
