"""Rooms of their own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from surgery_ui.rooms.store import Rooms
from surgery_ui.session import room
from surgery_ui.work import limits as organised


@pytest.fixture
def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rooms]:
    monkeypatch.setenv("MODEL_SURGERY_STATE", str(tmp_path))
    organised.limits.cache_clear()
    room.store.cache_clear()
    yield room.store()
    monkeypatch.undo()
    organised.limits.cache_clear()
    room.store.cache_clear()
