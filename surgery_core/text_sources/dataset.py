"""Texts of a data set that the `datasets` library loads, such as WikiText-2 from the hub."""

from __future__ import annotations

import importlib
from typing import Any

from surgery_core.errors import SettingsError, TextError
from surgery_core.text_sources.found import FoundTexts, Gathering, Limits
from surgery_core.text_sources.tables import COLUMN

FORM = "NAME:CONFIG:SPLIT, such as wikitext:wikitext-2-raw-v1:test, or NAME:SPLIT"
MISSING = "A data set needs the package datasets; install it with: pip install 'model-surgery[datasets]'."


def read_dataset(name: str, column: str | None = None, limits: Limits | None = None) -> FoundTexts:
    """Return the texts of a split of a data set, a row a text, with the empty ones.

    Args:
        name: `NAME:CONFIG:SPLIT` or `NAME:SPLIT`; the name is one of the hub, or a folder.
        column: with the texts; by default `text`, or the only one.
        limits: how much is read.

    Raises:
        SettingsError: when the name is not of that form, or `datasets` is not installed.
        TextError: when the data set cannot be loaded, or has no such column.
    """
    where, config, split = _parts(name)
    rows = _load(name, where, config, split)
    names = [str(one) for one in rows.column_names]
    wanted = column or (names[0] if len(names) == 1 else COLUMN)
    if wanted not in names:
        raise TextError(
            f"The data set {name!r} has no column {wanted!r}; its columns are {', '.join(names)}. Name one."
        )
    gathering = Gathering(limits or Limits())
    for number, row in enumerate(rows.select_columns([wanted]), 1):
        if gathering.full:
            gathering.left_out(len(rows) - number + 1)
            break
        _take(f"{where} {number:,}", row[wanted], gathering)
    return gathering.found()


def _parts(name: str) -> tuple[str, str | None, str]:
    parts = [part.strip() for part in name.rsplit(":", 2)]
    if len(parts) == 1 or not parts[0] or not parts[-1]:
        raise SettingsError(f"The data set {name!r} is not of the form {FORM}.")
    return parts[0], (parts[1] or None) if len(parts) == 3 else None, parts[-1]


def _load(name: str, where: str, config: str | None, split: str) -> Any:
    try:
        library = importlib.import_module("datasets")
    except ImportError:
        raise SettingsError(MISSING) from None
    errors = getattr(getattr(library, "exceptions", None), "DatasetsError", OSError)
    try:
        return library.load_dataset(where, config, split=split)
    except (errors, OSError, ValueError, RuntimeError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TextError(f"The data set {name!r} cannot be loaded: {said:.300}") from error


def _take(title: str, value: object, gathering: Gathering) -> None:
    if not isinstance(value, str):
        return gathering.problem(title, f"It is no text but {type(value).__name__}.")
    gathering.spend(len(value.encode("utf-8", "surrogatepass")))
    return gathering.add(title, value, row=True)
