"""Which set of texts a recipe scores: one that comes with the package by its name, or one's own by its digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from surgery_core.errors import InputError, RecipeError
from surgery_core.recipes.fields import check_fields, read_titled, wrong
from surgery_core.text import Text, TextSet, read_text, text_sets, texts_digest

KEPT_CHARACTERS = 2_500_000
"""Most characters of texts that go into a recipe themselves; of larger sets it has title, digest and number."""
MAX_OWN_BYTES = 2_500_000
_FIELDS: dict[str, type] = {"name": str, "title": str, "digest": str, "number": int, "texts": list}


@dataclass(frozen=True)
class ChosenSet:
    """A set of texts as a recipe keeps it.

    Attributes:
        name: of a set that comes with the package; the other fields are empty then.
        title: of one's own set.
        digest: of its texts (`TextSet.digest`).
        number: how many texts it has.
        texts: themselves, where they are small enough.
    """

    name: str = ""
    title: str = ""
    digest: str = ""
    number: int = 0
    texts: tuple[Text, ...] = ()

    def __post_init__(self) -> None:
        if self.name:
            if self.name not in text_sets():
                raise wrong("text_set.name", f"is {self.name!r}; there are {', '.join(text_sets())}")
            return
        if len(self.digest) != 64 or set(self.digest) - set("0123456789abcdef"):
            raise wrong("text_set.digest", f"is {self.digest!r:.80}; it must be a SHA-256 of 64 digits 0-9 and a-f")
        for text in self.texts:
            _check_text(text)
        if self.texts and texts_digest(self.texts) != self.digest:
            raise wrong("text_set.texts", "was changed: its texts have another digest than the recipe says")

    @classmethod
    def of(cls, chosen: TextSet) -> ChosenSet:
        """Return a set as a recipe keeps it."""
        if text_sets().get(chosen.name) == chosen:
            return cls(chosen.name)
        size = sum(len(json.dumps(text.title + text.text, ensure_ascii=False)) for text in chosen.texts)
        kept = tuple(Text(text.title, text.text) for text in chosen.texts) if size <= KEPT_CHARACTERS else ()
        return cls("", chosen.title, chosen.digest, len(chosen.texts), kept)

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> ChosenSet:
        """Return what a table of a recipe's file says.

        Raises:
            RecipeError: names the field that is wrong.
        """
        check_fields(table, _FIELDS, "text_set.")
        texts = tuple(read_titled(row, f"text_set.texts[{at}]") for at, row in enumerate(table.get("texts", ())))
        return cls(**{**table, "texts": texts})

    def table(self) -> dict[str, Any]:
        """Return the table of a recipe's file."""
        if self.name:
            return {"name": self.name}
        texts = [{"title": text.title, "text": text.text} for text in self.texts]
        about = {"title": self.title, "digest": self.digest, "number": self.number}
        return about | ({"texts": texts} if texts else {})

    def found(self, given: TextSet | None = None) -> TextSet:
        """Return the set itself.

        Args:
            given: the set, where a recipe does not hold its texts.

        Raises:
            RecipeError: when the texts are not there, or those that were given are others.
        """
        if self.name:
            return text_sets()[self.name]
        if self.texts:
            return TextSet(self.digest[:32], self.title, f"{self.number:,} texts of your own.", self.texts)
        about = f"{self.title or 'a set'} ({self.number:,} texts, digest {self.digest[:12]})"
        if given is None:
            raise RecipeError(
                f"The recipe scores {about}, and does not hold the texts themselves. Give the files that they were read "
                "from, with --texts on the command line."
            )
        if given.digest != self.digest:
            raise RecipeError(
                f"The recipe scores {about}; those given have the digest {given.digest[:12]}. Give the same files."
            )
        return given


def _check_text(text: Text) -> None:
    """Refuse what is no text; a row of a table may be empty."""
    try:
        if text.text.strip():
            read_text(text.text, text.title, MAX_OWN_BYTES)
    except InputError as error:
        raise wrong("text_set.texts", f"has a text that cannot be read. {error}") from error
