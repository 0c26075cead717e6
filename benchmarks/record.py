"""Measure a function and keep the result as a dated line of RESULTS.md."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADER = """# Results

Medians, with the fastest run in brackets. Memory is what Python allocated and still held after the call
(tensors on the meta device hold none); peak memory is the process's own. Lines are added by `python -m benchmarks.<name>`.

| date | what | how | time | memory | runs | machine |
| --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Result:
    """Seconds of each run (0 where only memory was measured), and bytes (0 where that was not measured)."""

    what: str
    how: str
    seconds: tuple[float, ...]
    held_bytes: int

    def line(self) -> str:
        """Return the result as a line of the table."""
        median, best = statistics.median(self.seconds) * 1e3, min(self.seconds) * 1e3
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        cells = (
            datetime.now(UTC).strftime("%Y-%m-%d"),
            self.what,
            self.how,
            f"{median:,.1f} ms ({best:,.1f})" if median else "-",
            f"{self.held_bytes / 1e6:,.2f} MB" if self.held_bytes else "-",
            str(len(self.seconds)),
            machine,
        )
        return f"| {' | '.join(cells)} |"


def measure(what: str, how: str, call: Callable[[], object], runs: int = 15) -> Result:
    """Time `call` several times after a first one that is not counted, then weigh what it returns."""
    call()
    seconds = tuple(_seconds(call) for _ in range(runs))
    return Result(what, how, seconds, _held_bytes(call))


def keep(*results: Result) -> None:
    """Show results and add them to RESULTS.md."""
    before = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else HEADER
    lines = "".join(f"{result.line()}\n" for result in results)
    RESULTS.write_text(before + lines, encoding="utf-8")
    print(lines, end="")


def _seconds(call: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _held_bytes(call: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = call()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
        del result
        return held
    finally:
        tracemalloc.stop()
