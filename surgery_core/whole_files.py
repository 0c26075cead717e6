"""Files that are there whole or not at all: written beside, flushed to the disk, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part"
"""Ending of a file that is not whole yet; its name begins with a full stop."""


def write_whole(path: str | Path, content: bytes) -> Path:
    """Write a file, in place of one that is there; where that fails, what was there stays as it was.

    Raises:
        OSError: when it cannot be written, for example on a full disk.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}{PART}")
    return finish(part, target, content)


def finish(part: Path, target: Path, content: bytes) -> Path:
    """Fill a file beside another one and put it in that one's place; where that fails, it is gone.

    Raises:
        OSError: as `write_whole`.
    """
    try:
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(target)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return target


@contextmanager
def written_beside(path: str | Path) -> Iterator[Path]:
    """Give the name of a file beside another one, and put what was written there in that one's place at the end.

    After an exception it is gone, and what was there stays as it was.

    Raises:
        OSError: when it cannot be put there.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}{PART}")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
