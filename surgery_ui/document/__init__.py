"""The HTML document that a browser gets first: Streamlit's own, with what it needs so that nothing moves afterwards.

Streamlit's page is empty until its first message comes, and has no room for the sidebar until then. What is added here
keeps that room, hides the elements of `surgery_ui.components.early`, and fetches their code while the rest is loading.
It also finds the place that an address names behind its #, and says how pages are printed.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from surgery_ui.components.early import FILES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HTML = b"text/html"
SCRIPTS = Path(st.__file__).parent / "static" / "static" / "js"
LEFT_OUT = (b"if-none-match", b"if-modified-since", b"accept-encoding")
"""What a browser says of a document that it has (not of this one, but of Streamlit's own), and that it may be packed."""
_HERE = Path(__file__).parent
STYLE = _HERE / "document.css"
SCRIPT = _HERE / "place.js"


@cache
def addition() -> bytes:
    """Return what stands at the end of the document's head."""
    names = [path.name for name in FILES for path in sorted(SCRIPTS.glob(f"{name}.*.js"))]
    loads = "".join(f'import("./static/js/{name}");' for name in names)
    style, script = (path.read_text(encoding="utf-8") for path in (STYLE, SCRIPT))
    return f'<style>{style}</style><script type="module">{loads}\n{script}</script>'.encode()


class Document:
    """ASGI middleware that adds to each HTML document of the server.

    Args:
        app: what it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back; only a document is changed."""
        if scope["type"] != "http" or scope["method"] != "GET" or not _wants_document(scope):
            return await self._app(scope, receive, send)
        headers = [(name, value) for name, value in scope["headers"] if name not in LEFT_OUT]
        await self._app({**scope, "headers": headers}, receive, _Adding(send))
        return None


def _wants_document(scope: Scope) -> bool:
    return any(name == b"accept" and HTML in value for name, value in scope["headers"])


class _Adding:
    """Sends what it is given; a document is kept until it is whole, and then sent with the addition."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_document(message):
            self._start = message
            return None
        if self._start is None:
            return await self._send(message)
        self._body += message.get("body", b"")
        if not message.get("more_body", False):
            body = self._body.replace(b"</head>", addition() + b"</head>", 1)
            lengths = (b"content-length", b"etag", b"last-modified")
            kept = [(name, value) for name, value in self._start["headers"] if name.lower() not in lengths]
            await self._send({**self._start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
            await self._send({"type": "http.response.body", "body": body})
        return None


def _is_document(message: Message) -> bool:
    headers = {name.lower(): value for name, value in message["headers"]}
    return HTML in headers.get(b"content-type", b"") and b"content-encoding" not in headers
