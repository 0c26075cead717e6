"""A recipe as it stands in its file: from TOML's types to its fields, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from surgery_core.recipes.chosen_set import ChosenSet
from surgery_core.recipes.fields import check, check_fields, read_titled, wrong
from surgery_core.recipes.parts import Claimed, Meaning, NamedPlan, Paper, StudyChoice, SweepChoice, read_expected
from surgery_core.recipes.swap_choice import SwapChoice
from surgery_core.text import Text

VERSIONS = (1, 2)
"""What is read. The first is written wherever it can say everything, so that older programs read it too."""
_GENERATION: dict[str, type] = {
    "max_new_tokens": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "chat": bool,
    "system": str,
}
_TOP: dict[str, type] = {
    "version": int,
    "title": str,
    "note": str,
    "model": str,
    "revision": str,
    "plan": str,
    "seed": int,
    "texts": list,
    "text_set": dict,
    "cut": str,
    "margin": float,
    "prompts": list,
    "lens": str,
    "generation": dict,
    "own_texts": list,
    "figures": dict,
}
_SECOND: dict[str, type] = {
    "topic": str,
    "question": str,
    "do": str,
    "plans": list,
    "sweep": dict,
    "swap": dict,
    "study": dict,
    "paper": dict,
    "claim": dict,
    "meaning": dict,
    "expected": dict,
}
"""What version 2 adds, in the order of the file."""


def values_of(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `Recipe` that a file says.

    Raises:
        RecipeError: names the field that is unknown, missing or of the wrong type.
    """
    version = check(table.get("version"), int, "version")
    if version not in VERSIONS:
        raise wrong("version", f"must be {' or '.join(map(str, VERSIONS))}; this program knows no other")
    for name in table if version == 1 else ():
        if name in _SECOND:
            raise wrong(name, "needs version = 2 at the top of the file")
    check_fields(table, _TOP | (_SECOND if version > 1 else {}), "")
    for name in ("model", "plan") if version == 1 else ("model",):
        if name not in table:
            raise wrong(name, "is missing; every recipe has one")
    generation = table.get("generation", {})
    check_fields(generation, _GENERATION, "generation.")
    left_out = ("version", "generation", "figures")
    values = {name: _READ.get(name, _as_it_is)(value) for name, value in table.items() if name not in left_out}
    return values | {key: _GENERATION[key](value) for key, value in generation.items()}


def _as_it_is(value: Any) -> Any:
    return value


def _each(read: Callable[[Any, str], Any], name: str) -> Callable[[list[Any]], tuple[Any, ...]]:
    """Return what reads every item of a list, by its name and number."""
    return lambda items: tuple(read(item, f"{name}[{at}]") for at, item in enumerate(items))


def _text(item: Any, where: str) -> Any:
    return check(item, str, where)


_READ: dict[str, Callable[[Any], Any]] = {
    "texts": _each(_text, "texts"),
    "prompts": _each(_text, "prompts"),
    "own_texts": _each(read_titled, "own_texts"),
    "text_set": ChosenSet.read,
    "plans": _each(NamedPlan.read, "plans"),
    "sweep": SweepChoice.read,
    "swap": SwapChoice.read,
    "study": StudyChoice.read,
    "paper": Paper.read_table,
    "claim": Claimed.read,
    "meaning": Meaning.read,
    "expected": read_expected,
}
"""What makes a field's value of what stands in the file, where that is not the value itself."""


def table_of(recipe: Any) -> dict[str, Any]:
    """Return a `Recipe` as TOML's types, in the order of the file, without what is left at its default."""
    values = {one.name: getattr(recipe, one.name) for one in fields(recipe) if getattr(recipe, one.name) != one.default}
    generation = {name: values.pop(name) for name in _GENERATION if name in values}
    last = {name: _plain(values.pop(name)) for name in ("own_texts", *_SECOND) if name in values}
    first: dict[str, Any] = {name: last.pop(name) for name in ("topic", "question", "do") if name in last}
    version = 2 if first or last.keys() - {"own_texts"} or recipe.plan is None else 1
    table: dict[str, Any] = {name: _plain(values[name]) for name in _TOP if name in values}
    return {"version": version} | first | table | ({"generation": generation} if generation else {}) | last


def _plain(value: Any) -> Any:
    """Return a value as TOML holds it."""
    if isinstance(value, Text):
        return {"title": value.title, "text": value.text}
    if isinstance(value, (ChosenSet, SweepChoice, SwapChoice, StudyChoice, Claimed)):
        return value.table()
    if isinstance(value, (NamedPlan, Paper, Meaning)):
        return {one.name: getattr(value, one.name) for one in fields(value) if getattr(value, one.name) != one.default}
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
