"""Texts out of tables: a field of each line of a .jsonl file, a column of a .csv or .tsv file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from surgery_core.bounded import read_json
from surgery_core.text_sources.found import Gathering

COLUMN = "text"
"""Field or column that is read unless another is named."""
_SHOWN = 12


def read_jsonl(name: str, text: str, gathering: Gathering, column: str | None = None) -> None:
    """Take the field of every line; a line that has none, or is no JSON, becomes a problem."""
    field = column or COLUMN
    # not splitlines: JSON strings may hold other line ends, such as U+2028
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    for at, (number, line) in enumerate(lines):
        if gathering.full:
            return gathering.left_out(len(lines) - at)
        where = f"{name}, line {number:,}"
        try:
            row = read_json(line)
        except ValueError:
            gathering.problem(where, "This is not JSON; every line has to be one object.")
            continue
        _take(where, row, field, gathering)
    return None


def _take(where: str, row: Any, field: str, gathering: Gathering) -> None:
    if not isinstance(row, dict):
        return gathering.problem(where, f"This is no object with a field {field!r}.")
    value, title = row.get(field), row.get("title")
    if not isinstance(value, str):
        return gathering.problem(where, f"There is no text in a field {field!r}; it has {_names(list(row))}.")
    named = title if isinstance(title, str) and title.strip() and field != "title" else where
    return gathering.add(named, value, row=True)


def read_csv(name: str, text: str, gathering: Gathering, column: str | None = None) -> None:
    """Take a column; where none is named the one called `text`, or the only one. The first line has the names."""
    rows = _rows(text, gathering.limits.bytes)
    try:
        names = next(rows, [])
        wanted = column or (names[0] if len(names) == 1 else COLUMN)
        if wanted not in names:
            return gathering.problem(name, f"It has no column {wanted!r}; its columns are {_names(names)}. Name one.")
        at, title = names.index(wanted), names.index("title") if "title" in names and wanted != "title" else None
        _take_rows(name, rows, at, title, gathering)
    except csv.Error as error:
        return gathering.problem(name, f"It stops being a table ({error}); what stands before that is read.")
    return None


def _take_rows(name: str, rows: Iterator[list[str]], at: int, title: int | None, gathering: Gathering) -> None:
    for number, row in enumerate(rows, 2):
        if gathering.full:
            gathering.left_out()
        elif not row:
            continue
        elif len(row) <= at:
            gathering.problem(f"{name}, row {number:,}", f"It has {len(row)} columns; the text is in column {at + 1}.")
        else:
            named = row[title] if title is not None and title < len(row) and row[title].strip() else ""
            gathering.add(named or f"{name}, row {number:,}", row[at], row=True)


def _rows(text: str, most: int) -> Iterator[list[str]]:
    """Yield the lines of a table whose columns are parted by commas, semicolons or tabs."""
    head = text.split("\n", 1)[0]
    csv.field_size_limit(max(csv.field_size_limit(), min(most, 2**31 - 1)))
    return csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))


def _names(names: list[str]) -> str:
    shown = ", ".join(f"{name:.40}" for name in names[:_SHOWN]) or "none"
    return f"{shown}, ..." if len(names) > _SHOWN else shown
