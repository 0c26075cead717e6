"""What the command line writes: tables, JSON, CSV and a progress bar."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from surgery_core.keeping.tables import cell_text, finite

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 100


@dataclass(frozen=True)
class Output:
    """What a command has to say, in each of the forms that it can be written in.

    Attributes:
        text: for a person.
        rows: for CSV; all with the same keys.
        content: for JSON.
        code: the exit code; not 0 where the answer is a no.
    """

    text: str
    rows: Sequence[Mapping[str, Any]]
    content: object
    code: int = 0


def emit(output: Output, form: str) -> None:
    """Write an output to standard output as `"text"`, `"json"` or `"csv"`."""
    if form == "json":
        write_json(output.content)
    elif form == "csv":
        write_csv(output.rows)
    else:
        write(output.text)


def write(text: str = "") -> None:
    """Write one line, or a block, to standard output."""
    sys.stdout.write(text + "\n")


def write_json(content: object) -> None:
    """Write indented JSON; a number that JSON cannot hold (infinite, not a number) becomes null."""
    write(json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False))


def write_csv(rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as CSV with a header line; numbers keep their full precision."""
    import csv

    writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as aligned columns: numbers to the right with four significant digits, text to the left."""
    if not rows:
        return "(nothing)"
    columns = {name: [cell_text(row[name]) for row in rows] for name in rows[0]}
    right = {name: all(isinstance(row[name], (int, float)) for row in rows) for name in rows[0]}
    width = {name: max(len(name), *map(len, cells)) for name, cells in columns.items()}

    def line(cells: Mapping[str, str]) -> str:
        placed = (cells[n].rjust(width[n]) if right[n] else cells[n].ljust(width[n]) for n in columns)
        return "  ".join(placed).rstrip()

    header = line({name: name.replace("_", " ") for name in columns})
    body = (line({name: cells[at] for name, cells in columns.items()}) for at in range(len(rows)))
    return "\n".join((header, *body))


def paragraph(label: str, text: str) -> str:
    """Return text wrapped under its label."""
    lines = [part for line in text.splitlines() or [""] for part in textwrap.wrap(line, WIDTH - 2) or [""]]
    return "\n".join((label, *(f"  {line}".rstrip() for line in lines)))


def frame_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the lines of a frame."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error while the block runs; none where that is not a terminal."""
    with tqdm(desc=label, disable=None, leave=False, file=sys.stderr) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update
