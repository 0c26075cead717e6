"""On which line of a TOML file a field stands: Python's reader does not tell.

Fields are called as in messages: `study.times`, `plans[1].plan`, `text_set.texts[0]`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'  # a text of several lines may end in two more quotes
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\n\[\]{},=]"
    r"|[ \t]+"
    r"|[^\s\"'#\[\]{},=]+",
    re.DOTALL,
)
_LAST_PART = re.compile(r"(\.[^.\[\]]*|\[\d+\])$")


def line_of(text: str, field: str) -> int | None:
    """Return the line, from 1, on which a field of a valid TOML file stands, or what it is part of; None without either.

    Args:
        text: the file.
        field: by its name in messages.
    """
    lines = lines_of(text)
    while field:
        if field in lines:
            return lines[field]
        field = _LAST_PART.sub("", field) if _LAST_PART.search(field) else ""
    return None


def lines_of(text: str) -> dict[str, int]:
    """Return the line of every table, key and item of a list in a valid TOML file, the first where there are several."""
    text = text.replace("\r\n", "\n")
    ends = [at for at, letter in enumerate(text) if letter == "\n"]
    walk = _Walk()
    for found in _TOKEN.finditer(text):
        walk.take(found.group(), bisect_right(ends, found.start() - 1) + 1 if found.start() else 1)
    walk.take("\n", len(ends) + 1)
    return walk.lines


class _Walk:
    """Reads tokens one by one and remembers where each field began."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self._table = ""
        self._counts: dict[str, int] = {}
        self._key: list[str] = []
        self._key_line = 0
        self._header = 0
        self._inside: list[tuple[str, int]] = []  # of the value: the field, and its item; -1 within a table
        self._field = ""  # whose value is read; empty while a key is

    def take(self, token: str, line: int) -> None:
        """Read one token that begins on this line."""
        if token[0] == "#" or not token.strip(" \t"):
            return
        if self._inside:
            self._within(token, line)
        elif self._field:
            self._value(token, line)
        elif self._header:
            self._in_header(token)
        else:
            self._statement(token, line)

    def _statement(self, token: str, line: int) -> None:
        if token == "[" and not self._key:
            self._header, self._key_line = 1, line
        elif token == "=":
            self._field = self._named(self._table)
        elif token != "\n":
            self._add(token, line)

    def _in_header(self, token: str) -> None:
        if token == "[":
            self._header = 2
        elif token == "\n":
            self._table, self._header = self._opened(), 0
        elif token != "]":
            self._add(token, self._key_line)

    def _opened(self) -> str:
        """Return what the table of a header is called; one of several has its number, and so have tables below one."""
        parts, name = list(_parts(self._key)), ""
        self._key = []
        for at, part in enumerate(parts):
            name = f"{name}.{part}" if name else part
            last = at == len(parts) - 1
            if last and self._header == 2:
                self._counts[name] = self._counts.get(name, -1) + 1
            self.lines.setdefault(name, self._key_line)
            if name in self._counts:
                name = f"{name}[{self._counts[name]}]"
                self.lines.setdefault(name, self._key_line)
        return name

    def _value(self, token: str, line: int) -> None:
        if token == "\n":
            self._field = ""
        elif token in "[{":
            self._open(self._field, token)

    def _within(self, token: str, line: int) -> None:
        field, item = self._inside[-1]
        if token in "]}":
            self._inside.pop()
            self._key = []
        elif token == ",":
            self._inside[-1] = (field, item + 1 if item >= 0 else -1)
            self._field = ""
        elif item >= 0:
            if token != "\n":
                self._item(f"{field}[{item}]", token, line)
        elif token == "=":
            self._field = self._named(field)
        elif token in "[{":
            self._open(self._field, token)
        elif token != "\n" and not self._field:
            self._add(token, line)
        if not self._inside:
            self._field = "after"

    def _item(self, name: str, token: str, line: int) -> None:
        self.lines.setdefault(name, line)
        if token in "[{":
            self._open(name, token)

    def _open(self, field: str, token: str) -> None:
        self._inside.append((field, 0 if token == "[" else -1))
        self._key, self._field = [], ""

    def _add(self, token: str, line: int) -> None:
        if not self._key:
            self._key_line = line
        self._key.append(token)

    def _named(self, before: str) -> str:
        name = before
        for part in _parts(self._key):
            name = f"{name}.{part}" if name else part
            self.lines.setdefault(name, self._key_line)
        self._key = []
        return name


def _parts(tokens: list[str]) -> Iterator[str]:
    """Yield the parts of a key; what is quoted is one, whatever full stops it has."""
    for token in tokens:
        if token[0] in "\"'":
            yield token[1:-1]
        else:
            yield from filter(None, token.split("."))
