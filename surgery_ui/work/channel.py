"""A session's own way to its browser for the words of its texts, beside Streamlit's, which waits for the whole page.

The page tells a channel which jobs write its texts; the browser names the channel by its token, and gets what they have
written whenever there is more. Each change of the jobs begins a turn, so that a browser can tell what is newer; what an
earlier turn wrote is never sent again. A token is a secret of 256 bits that only its own page has.

Nothing here imports Streamlit.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from surgery_ui.words.texts import beside, divided
from surgery_ui.work.job import Job

PATH = "surgery-words"
"""Last part of the address; what stands before it is where the app is served."""
UNKNOWN = 4404
"""With which a socket is closed whose token names no channel: to try it again is no use."""
PAUSE = 0.02
"""Seconds between two messages at least."""
PATIENCE = 10.0
"""Seconds within which a browser says its token."""

Message = dict[str, Any]

_CHANNELS: WeakValueDictionary[str, Channel] = WeakValueDictionary()
"""By token, for as long as their sessions live."""


class Channel:
    """What one session's texts have come to.

    Attributes:
        token: by which its browser names it.
        turn: number of the newest change of the jobs, 0 before the first.
    """

    def __init__(self) -> None:
        self.token, self.turn = secrets.token_urlsafe(32), 0
        self._prompt = ""
        self._jobs: dict[str, Job[Any]] = {}
        self._listeners: list[threading.Event] = []
        self._lock = threading.Lock()
        _CHANNELS[self.token] = self

    @property
    def connected(self) -> bool:
        """Whether a browser listens."""
        return bool(self._listeners)

    def follow(self, prompt: str, jobs: Mapping[str, Job[Any]]) -> int:
        """Have what these jobs write sent from now on, and nothing of others; return the turn.

        Args:
            prompt: what they continue, as it is shown.
            jobs: what writes the texts, by side.
        """
        with self._lock:
            same = self._prompt == prompt and self._jobs.keys() == jobs.keys()
            if not same or any(self._jobs[side] is not job for side, job in jobs.items()):
                self.turn, self._prompt, self._jobs = self.turn + 1, prompt, dict(jobs)
                for listener in self._listeners:
                    self._tell(listener)
            return self.turn

    def wait_for_words(self, side: str, seconds: float) -> bool:
        """Wait until a side that is being written has words, at most so long; return whether they came."""
        news, job, end = threading.Event(), self._jobs[side], time.monotonic() + seconds
        if job.text or job.done:
            return False
        job.tell(news)
        while not job.text and not job.done and (left := end - time.monotonic()) > 0:
            news.wait(left)
            news.clear()
        return bool(job.text)

    def message(self) -> Message | None:
        """Return what a browser should show, or None where nothing new is written yet."""
        with self._lock:
            turn, prompt, jobs = self.turn, self._prompt, self._jobs
        texts, sides = {side: job.text for side, job in jobs.items()}, {}
        writing = [side for side, job in jobs.items() if not job.done]
        if writing and not any(texts[side] for side in writing):
            return None  # what was done before is on the page
        for side, text in texts.items():
            # what went wrong is for the page to say
            if text and not (jobs[side].done and jobs[side].error is not None):
                sides[side] = divided(prompt, text, beside(side, texts))
        return {"turn": turn, "sides": sides} if sides else None

    def listen(self, listener: threading.Event) -> None:
        """Set a listener whenever there may be news, until `leave`."""
        with self._lock:
            self._listeners.append(listener)
            self._tell(listener)

    def leave(self, listener: threading.Event) -> None:
        """Tell a listener no more."""
        with self._lock:
            self._listeners.remove(listener)

    def _tell(self, listener: threading.Event) -> None:
        for job in self._jobs.values():
            job.tell(listener)
        listener.set()


def find(token: str) -> Channel | None:
    """Return the channel of a session that lives."""
    return _CHANNELS.get(token)


def living() -> int:
    """Return how many sessions live: those of open tabs, and of tabs that were closed a moment ago."""
    return len(_CHANNELS)


async def serve(socket: WebSocket) -> None:
    """Send a browser the words of the channel whose token it says first."""
    if not _is_own(socket):
        await socket.close(1008)
        return
    await socket.accept()
    with suppress(WebSocketDisconnect):
        channel = await _named(socket)
        if channel is None:
            await socket.close(UNKNOWN)
            return
        async with _sending(socket, channel):
            while True:  # it says nothing more; what is waited for is its end
                await _heard(socket)


ROUTE = WebSocketRoute(f"/{{base:path}}{PATH}", serve)
"""Under whatever path the app is served."""


class _Alarm(threading.Event):
    """What jobs set in their threads, and a task waits for in its loop."""

    def __init__(self) -> None:
        super().__init__()
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()

    def set(self) -> None:
        with suppress(RuntimeError):  # the server has ended meanwhile
            self._loop.call_soon_threadsafe(self._news.set)

    async def heard(self) -> None:
        """Wait until it was set since the last time."""
        await self._news.wait()
        self._news.clear()


@asynccontextmanager
async def _sending(socket: WebSocket, channel: Channel) -> AsyncIterator[None]:
    alarm = _Alarm()
    channel.listen(alarm)
    sender = asyncio.create_task(_send(socket, channel, alarm))
    try:
        yield
    finally:
        channel.leave(alarm)
        sender.cancel()


async def _send(socket: WebSocket, channel: Channel, alarm: _Alarm) -> None:
    sent: Message | None = None
    with suppress(WebSocketDisconnect, RuntimeError):  # whoever receives sees the end too
        while True:
            await alarm.heard()
            message = channel.message()
            if message is not None and message != sent:
                sent = message
                await socket.send_json(message)
                await asyncio.sleep(PAUSE)


async def _named(socket: WebSocket) -> Channel | None:
    try:
        return find(await asyncio.wait_for(_heard(socket), PATIENCE))
    except TimeoutError:
        return None


async def _heard(socket: WebSocket) -> str:
    """Return the next message, nothing for one that is no text.

    Raises:
        WebSocketDisconnect: when the browser is gone.
    """
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    return str(message.get("text") or "")


def _is_own(socket: WebSocket) -> bool:
    """Whether a browser's page is of this server: another site's pages are not let in."""
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == socket.headers.get("host")
