"""The best ten of all swapped pairs: the texts in rounds beside the whole sweep, and what statistics cost.

    python -m benchmarks.race fable              # 66 plans over the 60 passages of "Stories"
    python -m benchmarks.race smollm2 --words 40 # 435 plans over the first 40 words of each
    python -m benchmarks.race fable --save FILE  # keep the losses, which a test resamples
    python -m benchmarks.race statistics         # what intervals, p-values and verdicts cost a sweep and a page

Both ways run in one process, one after the other, alternating; every row that is not left early is compared with the
whole sweep's. Then texts are drawn 100 times anew, with replacement, from what the whole sweep measured: how often the
same ten come out, and of which part of the work. Two threads.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import Result, keep
from benchmarks.subjects import subject
from surgery_core import LayerPlan, load_model
from surgery_core.measure.encoding import encode_texts
from surgery_core.measure.sums import Sums
from surgery_core.statistics import judge_losses
from surgery_core.statistics.paired import estimates
from surgery_core.statistics.race import looks_at, surely_behind
from surgery_core.sweeps import running
from surgery_core.sweeps.kinds import sweep_points
from surgery_core.sweeps.rows import SweepRow
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import Sweep
from surgery_core.text import text_sets

BEST = 10
THREADS = 2


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fable", "smollm2", "statistics"])
    parser.add_argument("--words", type=int, default=0, help="of each passage, from its beginning (default: all)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    if arguments.what == "statistics":
        keep(*_cost_of_statistics(arguments.runs))
    else:
        keep(*_race(arguments.what, arguments.words, arguments.runs, arguments.save))


def _race(name: str, words: int, runs: int, save: Path | None) -> list[Result]:
    about = subject(name)
    loaded = about.load()
    torch.set_num_threads(THREADS)
    texts = [replace(text, text=_beginning(text.text, words)) for text in text_sets()["stories"].texts]
    encoded = encode_texts(loaded.model, loaded.tokenizer, texts)
    points = sweep_points("swap-pairs", LayerPlan.identity(loaded.info.n_layers))

    def rows(best: int | None) -> list[SweepRow]:
        measures = SweepMeasures(best=best)
        return list(Sweep(loaded.model, loaded.tokenizer, encoded, points, measures=measures).rows())

    if len(points) < 100:
        rows(BEST)  # what a first sweep proves is known from then on
    times: dict[int | None, list[float]] = {None: [], BEST: []}
    found: dict[int | None, list[SweepRow]] = {}
    for _ in range(runs):
        for best in times:
            began = time.perf_counter()
            found[best] = rows(best)
            times[best].append(time.perf_counter() - began)
    off = _check(found[None], found[BEST])
    change, tokens = _changes(found[None], [len(ids) - 1 for ids in encoded.ids])
    if save is not None:
        np.savez_compressed(save, change=change.astype(np.float32), tokens=tokens.astype(np.int32))
    same, part = _resampled(change, tokens)
    share = statistics.median(times[BEST]) / statistics.median(times[None])
    of = f" of {words} words" if words else ""
    what = f"swap-pairs sweep of {about.name}, {len(points)} plans, {len(texts)} passages{of}"
    drawn = f"over 100 resamplings the same ten {same} times, of {part:.2f} of the work"
    how = f"the best {BEST} in rounds ({share:.3f} of it; rows within {off:.1e} nats; {drawn})"
    return [_result(what, "every plan to the end", times[None]), _result(what, how, times[BEST])]


def _beginning(text: str, words: int) -> str:
    return " ".join(text.split()[:words]) if words else text


def _check(whole: list[SweepRow], raced: list[SweepRow]) -> float:
    """Return how far rows that were measured to the end are from the whole sweep's; the best ten must be the same."""
    known = {row.number: row for row in whole}
    ends = [row for row in raced if row.number >= 0 and not row.left]
    best = [row.number for row in sorted(ends, key=lambda row: row.nats)[:BEST]]
    expected = sorted((row for row in whole if row.number >= 0), key=lambda row: row.nats)[:BEST]
    if best != [row.number for row in expected]:
        raise SystemExit(f"Other plans came out best: {best}")
    return max(abs(row.nats - known[row.number].nats) for row in ends)


def _changes(rows: list[SweepRow], tokens: list[int]) -> tuple[Any, Any]:
    """Return the change of the summed loss, `[plans, texts]` in nats, and the tokens of each text."""
    sizes = np.array(tokens, dtype=float)
    first = np.array(list(rows[0].texts.values()))
    return np.stack([(np.array(list(row.texts.values())) - first) * sizes for row in rows[1:]]), sizes


def _resampled(change: Any, tokens: Any) -> tuple[int, float]:
    """Return in how many of 100 resamplings the same ten come out, and the mean part of the work."""
    generator = np.random.default_rng(0)
    same, parts, n = 0, [], len(tokens)
    for _ in range(100):
        drawn = generator.integers(0, n, n)
        alive, work = np.arange(len(change)), 0.0
        for before, look in zip((0, *looks_at(n)), looks_at(n), strict=False):
            work += len(alive) * tokens[drawn[before:look]].sum()
            if look < n:
                tests = len(change) * (len(looks_at(n)) - 1)
                seen = change[alive][:, drawn[:look]]
                alive = alive[~surely_behind(seen, tokens[drawn[:look]], of=n, best=BEST, tests=tests)]
        same += set(np.argsort(change[:, drawn].sum(-1))[:BEST].tolist()) <= set(alive.tolist())
        parts.append(work / (len(change) * tokens[drawn].sum()))
    return same, float(np.mean(parts))


def _cost_of_statistics(runs: int) -> list[Result]:
    """Return what a sweep takes with and without intervals, and what one comparison's take on a page."""
    loaded = load_model("fable")
    texts = text_sets()["short"].texts
    encoded = encode_texts(loaded.model, loaded.tokenizer, texts)
    points = sweep_points("delete", LayerPlan.identity(loaded.info.n_layers))

    def sweep() -> None:
        list(Sweep(loaded.model, loaded.tokenizer, encoded, points).rows())

    sweep()
    ways: dict[str, Callable[[], None]] = {
        "with intervals, p and verdicts": sweep,
        "figures alone": lambda: _bare(sweep),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(runs):
        for way, run in ways.items():
            began = time.perf_counter()
            run()
            times[way].append(time.perf_counter() - began)
    more = statistics.median(times["with intervals, p and verdicts"]) / statistics.median(times["figures alone"])
    what = f"delete sweep of fable, {len(points)} plans, 12 texts: cost of statistics"
    named = {"with intervals, p and verdicts": f"with intervals, p and verdicts ({more:.3f} of it)"}
    return [*(_result(what, named.get(way, way), taken) for way, taken in times.items()), _page(runs)]


def _bare(sweep: Callable[[], None]) -> None:
    """Run a sweep whose rows have figures without intervals."""
    kept = running._against, running._with_interval

    def plain(sums: Sums, name: str) -> dict[str, float]:
        return {name: sums.mean(name)}

    running._against, running._with_interval = (lambda first, sums: {}), plain  # type: ignore[assignment]
    try:
        sweep()
    finally:
        running._against, running._with_interval = kept


def _page(runs: int) -> Result:
    """Return what the verdict and the four intervals of a comparison over 60 texts take."""
    generator = np.random.default_rng(0)
    change, tokens = generator.normal(0.1, 1.0, (4, 60)) * 200, np.full(60, 200.0)
    times = []
    for _ in range(max(7, runs)):
        began = time.perf_counter()
        judge_losses(change[0], tokens)
        estimates(change, tokens)
        times.append(time.perf_counter() - began)
    return _result("statistics of one comparison, 60 texts", "verdict with 10,000 sign flips, four intervals", times)


def _result(what: str, how: str, seconds: list[float]) -> Result:
    return Result(what, how, tuple(seconds), 0)


if __name__ == "__main__":
    main()
