"""A pool for tests of pools: it does work of every kind, in every lane."""

from __future__ import annotations

from typing import Any

from surgery_ui.work.kinds import PATIENCE, Kind, Workers
from surgery_ui.work.pool import Pool


class EveryLane(tuple[Any, ...]):
    def __contains__(self, lane: object) -> bool:
        return True


class FreeKind(Kind):
    @property
    def lanes(self) -> EveryLane:
        return EveryLane()


class EveryKind(dict[str, Kind]):
    def __init__(self, kept: dict[str, int], patience: float) -> None:
        super().__init__()
        self._kept, self._patience = kept, patience

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> Kind:
        return FreeKind(key, Workers.WORK, self._kept.get(key, 16), "A test's.", patience=self._patience)


def free_pool(workers: int, *, patience: float = PATIENCE, most_bytes: int | None = None, **kept: int) -> Pool:
    """Return a pool that keeps as many jobs of a kind as are given, and 16 of every other kind."""
    return Pool(workers, EveryKind(kept, patience), most_bytes=most_bytes)
