"""A visitor of the app without a browser: speaks Streamlit's protocol as its own page does, and listens to the words.

It keeps every element that is drawn, sends what its widgets say with each run, does the runs that the page asks for by
the clock, and hears the words of the texts on their own way. Cut off, it comes back as a browser does. `room_load` has
thirty of them at work.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from surgery_ui.work.channel import PATH

NOTATION, PERPLEXITY, KL = "Notation", "Perplexity", "Mean KL"
FIELDS = ("text_input", "text_area")
TAB = "model_surgery_tab"
LIMIT = 2**26
"""Bytes of a message at most."""
AGAIN = 0.5
"""Seconds between two tries to connect."""


class Visitor:
    """One person's tab.

    Args:
        address: of the app, such as `http://127.0.0.1:8501`.
        tab: token that the browser's tab shows, 32 hexadecimal digits; empty for a tab that shows none.
        headers: that its connections have besides, such as cookies.

    Attributes:
        elements: what is drawn, by place.
        metrics: what stands under each figure's name, and when it came there.
        texts: the newest words of each side, and when each turn's first came.
        address_now: query of the page's address.
        received: every message of the page, as it came.
        errors: what the server said that went wrong.
        session: id that the server gave the session.
        idle: whether the script has run to its end.
    """

    def __init__(self, address: str, tab: str = "", headers: Mapping[str, str] | None = None) -> None:
        self._address = address.replace("http", "ws", 1)
        self._tab, self._headers = tab, dict(headers or {})
        self.elements: dict[tuple[int, ...], Any] = {}
        self._drawn: dict[tuple[int, ...], int] = {}
        self._whole = 0
        self.metrics: dict[str, tuple[str, float]] = {}
        self.texts: dict[str, str] = {}
        self.first_words: dict[int, float] = {}
        self.address_now = ""
        self.errors: list[str] = []
        self.runs = 0
        self.received: list[bytes] = []
        self.session = ""
        self._pages: dict[str, str] = {}
        self._widgets: dict[str, WidgetState] = {}
        self._known: dict[str, ForwardMsg] = {}
        self._clocks: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._token = ""
        self._page_hash = ""
        self.idle = False
        self._socket: ClientConnection

    async def open(self, query: str = "") -> None:
        """Open the page and wait until its script has run once."""
        self.address_now = query
        await self._connect()
        await self._run()
        await self.until(lambda: self.idle)

    def cut(self) -> None:
        """Lose the connection, as where a network goes away."""
        self._socket.transport.abort()

    async def come_back(self, seconds: float = 60.0) -> None:
        """Connect again as a browser does that was cut off: to the same session where the server still has it.

        Raises:
            OSError: when the server does not answer within so many seconds.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                await self._connect()
                break
            except (OSError, WebSocketException):
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(AGAIN)
        self.idle, runs = False, self.runs
        await self._run()
        await self.until(lambda: self.idle and self.runs > runs)

    async def send(self, data: bytes | str) -> None:
        """Send anything at all."""
        await self._socket.send(data)

    async def ended(self, seconds: float = 10.0) -> bool:
        """Wait until the server has closed the connection; return whether it has."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._socket.wait_closed(), seconds)
            return True
        return False

    async def close(self) -> None:
        """Close the tab."""
        tasks = (*self._tasks, *self._clocks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._socket.close()

    async def type(self, label: str, value: str) -> float:
        """Write into a field and press Enter; return when."""
        self.fill(label, value)
        self.metrics.clear()
        began = time.monotonic()
        await self._run()
        return began

    def fill(self, label: str, value: str) -> None:
        """Write into a field that is sent with the next run."""
        fields = [getattr(one, kind) for one in self.elements.values() if (kind := _kind(one)) in FIELDS]
        name = next(one.id for one in reversed(fields) if one.label == label)
        self._widgets[name] = WidgetState(id=name, string_value=value)

    async def press(self, name: str) -> None:
        """Press a button, by its label or its key."""
        buttons = [one.button for one in self.elements.values() if _kind(one) == "button"]
        found = next(one.id for one in reversed(buttons) if one.label == name or one.id.endswith(f"-{name}"))
        self.idle, runs = False, self.runs
        await self._run(pressed=found)
        await self.until(lambda: self.idle and self.runs > runs)

    async def go(self, page: str) -> None:
        """Go to a page by its name in the bar."""
        self._page_hash, runs = self._pages[page], self.runs
        self.idle = False
        await self._run()
        await self.until(lambda: self.idle and self.runs > runs)

    @property
    def page(self) -> str:
        """Return the name of the page that is shown."""
        return next((name for name, key in self._pages.items() if key == self._page_hash), "")

    @property
    def said(self) -> str:
        """Return what stands in boxes on the page, without the marks that keep it from being read as Markdown."""
        bodies = [one.alert.body for one in self.elements.values() if _kind(one) == "alert"]
        return re.sub(r"\\(.)", r"\1", " ".join(bodies))

    async def until(self, holds: Callable[[], Any], seconds: float = 120.0) -> bool:
        """Wait until something holds of what is shown; return whether it does."""
        end = time.monotonic() + seconds
        while not holds():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        return True

    async def _connect(self) -> None:
        # a page says in this order: the protocol, its token against forged requests, its session
        spoken = ["streamlit", *(["none", self.session] if self.session else [])]
        self._socket = await connect(
            f"{self._address}/_stcore/stream", subprotocols=spoken, max_size=LIMIT,  # type: ignore[arg-type]
            additional_headers=self._headers,
        )  # fmt: skip
        self._tasks.append(asyncio.create_task(self._listen()))

    async def _run(self, fragment: str = "", pressed: str = "") -> None:
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_script_hash = self.address_now, self._page_hash
        state.cached_message_hashes.extend(self._known)
        state.widget_states.widgets.extend(self._widgets.values())
        if pressed:
            state.widget_states.widgets.add(id=pressed, trigger_value=True)
        if fragment:
            state.fragment_id, state.is_auto_rerun = fragment, True
        with suppress(Exception):
            await self._socket.send(message.SerializeToString())

    async def _listen(self) -> None:
        async for data in self._socket:
            self.received.append(bytes(data))  # type: ignore[arg-type]
            message = ForwardMsg.FromString(self.received[-1])
            if message.WhichOneof("type") == "ref_hash":
                kept, place = self._known[message.ref_hash], list(message.metadata.delta_path)
                message = ForwardMsg()
                message.CopyFrom(kept)
                message.metadata.delta_path[:] = place
            elif message.hash and message.metadata.cacheable:
                self._known[message.hash] = message
            self._take(message)
            self._changed.set()

    def _take(self, message: ForwardMsg) -> None:
        what = message.WhichOneof("type")
        if what == "new_session":
            self._page_hash, self.idle = message.new_session.page_script_hash, False
            self.session = message.new_session.initialize.session_id or self.session
            self.runs += 1
            if not message.metadata.run.fragment_ids:
                self._whole = self.runs
                for clock in self._clocks.values():
                    clock.cancel()
                self._clocks.clear()
        elif what == "script_finished":
            self.idle = True
            self._sweep(message.script_finished)
        elif what == "navigation":
            self._pages = {one.page_name: one.page_script_hash for one in message.navigation.app_pages}
        elif what == "page_info_changed":
            self.address_now = message.page_info_changed.query_string
        elif what == "auto_rerun":
            self._wind(message.auto_rerun.fragment_id, message.auto_rerun.interval)
        elif what == "stop_auto_rerun":
            for fragment in message.stop_auto_rerun.fragment_ids:
                self._stop(fragment)
        elif what == "session_event" and message.session_event.WhichOneof("type") == "script_compilation_exception":
            self.errors.append("compilation")
        elif what == "delta" and message.delta.WhichOneof("type") == "new_element":
            self._draw(tuple(message.metadata.delta_path), message.delta.new_element)

    def _draw(self, place: tuple[int, ...], element: Any) -> None:
        self.elements[place], self._drawn[place] = element, self.runs
        kind = _kind(element)
        if kind == "metric":
            self.metrics[element.metric.label] = element.metric.body, time.monotonic()
        elif kind == "exception":
            self.errors.append(element.exception.message)
        elif kind == "alert" and "went wrong" in element.alert.body:
            self.errors.append(element.alert.body)
        elif kind == "bidi_component" and element.bidi_component.component_name == TAB:
            self._show_token(element.bidi_component)
        elif (
            kind == "bidi_component"
            and "surgery-words" in element.bidi_component.mixed.json + element.bidi_component.json
        ):
            token = json.loads(element.bidi_component.json or element.bidi_component.mixed.json)["token"]
            if token != self._token:
                self._token = token
                self._tasks.append(asyncio.create_task(self._hear(token)))

    def _sweep(self, how: int) -> None:
        """Forget what a whole run that came to its end has not drawn again."""
        if how == ForwardMsg.FINISHED_SUCCESSFULLY and self._whole == self.runs:
            for place in [place for place, run in self._drawn.items() if run < self._whole]:
                del self.elements[place], self._drawn[place]

    def _show_token(self, component: Any) -> None:
        said = json.loads(component.mixed.json or component.json)
        if self._tab and not said["known"]:
            self._widgets[component.id] = WidgetState(id=component.id, json_value=json.dumps({"token": self._tab}))
            self._tasks.append(asyncio.create_task(self._run()))

    async def _hear(self, token: str) -> None:
        async with connect(f"{self._address}/{PATH}", additional_headers=self._headers) as socket:
            await socket.send(token)
            async for data in socket:
                message = json.loads(data)
                for side, parts in message["sides"].items():
                    self.texts[side] = "".join(parts)
                if "after" in message["sides"]:
                    self.first_words.setdefault(message["turn"], time.monotonic())
                self._changed.set()

    def _wind(self, fragment: str, interval: float) -> None:
        self._stop(fragment)

        async def tick() -> None:
            while True:
                await asyncio.sleep(interval)
                await self._run(fragment)

        self._clocks[fragment] = asyncio.create_task(tick())

    def _stop(self, fragment: str) -> None:
        if (clock := self._clocks.pop(fragment, None)) is not None:
            clock.cancel()


def _kind(element: Any) -> str | None:
    return element.WhichOneof("type")  # type: ignore[no-any-return]
