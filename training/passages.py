"""Cut books into passages of 150 to 250 words, whole paragraphs each, and write sixty of them as a set of texts.

    python -m training.passages HELDOUT.txt.gz

The held-out books are *The Adventures of Reddy Fox* (Thornton W. Burgess, 1913), *The Dutch Twins* (Lucy Fitch Perkins,
1911) and *Fairy Tales from Brazil* (Elsie Spicer Eells, 1917), all in the public domain; `fable` was not trained on them.
Chapters are separated by a line `<|endoftext|>`, or by two blank lines.
"""

from __future__ import annotations

import gzip
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import tomli_w

LEAST, MOST = 150, 250
"""Words of a passage."""
WANTED = 60
BOOKS = {"The Adventures of Reddy Fox": 25, "The Dutch Twins": 7, "Fairy Tales from Brazil": 18}
"""Chapters of each book, in the file's order."""
TARGET = Path("surgery_core/data/stories.toml")


@dataclass(frozen=True)
class Passage:
    """Some paragraphs of a chapter, counted from 0 over all books."""

    chapter: int
    text: str


def passages_of(path: Path) -> list[Passage]:
    """Return all passages of a file, in order."""
    whole = gzip.decompress(path.read_bytes()).decode("utf-8")
    chapters = [chapter for chapter in re.split(r"<\|endoftext\|>|\n\n\n+", whole) if chapter.strip()]
    return [Passage(number, text) for number, chapter in enumerate(chapters) for text in _cut(chapter)]


def _cut(chapter: str) -> list[str]:
    found: list[str] = []
    held: list[str] = []
    for paragraph in filter(None, (part.strip() for part in chapter.split("\n\n"))):
        if held and _words([*held, paragraph]) > MOST:
            found.append("\n\n".join(held))
            held = []
        held.append(paragraph)
    return [text for text in [*found, "\n\n".join(held)] if LEAST <= len(text.split()) <= MOST]


def _words(paragraphs: list[str]) -> int:
    return sum(len(paragraph.split()) for paragraph in paragraphs)


def _book(chapter: int) -> str:
    for title, count in BOOKS.items():
        if chapter < count:
            return title
        chapter -= count
    raise ValueError(f"There is no chapter {chapter}.")


def main() -> None:
    """Take passages at even distances, so that every book has its share, and write them."""
    passages = passages_of(Path(sys.argv[1]))
    chosen = [passages[at * len(passages) // WANTED] for at in range(WANTED)]
    counts = dict.fromkeys(BOOKS, 0)
    texts = []
    for passage in chosen:
        book = _book(passage.chapter)
        counts[book] += 1
        texts.append({"title": f"{book}, {counts[book]}", "kind": "story", "text": passage.text})
    TARGET.write_text(tomli_w.dumps({"text": texts}, multiline_strings=True), encoding="utf-8")


if __name__ == "__main__":
    main()
