"""Fields of a recipe's or a workshop's file: known ones of the right type, or an error that names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from surgery_core.errors import RecipeError
from surgery_core.text import Text

MOST_SAID = 600
"""Longest sentence about a field, in characters."""
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a table",
}


def check_fields(table: Mapping[str, Any], known: Mapping[str, type], prefix: str, of: str = "recipe") -> None:
    """Refuse fields that are not known, or of another type; `of` is what the file is called.

    Raises:
        RecipeError: names the field, what it is, and what is allowed.
    """
    for name, value in table.items():
        if name not in known:
            allowed = ", ".join(known)
            raise RecipeError(f"The {of} has an unknown field {prefix + name!r}; allowed: {allowed}.", prefix + name)
        check(value, known[name], prefix + name, of)


def check(value: Any, kind: type, name: str, of: str = "recipe") -> Any:
    """Return a value of the right type. Errors as `check_fields`."""
    allowed = (int, float) if kind is float else kind
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, allowed):
        raise wrong(name, f"must be {_WORDS[kind]}, not {value!r}"[:200], of)
    return value


def wrong(field: str, problem: str, of: str = "recipe") -> RecipeError:
    """Return the error that says what is wrong with a field."""
    return RecipeError(f"The {of}'s field {field!r:.200} {_short(problem.rstrip('.'))}.", field)


def _short(problem: str) -> str:
    """Return what is wrong without the middle of a long value that it quotes; what is allowed stands at its end."""
    return problem if len(problem) <= MOST_SAID else f"{problem[:100]} … {problem[100 - MOST_SAID :]}"


def require(table: Mapping[str, Any], names: Iterable[str], where: str, of: str = "recipe") -> None:
    """Refuse a table in which one of these fields is missing, or holds nothing but spaces.

    Raises:
        RecipeError: names the field.
    """
    for name in names:
        if name not in table:
            raise wrong(f"{where}.{name}" if where else name, "is missing; add it", of)
        if isinstance(table[name], str) and not table[name].strip():
            raise wrong(
                f"{where}.{name}" if where else name, "is empty; write a text, or leave the whole table out", of
            )


def read_titled(item: object, where: str) -> Text:
    """Return a text from its table, which has a title and a text.

    Raises:
        RecipeError: when it is no such table; `where` names it.
    """
    table = check(item, dict, where)
    check_fields(table, {"title": str, "text": str}, f"{where}.")
    if not table.keys() >= {"title", "text"}:
        raise wrong(where, "needs a title and a text")
    return Text(table["title"], table["text"])
