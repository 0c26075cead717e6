"""The one reader of files with texts, for pages, the command line and scripts.

found = read_files([("mine.zip", data)])
found = open_texts(["folder", "more.jsonl"])
texts = found.as_set("Mine")
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from surgery_core.errors import TextError
from surgery_core.text_sources.archive import is_hidden, read_zip
from surgery_core.text_sources.found import FoundTexts, Gathering, Limits
from surgery_core.text_sources.tables import read_csv, read_jsonl

PLAIN, LINES, TABLES = (".txt", ".md"), (".jsonl", ".ndjson"), (".csv", ".tsv")
ENDINGS = (*PLAIN, *LINES, *TABLES, ".zip")
"""What the names of files that are read end with."""


def read_files(
    files: Iterable[tuple[str, bytes]], column: str | None = None, limits: Limits | None = None
) -> FoundTexts:
    """Return the texts of files.

    Args:
        files: names and contents. A .txt or .md file is a text, a .jsonl file has one in a field of each line, a .csv
            or .tsv file in a column; a .zip archive has any of these.
        column: the field or column; by default `text`, or a table's only column.
        limits: how much is read.

    A file that cannot be read, or a line of one, is named in `problems`; the others are read.
    """
    gathering = Gathering(limits or Limits())
    for name, data in files:
        _take(name, data, gathering, column)
    return gathering.found()


def open_texts(paths: Iterable[str | Path], column: str | None = None, limits: Limits | None = None) -> FoundTexts:
    """Return the texts of files and folders by their paths, `-` for standard input. Arguments as for `read_files`.

    Of a folder all files in it and below that end as texts do are read, in the order of their names.

    Raises:
        TextError: when a path cannot be opened, or a file that is named by itself and is no table or archive is no text.
    """
    gathering = Gathering(limits or Limits())
    for path in paths:
        if str(path) == "-":
            gathering.add("standard input", sys.stdin.buffer.read(gathering.limits.bytes + 1), strict=True)
        elif Path(path).is_dir():
            _open_folder(Path(path), gathering, column)
        else:
            _take(Path(path).name, _opened(Path(path), gathering), gathering, column, by_name=True)
    return gathering.found()


def _open_folder(folder: Path, gathering: Gathering, column: str | None) -> None:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    seen = [name for name in names if not is_hidden(name)]
    for at, name in enumerate(seen):
        if gathering.full:
            return gathering.left_out(len(seen) - at)
        if name.lower().endswith(ENDINGS):
            _take(name, _opened(folder / name, gathering), gathering, column)
        else:
            gathering.problem(name, f"Its name ends with none of {', '.join(ENDINGS)}.")
    return None


def _opened(path: Path, gathering: Gathering) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(gathering.limits.bytes + 1)
    except OSError as error:
        raise TextError(f"The text {str(path)!r} cannot be read: {error.strerror}.") from error


def _take(name: str, data: bytes, gathering: Gathering, column: str | None, *, by_name: bool = False) -> None:
    """Take what a file has; one that was named by itself is a text whatever its ending, or an error."""
    ending = PurePosixPath(name.lower()).suffix
    if len(data) > gathering.limits.bytes:
        return gathering.problem(name, f"It has more than {gathering.limits.bytes:,} bytes, which are the most.")
    if ending == ".zip":
        return read_zip(name, data, gathering, lambda path, part: _take_plain(path, part, gathering, column))
    if gathering.full or len(data) > gathering.room:
        return gathering.left_out()
    gathering.spend(len(data))
    return _take_plain(name, data, gathering, column, by_name=by_name)


def _take_plain(name: str, data: bytes, gathering: Gathering, column: str | None, *, by_name: bool = False) -> None:
    ending = PurePosixPath(name.lower()).suffix
    if ending in LINES or ending in TABLES:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return gathering.problem(name, f"It is not UTF-8 text (byte {error.start + 1}). Save it as UTF-8.")
        read = read_jsonl if ending in LINES else read_csv
        return read(name, text, gathering, column)
    if ending in PLAIN or by_name:
        return gathering.add(name, data, strict=by_name)
    return gathering.problem(name, f"Its name ends with none of {', '.join(ENDINGS)}.")
