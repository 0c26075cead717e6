"""Which open models somebody works with, and closing one, which gives its memory back. Nothing here imports Streamlit."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterable, Mapping

from surgery_ui.work import plan_jobs
from surgery_ui.work.engine import ENGINE
from surgery_ui.work.job import Key
from surgery_ui.work.sweep_jobs import SWEEPS

RECENT = 300.0
"""Seconds after its last run for which a session counts as working with its models."""
COLLECTED = 1.0
"""Seconds after which what is no longer held is given back: whoever closed a model still holds it at first."""
_used: dict[str, dict[str, float]] = {}
_lock = threading.Lock()


def note_use(owner: str, names: Iterable[str]) -> None:
    """Remember that somebody works with these models now, and with no others."""
    now = time.monotonic()
    with _lock:
        for users in _used.values():
            users.pop(owner, None)
        for name in names:
            _used.setdefault(name, {})[owner] = now
        for model in [model for model, users in _used.items() if not _recent(users, now)]:
            del _used[model]


def users(name: str, key: Key) -> set[str]:
    """Return who has worked with a model in the last minutes, or waits for work on it.

    Args:
        name: of the model.
        key: that its caches have.
    """
    waiting = plan_jobs.WORK.owners_of(key) | SWEEPS.owners_of(key)
    with _lock:
        return _recent(_used.get(name, {}), time.monotonic()) | waiting


def close(name: str, key: Key) -> None:
    """Forget a model, and what was kept that holds it; its memory is free a moment later.

    A session that still shows it opens it again on its next run; its plans and undo steps stay.
    """
    plan_jobs.let_go(name, key)
    ENGINE.close(name, key)
    # modules of a model refer to each other
    timer = threading.Timer(COLLECTED, gc.collect)
    timer.daemon = True
    timer.start()


def _recent(users: Mapping[str, float], now: float) -> set[str]:
    return {owner for owner, seen in users.items() if now - seen < RECENT}
