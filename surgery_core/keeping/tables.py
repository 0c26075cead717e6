"""Tables as files: CSV, JSON, Parquet, and Markdown to paste."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from surgery_core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("csv", "json", "parquet", "md")
"""Kinds of files that a table can be kept as; also their endings."""


def table_file(frame: pd.DataFrame, kind: str) -> bytes:
    """Return a table as a file.

    CSV, JSON and Parquet hold every digit. What is no number is empty in CSV, null in JSON; infinity is null in JSON.

    Args:
        frame: any table; its index is left out.
        kind: one of `KINDS`.

    Raises:
        InputError: for another kind, or Parquet without pyarrow.
    """
    if kind == "csv":
        return frame.to_csv(index=False, lineterminator="\n").encode("utf-8")
    if kind == "json":
        return json.dumps(finite(records(frame)), indent=2, ensure_ascii=False, allow_nan=False).encode("utf-8")
    if kind == "md":
        return markdown(frame).encode("utf-8")
    if kind != "parquet":
        raise InputError(f"{kind!r} is no kind of table; choose one of {', '.join(KINDS)}.")
    return _parquet(frame)


def markdown(frame: pd.DataFrame) -> str:
    """Return a table in GitHub's Markdown, numbers to the right and with four significant digits."""
    numbers = [frame[name].dtype.kind in "iuf" for name in frame]
    lines = [[str(name).replace("_", " ") for name in frame], ["---:" if number else "---" for number in numbers]]
    lines += [[_escaped(cell_text(value)) for value in row.values()] for row in records(frame)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows as dictionaries of Python's own values."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def cell_text(value: object) -> str:
    """Return a value as a table shows it: a number with four significant digits, none as nothing."""
    if isinstance(value, bool) or not isinstance(value, float):
        return "" if value is None else str(value)
    if math.isnan(value):
        return "-"
    size = abs(value)
    return f"{value:,.0f}" if 1e3 <= size < 1e7 else f"{value:.4g}"


def finite(value: Any) -> Any:
    """Return nested values with None for numbers that JSON cannot hold: infinite, or none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def _parquet(frame: pd.DataFrame) -> bytes:
    target = BytesIO()
    try:
        frame.to_parquet(target, index=False)
    except ImportError:
        raise InputError("Parquet needs the package pyarrow; install it, or save CSV.") from None
    return target.getvalue()


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))
