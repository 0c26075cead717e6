"""Long work ends where that was asked for, and says what ended."""

from __future__ import annotations

import threading

import pytest

from surgery_core.errors import Stopped
from surgery_core.stopping import looking, raise_if_stopped


def test_work_goes_on_until_the_event_is_set() -> None:
    stop = threading.Event()
    look = looking(stop, "The reading was stopped.")
    look()
    raise_if_stopped(stop, "Nothing.")
    stop.set()
    with pytest.raises(Stopped, match=r"^The reading was stopped\.$"):
        look()
    with pytest.raises(Stopped, match=r"^Enough\.$"):
        raise_if_stopped(stop, "Enough.")


def test_without_an_event_nothing_stops() -> None:
    looking(None)()
    raise_if_stopped(None, "Nothing.")
