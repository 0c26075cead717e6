"""A figure that is stated: its value, within what another run may differ from it, and a seal that shows an edit.

The tolerances are of the arithmetic, not of the texts: the same weights, run in another order of sums, with another
number of threads or on another machine. `docs/keeping.md` says where they come from.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from surgery_core.errors import ReportError
from surgery_core.keeping.tables import cell_text

Allowed = Literal["relative", "absolute", "exact", "beginning", "free"]
Unit = Literal["number", "share", "text"]
Value = float | str

_DIGITS = 8
"""Significant digits that a figure is stated with; float32 has seven."""
_KINDS: dict[str, Allowed] = {
    "relative": "relative", "absolute": "absolute", "exact": "exact", "beginning": "beginning", "free": "free",
}  # fmt: skip
_UNITS: dict[str, Unit] = {"number": "number", "share": "share", "text": "text"}


@dataclass(frozen=True)
class Tolerance:
    """Within what another run may differ.

    Attributes:
        kind: `"relative"` to the stated value, `"absolute"`, `"exact"`, `"beginning"` for a text of which so many
            characters have to be the same, or `"free"` for what another machine need not repeat.
        by: how much; a number of characters for a beginning.
    """

    kind: Allowed
    by: float = 0.0

    @property
    def words(self) -> str:
        """Return the tolerance as a report and `verify` write it."""
        if self.kind == "beginning":
            return f"its first {self.by:,.0f} characters"
        if self.kind in ("exact", "free"):
            return {"exact": "exact", "free": "not held to it"}[self.kind]
        return f"± {100 * self.by:.3g} %" if self.kind == "relative" else f"± {self.by:.2g}"


@dataclass(frozen=True)
class Stated:
    """One figure.

    Attributes:
        name: what it is of; each figure of a report has another one.
        value: a number, or a text.
        tolerance: within what another run may differ.
        unit: how it is written.
    """

    name: str
    value: Value
    tolerance: Tolerance
    unit: Unit = "number"

    @property
    def shown(self) -> str:
        """Return the value as a page shows it."""
        return shown(self.value, self.unit)

    @property
    def seal(self) -> str:
        """Return what shows that name, value, tolerance or unit were edited; it is no signature."""
        return seal_of([self.name, _plain(self.value), self.tolerance.kind, self.tolerance.by, self.unit])

    def agrees(self, now: Value) -> bool:
        """Whether what another run found is within the tolerance."""
        allowed = self.tolerance
        if allowed.kind == "free":
            return True
        if isinstance(self.value, str) or isinstance(now, str):
            if allowed.kind != "beginning":
                return self.value == now
            firm = int(allowed.by)
            return str(self.value)[:firm] == str(now)[:firm]
        if not (math.isfinite(self.value) and math.isfinite(now)):
            return self.value == now or (math.isnan(self.value) and math.isnan(now))
        room = allowed.by * abs(self.value) if allowed.kind == "relative" else allowed.by
        return abs(now - self.value) <= room

    def plain(self) -> dict[str, Any]:
        """Return the figure as values that JSON and TOML hold."""
        tolerance = {"kind": self.tolerance.kind, "by": self.tolerance.by}
        return {
            "name": self.name,
            "value": _plain(self.value),
            "unit": self.unit,
            "tolerance": tolerance,
            "seal": self.seal,
        }


def number(name: str, value: float, tolerance: Tolerance, unit: Unit = "number") -> Stated:
    """Return a number as a figure, with as many digits as the arithmetic has."""
    value = float(value)
    rounded = float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else value
    return Stated(name, rounded, tolerance, unit)


def shown(value: Value, unit: Unit) -> str:
    """Return a value as a page shows it: four significant digits, a share in percent, a text as it is."""
    if isinstance(value, str):
        return value
    if math.isinf(value):
        return "infinite"
    return f"{value:.1%}" if unit == "share" and not math.isnan(value) else cell_text(float(value))


def read_figure(found: Mapping[str, Any]) -> tuple[Stated, str]:
    """Return a figure and its seal, as they stand in a file.

    Raises:
        ReportError: for what is no figure.
    """
    try:
        name, value, seal = found["name"], found["value"], found["seal"]
        unit, kind, by = _UNITS[found["unit"]], _KINDS[found["tolerance"]["kind"]], float(found["tolerance"]["by"])
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(f"A figure in the file has no readable {error}; make the report again.") from error
    if not isinstance(name, str) or not isinstance(seal, str) or isinstance(value, bool) or by < 0:
        raise ReportError(f"The figure {str(name)[:60]!r} in the file cannot be read; make the report again.")
    if unit != "text":
        try:
            value = float(value)
        except (TypeError, ValueError):
            raise ReportError(f"The figure {name[:60]!r} is {str(value)[:60]!r}, which is no number.") from None
    elif not isinstance(value, str):
        raise ReportError(f"The figure {name[:60]!r} is {str(value)[:60]!r}, which is no text.")
    return Stated(name, value, Tolerance(kind, by), unit), seal


def seal_of(content: Any) -> str:
    """Return a short digest of plain values."""
    written = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(written.encode("ascii")).hexdigest()[:12]


def _plain(value: Value) -> float | str:
    """Return a value that JSON holds: infinite and no numbers are words there."""
    return value if isinstance(value, str) or math.isfinite(value) else str(value)
