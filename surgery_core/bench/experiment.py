"""Experiments that were written down, read again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from surgery_core.bench.claim import numbered
from surgery_core.bench.draft import FORMAT
from surgery_core.bench.stored import restored
from surgery_core.bounded import read_json
from surgery_core.errors import ExperimentError

_BROKEN = (ValueError, KeyError, TypeError, AttributeError, LookupError, RecursionError, RuntimeError, ArithmeticError)
_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "number": int,
    "started": str,
    "seconds": (int, float),
    "tools": list,
    "arguments": dict,
    "model": dict,
    "versions": dict,
    "commit": (str, type(None)),
    "source": (str, type(None)),
    "source_sha256": (str, type(None)),
    "error": (dict, type(None)),
}


@dataclass(frozen=True, eq=False)
class Experiment:
    """One call of an experiment, as it was written down.

    Attributes:
        path: of its file.
        name: of the function.
        number: of the call among those of this name, from 1.
        started: in UTC, ISO 8601.
        seconds: wall time of the call.
        tools: names of the tools that it was given.
        arguments: by name, in a readable form.
        model: class, name, revision and plan of the bench's model.
        versions: of surgery_core, torch, transformers, python.
        commit: of git, with `-dirty` where files had changed, or None.
        source: of the function, or None.
        source_sha256: of that text, or None.
        error: type and message of what the call raised, or None.
        content: the file's content.
    """

    path: Path
    name: str
    number: int
    started: str
    seconds: float
    tools: list[str]
    arguments: dict[str, Any]
    model: dict[str, Any]
    versions: dict[str, str]
    commit: str | None
    source: str | None
    source_sha256: str | None
    error: dict[str, str] | None
    content: Mapping[str, Any]

    @cached_property
    def result(self) -> Any:
        """Return what the call returned: frames, tensors, records and charts as such.

        Raises:
            ExperimentError: when it cannot be made again.
        """
        try:
            return restored(self.content["result"])
        except _BROKEN as error:
            raise ExperimentError(f"The result in {str(self.path)!r} cannot be read: {_said(error)}.") from error

    @property
    def outcome(self) -> str:
        """Return `ok`, or the error's type and message."""
        return "ok" if self.error is None else f"{self.error['type']}: {self.error['message']}"


def read_experiment(path: str | Path) -> Experiment:
    """Read the record of an experiment. Nothing in the file is executed.

    Raises:
        ExperimentError: when the file cannot be read or is no such record; says what is wrong.
    """
    path = Path(path)
    try:
        content = read_json(path.read_bytes())
    except OSError as error:
        raise ExperimentError(f"{str(path)!r} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise ExperimentError(f"{str(path)!r} is no record of an experiment: it is not valid JSON.") from error
    _check(content, path)
    return Experiment(path=path, content=content, **{name: content[name] for name in _FIELDS})


def list_experiments(folder: Path) -> list[Experiment | ExperimentError]:
    """Return all experiments in a folder, oldest first; in place of one that cannot be read, why."""
    found: list[Experiment | ExperimentError] = []
    for _, _, path in numbered(folder):
        try:
            found.append(read_experiment(path))
        except ExperimentError as error:
            found.append(error)
    return sorted(found, key=lambda item: item.started if isinstance(item, Experiment) else "")


def find_experiment(folder: Path, name: str) -> Experiment:
    """Return the newest experiment of a name, or the one of that name and number, `name.v3`.

    Raises:
        ExperimentError: when there is none, or it cannot be read.
    """
    known = numbered(folder)
    wanted = re.fullmatch(r"(.+)\.v([1-9]\d*)", name)
    paths = [path for found, number, path in known if wanted and (found, number) == (wanted[1], int(wanted[2]))]
    paths = paths or [path for found, _, path in known if found == name]
    if not paths:
        names = ", ".join(dict.fromkeys(found for found, _, _ in known)) or "none yet"
        raise ExperimentError(f"There is no experiment {name!r} in {str(folder)!r}; there are: {names}.")
    return read_experiment(paths[-1])


def _check(content: Any, path: Path) -> None:
    where = f"{str(path)!r} is no record of an experiment"
    if not isinstance(content, dict) or "format" not in content:
        raise ExperimentError(f"{where}: it does not say which format it has.")
    if content["format"] != FORMAT:
        raise ExperimentError(f"{where} that this version reads: its format is {content['format']!r}, not {FORMAT}.")
    for name, kind in _FIELDS.items():
        if not isinstance(content.get(name, _MISSING), kind):
            raise ExperimentError(f"{where}: its field {name!r} is missing or of the wrong type.")
    if content["error"] is not None and not {"type", "message"} <= content["error"].keys():
        raise ExperimentError(f"{where}: its field 'error' has no type or no message.")


_MISSING = object()


def _said(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
