"""What every answer of the server tells the browser that it must not do, and the addresses that are nobody's business.

A page may run the scripts of this server and no others, show nothing of other sites, send nothing to them, and be shown
in no frame of theirs but those that the organiser names. Scripts within the document are allowed by their digests
(Content Security Policy Level 3, section 8.4), styles are not restricted: Streamlit makes them while it draws.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING

from surgery_ui.document import SCRIPTS, addition
from surgery_ui.work.limits import limits

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

INDEX = SCRIPTS.parents[1] / "index.html"
CLOSED = "/_stcore/metrics"
"""End of the address that is answered as if there were nothing: Streamlit tells there how many sessions do what."""
INLINE = re.compile(rb"<script(?: type=\"module\")?>(.*?)</script>", re.DOTALL)
FEATURES = ("camera", "geolocation", "microphone", "payment", "usb")


@cache
def headers(framed_by: Sequence[str] = ()) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers of every answer.

    Args:
        framed_by: origins of the pages that may show this app in a frame.
    """
    sent = {
        "content-security-policy": policy(framed_by),
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": ", ".join(f"{feature}=()" for feature in FEATURES),
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
    }
    if not framed_by:  # it knows no list
        sent["x-frame-options"] = "SAMEORIGIN"
    return tuple((name.encode(), value.encode()) for name, value in sent.items())


def policy(framed_by: Sequence[str] = ()) -> str:
    """Return the content security policy. Arguments as for `headers`."""
    scripts = INLINE.findall(INDEX.read_bytes()) + INLINE.findall(addition())
    digests = " ".join(f"'sha256-{b64encode(sha256(script).digest()).decode()}'" for script in scripts)
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' blob: {digests}",  # a component's code is a blob
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            " ".join(("frame-ancestors 'self'", *framed_by)),
        )
    )


class Guard:
    """ASGI middleware that adds these headers to every answer and closes addresses.

    Args:
        app: what it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for what is closed; pass every other one on, and its answer back with the headers."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        own = headers(limits().framed_by)
        if scope["path"].rstrip("/").endswith(CLOSED):
            await send({"type": "http.response.start", "status": 404, "headers": [*own, (b"content-length", b"0")]})
            return await send({"type": "http.response.body", "body": b""})

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in own}
                kept = [(name, value) for name, value in message["headers"] if name.lower() not in names]
                message = {**message, "headers": [*kept, *own]}
            await send(message)

        return await self._app(scope, receive, guarded)
