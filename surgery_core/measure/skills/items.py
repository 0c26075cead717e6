"""Read and check skill files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from surgery_core.errors import InputError
from surgery_core.plugins import with_added

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class SkillItem:
    """A prompt, the continuation that is right and those that are wrong (with their leading spaces)."""

    prompt: str
    right: str
    wrong: tuple[str, ...]

    @property
    def answers(self) -> tuple[str, ...]:
        """The right answer, then the wrong ones."""
        return (self.right, *self.wrong)


@dataclass(frozen=True)
class Skill:
    """A named set of items; `source` says where the idea comes from, or is empty."""

    name: str
    title: str
    description: str
    source: str
    items: tuple[SkillItem, ...]


def load_skills(folder: Path | None = None) -> tuple[Skill, ...]:
    """Load every skill file of a folder, in the order of the file names.

    Args:
        folder: of TOML files; by default the bundled ones, and those that other packages add (`model_surgery.skills`).

    Raises:
        InputError: a file is not a skill, or two skills have the same name.
    """
    return all_skills() if folder is None else _of_folder(folder)


@cache
def all_skills() -> tuple[Skill, ...]:
    """Return the skills that come with this package, then those of others (`model_surgery.skills`)."""
    return with_added("skills", _of_folder(FOLDER), lambda skill: skill.name, _of_package)


def _of_package(value: Any) -> tuple[Skill, ...]:
    """Return the skills in the folder of a package, or in one that is named by its path."""
    places = [value] if isinstance(value, (str, Path)) else list(getattr(value, "__path__", ()))
    skills = tuple(skill for place in places for skill in _of_folder(Path(place)))
    if not skills:
        raise InputError(f"{getattr(value, '__name__', value)!s} is no folder with skill files.")
    return skills


def _of_folder(folder: Path) -> tuple[Skill, ...]:
    skills = tuple(read_skill(path) for path in sorted(folder.glob("*.toml")))
    names = [skill.name for skill in skills]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Two skill files in {folder} have the name {name!r}; give each its own name.")
    return skills


def read_skill(path: Path) -> Skill:
    """Read one skill file.

    Raises:
        InputError: the file is not TOML, or a field is missing, empty or of the wrong type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not a TOML file: {error}.") from error
    _reject_unknown(table, {"name", "title", "description", "source", "item"}, path.name)
    rows = table.get("item")
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path.name} has no items; add one or more [[item]] tables.")
    items = tuple(_item(row, f"{path.name}, item {place}") for place, row in enumerate(rows, 1))
    name, title, description = (_text(table, key, path.name) for key in ("name", "title", "description"))
    return Skill(name, title, description, _text(table, "source", path.name) if "source" in table else "", items)


def _item(row: Any, where: str) -> SkillItem:
    if not isinstance(row, dict):
        raise InputError(f"{where} is not a table; write it as [[item]].")
    _reject_unknown(row, {"prompt", "right", "wrong"}, where)
    prompt, right = _text(row, "prompt", where), _text(row, "right", where)
    if prompt[-1].isspace():
        raise InputError(f"{where}: the prompt ends in a space; begin the answers with it instead.")
    wrong = row.get("wrong")
    answers = [wrong] if isinstance(wrong, str) else wrong
    if not isinstance(answers, list) or not answers or not all(isinstance(text, str) and text for text in answers):
        raise InputError(f"{where}: wrong is {wrong!r}; write one text or a list of texts, none of them empty.")
    if right in answers:
        raise InputError(f"{where}: {right!r} is both right and wrong.")
    return SkillItem(prompt, right, tuple(answers))


def _text(table: dict[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {key} is {value!r}; it must be a text that is not empty.")
    return value


def _reject_unknown(table: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise InputError(f"{where}: unknown key {unknown[0]!r}; allowed are {', '.join(sorted(known))}.")
