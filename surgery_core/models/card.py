"""What a model card says: the title in its first heading, and the licence in its YAML header."""

from __future__ import annotations

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
