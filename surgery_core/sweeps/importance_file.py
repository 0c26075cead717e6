"""Importance as a file, in the form of a sweep's: tables that say in every line what they belong to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from surgery_core.errors import SweepFileError
from surgery_core.measure.importance import Importance
from surgery_core.sweeps.file import SweepIdentity, SweepResult, csv_of, identity_of, json_of, records_of
from surgery_core.sweeps.request import IMPORTANCE

COUNTS = ("n_tokens", "n_texts", "read", "windows")
"""Columns that are the same in every line, named as in `Importance`."""


@dataclass(frozen=True, eq=False)
class ImportanceResult:
    """What the layers of a plan do, complete or not, and of what that is."""

    identity: SweepIdentity
    found: Importance

    def records(self) -> list[dict[str, Any]]:
        """Return one line for every two places of the residual stream.

        Columns: `place` and `to` (0 for the input, i for what leaves the i-th slot), `layer` (which `place` is behind;
        empty for the input), `cosine`, `angle` (where `to` comes later), `added` (where it comes next), and the counts.
        """
        found, n = self.found, len(self.found.labels)
        counts = {name: getattr(found, name) for name in COUNTS}
        return [
            {
                "place": place, "to": to, "layer": found.labels[place - 1] if place else "",
                "cosine": float(found.similarity[place, to]),
                "angle": float(found.angular[place, to - place - 1]) if to > place else math.nan,
                "added": float(found.contribution_norm[place]) if to == place + 1 else math.nan,
                **counts,
            }
            for place in range(n + 1)
            for to in range(n + 1)
        ]  # fmt: skip

    def to_csv(self) -> str:
        """Return the file."""
        return csv_of(self.identity, self.records())

    def to_json(self) -> str:
        """Return the same as JSON; a figure that there is not (NaN) is null."""
        return json_of(self.identity, self.records())


def read_result(text: str, where: str = "The file") -> SweepResult | ImportanceResult:
    """Read a sweep, a removal or importance from the text of its file or of its JSON.

    Raises:
        SweepFileError: when it is none of them; it says what is wrong.
    """
    records = records_of(text, where)
    if records[0].get("sweep_kind") != IMPORTANCE.key:
        return SweepResult.read(text, where)
    try:
        return ImportanceResult(identity_of(records, where), _found(records))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, SweepFileError):
            raise
        raise SweepFileError(f"{where} is no file of importance: {error!s}.") from error


def _found(records: Sequence[Mapping[str, Any]]) -> Importance:
    """Return the figures of all lines.

    Raises:
        ValueError: when a figure is no number, or a line is missing or there twice.
        KeyError: when a column is missing.
        IndexError: when a place is none.
    """
    n = math.isqrt(len(records)) - 1
    cells = {(int(record["place"]), int(record["to"])): record for record in records}
    if len(cells) != len(records) or len(records) != (n + 1) ** 2:
        raise ValueError(f"{len(records)} lines are not one for every two places")
    similarity, angles, added = (
        np.array([[_number(cells[place, to][name]) for to in range(n + 1)] for place in range(n + 1)])
        for name in ("cosine", "angle", "added")
    )
    angular = np.full((n, n), np.nan)
    for start in range(n):
        angular[start, : n - start] = angles[start, start + 1 :]
    norms = np.array([added[at, at + 1] for at in range(n)])
    influence = np.array([1 - similarity[at, at + 1] for at in range(n)])
    labels = tuple(str(cells[place, 0]["layer"]) for place in range(1, n + 1))
    return Importance(labels, influence, norms, angular, similarity, *(int(records[0][name]) for name in COUNTS))


def _number(value: Any) -> float:
    return math.nan if value in (None, "") else float(value)
