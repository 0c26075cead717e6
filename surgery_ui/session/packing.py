"""Texts in addresses: compressed, and read back with a bound, for anybody can write an address."""

from __future__ import annotations

import base64
import binascii
import zlib

from surgery_core.errors import TextError

MAX_PACKED = 2_048
"""Longest compressed text that goes into an address, in characters."""
MAX_UNPACKED = 200_000
"""Most bytes that one may become; a few characters can stand for gigabytes."""


def packed(text: str) -> str | None:
    """Return a text compressed into letters that an address has, or None where that is too long."""
    data = text.encode("utf-8", "replace")
    found = base64.urlsafe_b64encode(zlib.compress(data, 9)).decode("ascii").rstrip("=")
    return found if len(found) <= MAX_PACKED and len(data) <= MAX_UNPACKED else None


def unpacked(text: str) -> str:
    """Return what `packed` was given.

    Raises:
        TextError: when it is nothing of that kind, or would be too long.
    """
    try:
        data = base64.b64decode(text[: MAX_PACKED + 1].encode("ascii") + b"==", altchars=b"-_", validate=False)
        reader = zlib.decompressobj()
        found = reader.decompress(data, MAX_UNPACKED + 1)
        if len(found) > MAX_UNPACKED or len(text) > MAX_PACKED:
            raise TextError("The address has a text that is too long; it was left out.")
        if not reader.eof:
            raise TextError("The address has a text that was cut off; it was left out.")
        return found.decode("utf-8")
    except (zlib.error, binascii.Error, ValueError) as error:
        if isinstance(error, TextError):
            raise
        raise TextError("The address has a text that cannot be read; it was left out.") from error
