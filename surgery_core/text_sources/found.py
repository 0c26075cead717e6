"""What was found in files: texts, and what could not be read and why; bounded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from surgery_core.errors import TextError
from surgery_core.text import Text, TextSet, read_text

MAX_TITLE = 200
"""Longest title of a text, in characters; longer ones are cut."""


@dataclass(frozen=True)
class Limits:
    """How much is read: this many texts, and this many bytes of all of them (unpacked, for archives)."""

    texts: int = 100_000
    bytes: int = 100_000_000


@dataclass(frozen=True)
class Problem:
    """Something that was not read: where, and why, as a sentence."""

    where: str
    why: str

    def __str__(self) -> str:
        """Return both in one sentence."""
        return self.why if self.where in self.why else f"{self.where}: {self.why}"


@dataclass(frozen=True)
class FoundTexts:
    """What was found in files.

    Attributes:
        texts: in order, each with a title of its own; rows of a table may be empty (see `TextSet.scored`).
        problems: what was not read.
    """

    texts: tuple[Text, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Return the bytes of UTF-8 of all texts."""
        return sum(len(text.text.encode("utf-8")) for text in self.texts)

    @property
    def n_empty(self) -> int:
        """Return how many texts are empty."""
        return sum(not text.text.strip() for text in self.texts)

    def as_set(self, title: str) -> TextSet:
        """Return the texts as a set with this title; its name is the beginning of its digest.

        Raises:
            TextError: when there is no text; it says what was wrong with the first file.
        """
        if self.n_empty == len(self.texts):
            why = f" {self.problems[0]}" if self.problems else " Every text in it is empty."
            raise TextError(f"There is no text in {title}.{why}")
        return own_set(title, self.texts)


def own_set(title: str, texts: Iterable[Text]) -> TextSet:
    """Return texts as a set of one's own; its name is the beginning of its digest."""
    found = TextSet("", " ".join(title.split())[:MAX_TITLE] or "My texts", "", tuple(texts))
    count = "1 text" if len(found.texts) == 1 else f"{len(found.texts):,} texts"
    return TextSet(found.digest[:32], found.title, f"{count} of your own, {found.n_bytes:,} bytes.", found.texts)


class Gathering:
    """Texts while they are read: checked, with titles of their own, up to the limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._texts: list[Text] = []
        self._problems: list[Problem] = []
        self._titles: dict[str, int] = {}
        self._read = self._left_out = 0

    @property
    def room(self) -> int:
        """Return how many bytes may still be read."""
        return max(0, self.limits.bytes - self._read)

    @property
    def full(self) -> bool:
        """Whether no further text is taken."""
        return len(self._texts) >= self.limits.texts or not self.room

    def spend(self, n_bytes: int) -> None:
        """Count bytes that were read, whatever becomes of them."""
        self._read += n_bytes

    def left_out(self, count: int = 1) -> None:
        """Count texts that there was no room for."""
        self._left_out += count

    def problem(self, where: str, why: str) -> None:
        """Keep what was not read, and why."""
        self._problems.append(Problem(where, why))

    def add(self, title: str, data: bytes | str, *, row: bool = False, strict: bool = False) -> None:
        """Take a text; one that cannot be read becomes a problem. A row of a table may be empty.

        Raises:
            TextError: where `strict` is set, instead of a problem.
        """
        if len(self._texts) >= self.limits.texts:
            return self.left_out()
        if row and isinstance(data, str) and not data.strip():
            self._texts.append(Text(self._own_title(title), data))
            return None
        try:
            text = read_text(data, title, self.limits.bytes)
        except TextError as error:
            if strict:
                raise
            return self.problem(title, str(error))
        self._texts.append(Text(self._own_title(title), text.text))
        return None

    def found(self) -> FoundTexts:
        """Return what was gathered."""
        more = []
        if self._left_out:
            left = "1 text was" if self._left_out == 1 else f"{self._left_out:,} texts were"
            most = f"{self.limits.texts:,} texts and {self.limits.bytes:,} bytes"
            more = [Problem("All files", f"{left} left out; at most {most} are read here.")]
        return FoundTexts(tuple(self._texts), (*more, *self._problems))

    def _own_title(self, title: str) -> str:
        """Return a title that no other text has: the second `a.txt` is `a.txt (2)`."""
        title = " ".join(title.split())[:MAX_TITLE] or "Text"
        wanted, count = title, self._titles.get(title, 0)
        while wanted in self._titles:
            count += 1
            wanted = f"{title} ({count})"
        self._titles[title] = max(count, 1)
        self._titles.setdefault(wanted, 1)
        return wanted
