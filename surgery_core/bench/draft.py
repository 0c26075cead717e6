"""The record of one call while it runs."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from surgery_core.bench.circumstances import commit_of, source_of, versions
from surgery_core.bench.claim import Claim
from surgery_core.bench.readable import readable
from surgery_core.bench.stored import stored
from surgery_core.errors import ExperimentError

FORMAT = 1
"""Of the file; another number is another form."""


class Draft:
    """What is known of a call before it runs, and the file that is claimed for it.

    Args:
        folder: of the bench.
        function: what is called.
        args, kwargs: with what, without its tools.
        tools: names of those.
        model: facts of the bench's model.

    Raises:
        ExperimentError: when the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        tools: tuple[str, ...],
        model: Mapping[str, Any],
    ) -> None:
        source, digest = source_of(function)
        name = function.__qualname__.rpartition("<locals>.")[2]
        self.claim = Claim(folder, name)
        self.content: dict[str, Any] = {
            "format": FORMAT,
            "name": self.claim.name,
            "number": self.claim.number,
            "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "tools": list(tools),
            "arguments": _arguments(function, args, kwargs),
            "model": dict(model),
            "versions": versions(),
            "commit": commit_of(function),
            "source": source,
            "source_sha256": digest,
        }
        self.began = time.perf_counter()

    def returned(self, result: Any) -> None:
        """Write down what the call returned.

        Raises:
            ExperimentError: when it cannot be written; has the result.
        """
        try:
            self._write(result=stored(result), error=None)
        except ExperimentError as error:
            raise ExperimentError(f"{error} The result is in this error's attribute `result`.", result) from error

    def failed(self, error: BaseException) -> None:
        """Write down what the call raised; where that cannot be written either, it says so."""
        try:
            self._write(result=None, error={"type": type(error).__name__, "message": str(error)})
        except ExperimentError as problem:
            error.add_note(str(problem))

    def _write(self, **outcome: Any) -> None:
        content = self.content | {"seconds": time.perf_counter() - self.began} | outcome
        self.claim.fill(_bytes(content))


def _arguments(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments by name, in a readable form, without the bench that a method is called on."""
    try:
        named = inspect.signature(inspect.unwrap(function)).bind_partial(*args, **kwargs).arguments
    except TypeError:
        named = {str(at): value for at, value in enumerate(args)} | dict(kwargs)
    return {name: readable(value) for name, value in named.items() if name != "self"}


def _bytes(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair has no place in UTF-8
        return json.dumps(content, indent=1, allow_nan=False).encode("ascii")
