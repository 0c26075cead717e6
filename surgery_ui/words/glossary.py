"""The words of the pages, read from `docs/glossary.md`, which is the only place where they are explained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_SHIPPED = _PACKAGE / "shipped" / "glossary.md"
GLOSSARY = _SHIPPED if _SHIPPED.is_file() else _PACKAGE.parent / "docs" / "glossary.md"
"""Where the text lies: in the installed package, or in the repository."""
WORDS, FIGURES, NOTATION = "Words", "Figures", "Plan notation"
"""Headings of the parts that the page shows."""
_LINK = re.compile(r"\[([^\]]+)\]\([^)\s]+\.md\)")
_CELL = re.compile(r"(?<!\\)\|")
_UNIT = re.compile(r",? (?:in )?nats.*$|, .*$| (?:before|after)$")


@dataclass(frozen=True)
class Entry:
    """One word or figure.

    Attributes:
        names: what it is called, the usual name first.
        meaning: in a sentence.
        range: of a figure, what values it can have; empty for a word.
        large: of a figure, what a large value means; empty for a word.
    """

    names: tuple[str, ...]
    meaning: str
    range: str = ""
    large: str = ""

    @property
    def title(self) -> str:
        """Return the usual name as a heading."""
        return self.names[0][:1].upper() + self.names[0][1:]

    @property
    def anchor(self) -> str:
        """Return the name by which a link finds it."""
        return re.sub(r"[^a-z0-9]+", "-", self.names[0].casefold()).strip("-")

    def has(self, wanted: str) -> bool:
        """Return whether every word of a search stands in it."""
        text = " ".join((*self.names, self.meaning, self.range, self.large)).casefold()
        return all(word in text for word in wanted.casefold().split())


def entries(part: str) -> tuple[Entry, ...]:
    """Return what a part explains, in the order of the text: of `WORDS` or of `FIGURES`."""
    return tuple(_entry(cells) for cells in _rows(section(part)))


def find(label: str) -> Entry | None:
    """Return what explains a label of a page, such as "Top-1 kept" or "KL, nats"; None where nothing does."""
    wanted = _UNIT.sub("", label).casefold().strip()
    every = (*entries(FIGURES), *entries(WORDS))
    return next((one for one in every if wanted in map(str.casefold, one.names)), None)


@cache
def section(title: str) -> str:
    """Return the text below a heading, without links to other documents, which a page does not have.

    Raises:
        LookupError: when there is no such heading.
    """
    _, found, rest = f"\n{GLOSSARY.read_text(encoding='utf-8')}".partition(f"\n## {title}\n")
    if not found:
        raise LookupError(f"{GLOSSARY} has no part {title!r}.")
    return _LINK.sub(r"\1", rest.partition("\n## ")[0]).strip()


def _rows(text: str) -> Iterator[list[str]]:
    """Give the cells of a table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip().replace("\\|", "|") for cell in _CELL.split(line)[1:-1]]


def _entry(cells: list[str]) -> Entry:
    names, *rest = cells
    return Entry(tuple(names.split(", ")), *rest)
