"""Texts out of .zip archives: bounded in bytes unpacked, and nothing is ever written to a disk."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import PurePosixPath

from surgery_core.bounded import BROKEN_ZIP, Unreadable, unpacked
from surgery_core.text_sources.found import Gathering

MAX_ENTRIES = 100_000
"""Most files of an archive that are looked at."""

Take = Callable[[str, bytes], None]
"""What takes a file by its name."""


def read_zip(name: str, data: bytes, gathering: Gathering, take: Take) -> None:
    """Hand every file of an archive on; what cannot be read becomes a problem with its name.

    Folders and what macOS or an editor adds (`__MACOSX`, names with a dot before) are passed over.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except BROKEN_ZIP:
        return gathering.problem(name, "It is no .zip archive, or it is damaged. Pack it again.")
    entries = [one for one in archive.infolist() if not one.is_dir() and not is_hidden(one.filename)]
    if len(entries) > MAX_ENTRIES:
        gathering.problem(name, f"It has {len(entries):,} files; the first {MAX_ENTRIES:,} are looked at.")
    for at, entry in enumerate(entries[:MAX_ENTRIES]):
        if gathering.full:
            return gathering.left_out(len(entries) - at)
        _read(name, archive, entry, gathering, take)
    return None


def is_hidden(path: str) -> bool:
    """Whether a file is of those that a person does not see: in `__MACOSX`, or with a dot before its name or folder's."""
    parts = [part for part in PurePosixPath(path.replace("\\", "/")).parts if part not in ("..", ".", "/")]
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _read(name: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, gathering: Gathering, take: Take) -> None:
    path = _plain(entry.filename)
    where = f"{name}: {path}"
    if path.lower().endswith(".zip"):
        return gathering.problem(where, "It is an archive within the archive. Unpack it first.")
    room = gathering.room
    try:
        data = unpacked(archive, entry, room)
    except Unreadable as error:
        return gathering.problem(where, f"It {error}.")
    gathering.spend(min(len(data), room))
    if len(data) > room:
        return gathering.left_out()
    return take(path, data)


def _plain(path: str) -> str:
    """Return an entry's path without what leads out of the archive; it is only ever shown."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return "/".join(part for part in parts if part not in ("..", ".", "/")) or "a file without a name"
