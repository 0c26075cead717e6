"""What outlives a reload: kept on the server under a token that only the browser's tab knows.

A reload begins a new session; the tab then shows its token (`surgery_ui.tab`), and the session takes over what the one
before it had. A link holds no token, so whoever gets one starts with nothing but the link. Nothing here imports
Streamlit.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_TABS = 128
"""Tabs that are remembered; the one that was seen longest ago is forgotten first."""
_TOKEN = re.compile(r"[0-9a-f]{32}")


def is_token(value: object) -> bool:
    """Return whether a value that a browser sent looks like a tab's token."""
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


@dataclass
class _Tab:
    holder: str
    values: dict[str, Any] = field(default_factory=dict)


class Tabs:
    """The bounded store of what tabs had, by their tokens."""

    def __init__(self, most: int = MAX_TABS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._tabs: OrderedDict[str, _Tab] = OrderedDict()

    def take(self, token: str, holder: str) -> dict[str, Any]:
        """Return what was kept under a token, nothing for a new one; from now on only `holder` may write there."""
        with self._lock:
            tab = self._tabs.setdefault(token, _Tab(holder))
            tab.holder = holder
            self._tabs.move_to_end(token)
            while len(self._tabs) > self._most:
                self._tabs.popitem(last=False)
            return dict(tab.values)

    def keep(self, token: str, holder: str, values: Mapping[str, Any]) -> None:
        """Keep what outlives a reload, as `state.to_keep` says; a session that was replaced keeps nothing."""
        with self._lock:
            tab = self._tabs.get(token)
            if tab is not None and tab.holder == holder:
                tab.values = dict(values)
                self._tabs.move_to_end(token)


TABS = Tabs()
