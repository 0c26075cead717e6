"""What outlives a reload: kept on the server under a token that only the browser's tab knows.

A reload begins a new session; the tab then shows its token (`surgery_ui.tab`), and the session takes over what the one
before it had. A link holds no token, so whoever gets one starts with nothing but the link. Nothing here imports
Streamlit.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from surgery_ui.work.limits import limits

MAX_TABS = 128
"""Tabs that are remembered; the one that was seen longest ago is forgotten first."""
_TOKEN = re.compile(r"[0-9a-f]{32}")


def is_token(value: object) -> bool:
    """Return whether a value that a browser sent looks like a tab's token."""
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


@dataclass
class _Tab:
    holder: str
    seen: float
    values: dict[str, Any] = field(default_factory=dict)


class Tabs:
    """The bounded store of what tabs had, by their tokens.

    Args:
        most: tabs that are remembered.
        seconds: how long one is remembered that is not seen.
        clock: what time it is, in seconds.
    """

    def __init__(
        self, most: int = MAX_TABS, seconds: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._lock = threading.Lock()
        self._tabs: OrderedDict[str, _Tab] = OrderedDict()

    def take(self, token: str, holder: str) -> dict[str, Any]:
        """Return what was kept under a token, nothing for a new one; from now on only `holder` may write there."""
        with self._lock:
            self._forget()
            tab = self._tabs.setdefault(token, _Tab(holder, self._clock()))
            tab.holder = holder
            self._see(token, tab)
            while len(self._tabs) > self._most:
                self._tabs.popitem(last=False)
            return dict(tab.values)

    def keep(self, token: str, holder: str, values: Mapping[str, Any]) -> None:
        """Keep what outlives a reload, as `state.to_keep` says; a session that was replaced keeps nothing."""
        with self._lock:
            self._forget()
            tab = self._tabs.get(token)
            if tab is not None and tab.holder == holder:
                tab.values = dict(values)
                self._see(token, tab)

    def _see(self, token: str, tab: _Tab) -> None:
        tab.seen = self._clock()
        self._tabs.move_to_end(token)

    def _forget(self) -> None:
        """Forget the tabs that were not seen for too long; they lie in the order in which they were seen."""
        while self._tabs and self._clock() - next(iter(self._tabs.values())).seen > self._seconds:
            self._tabs.popitem(last=False)


TABS = Tabs(seconds=60.0 * limits().idle_minutes)
