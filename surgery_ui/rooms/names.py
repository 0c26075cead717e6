"""Codes of rooms, keys of organisers, and names of people: made, cleaned, compared."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""Of codes: without vowels no code is a word, and none is read as a digit."""
LENGTH = 4
MAX_NAME = 24
"""Longest name, in characters."""


def new_code() -> str:
    """Return a code that nobody can foresee."""
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))


def read_code(text: object) -> str | None:
    """Return the code that somebody typed or a link has, or None where it cannot be one."""
    code = re.sub(r"[\s-]", "", text).upper() if isinstance(text, str) and len(text) < 40 else ""
    return code if len(code) == LENGTH and all(letter in LETTERS for letter in code) else None


def new_key() -> str:
    """Return an organiser's key."""
    return secrets.token_urlsafe(18)


def sealed(key: str) -> str:
    """Return what is kept of a key: it cannot be read back from it."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def opens(key: str, kept: str) -> bool:
    """Return whether a key is the one of which this was kept."""
    return hmac.compare_digest(sealed(key), kept)


def clean_name(text: object) -> str:
    """Return a name as it is shown: one line, at most 24 characters, none that are invisible or turn the text around."""
    shown = unicodedata.normalize("NFC", text) if isinstance(text, str) else ""
    kept = "".join(" " if letter.isspace() else letter for letter in shown[:400])
    kept = "".join(letter for letter in kept if unicodedata.category(letter)[0] != "C")
    return " ".join(kept.split())[:MAX_NAME].strip()
