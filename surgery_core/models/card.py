"""What lies beside a model's weights: its card's title and licence, and how it was healed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path


def read_card(folder: Path) -> tuple[str, str | None]:
    """Return title and licence of the README in a folder; the folder's name and None where they are not stated."""
    card = folder / "README.md"
    try:
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
    except (OSError, UnicodeDecodeError):
        text = ""
    header, body = _split(text)
    heading = next((line[2:].strip() for line in body if line.startswith("# ")), "")
    stated = _entries(header)
    licence = stated.get("license_name") or stated.get("license")
    return heading[:80] or folder.name, licence or None


HEALING = "healing.json"
"""Name of the file in which a healed checkpoint says how it was trained."""
_MOST_BYTES, _MOST_CHARACTERS = 4_000_000, 600


def read_healing(folder: Path) -> str:
    """Return the sentence that says how a checkpoint was healed; empty where it was not, or that cannot be read."""
    path = folder / HEALING
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return ""
        made = json.loads(path.read_text(encoding="utf-8")).get("made", "")
    except (OSError, ValueError, AttributeError):
        return ""
    return " ".join(made.split())[:_MOST_CHARACTERS] if isinstance(made, str) else ""


def _entries(header: Iterable[str]) -> dict[str, str]:
    """Return the entries of a flat YAML header by key; a list's items are joined by commas."""
    found: dict[str, list[str]] = {}
    key = ""
    for line in header:
        if line.lstrip().startswith("- ") and key:
            found[key].append(_value(line.lstrip()[2:]))
        elif line[:1].strip() and ":" in line:
            key, _, value = line.partition(":")
            found[key := key.strip()] = [_value(one) for one in value.strip().strip("[]").split(",")]
    return {key: ", ".join(filter(None, values)) for key, values in found.items()}


def _value(text: str) -> str:
    return text.strip(" \"'")


def _split(text: str) -> tuple[list[str], list[str]]:
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---" or "---" not in lines[1:]:
        return [], lines
    end = lines.index("---", 1)
    return lines[1:end], lines[end + 1 :]
