"""Sweeps beside what a user would do otherwise, in one run: the plain loop, and the floor that no sweep can beat.

    python -m benchmarks.sweeps gpt2 delete          # GPT-2-small shape
    python -m benchmarks.sweeps gpt2 delete --peers  # TransformerLens and nnsight too (benchmarks/requirements.txt)
    python -m benchmarks.sweeps deep swap-pairs      # 24 layers, 512 wide, 8,192 tokens
    python -m benchmarks.sweeps deep growth          # time against layer runs, 6 to 48 layers
    python -m benchmarks.sweeps gpt2 memory          # peak memory over the base's own forward

Random weights, float32, two threads, 4 texts x 256 tokens. Every plan's loss is compared between the ways. The
plain loop edits the module list, runs the whole model with `labels=`, and restores the list, as with the tuned-lens
library's context managers. The floor is the layer runs that cannot be avoided times the time of one layer, plus one
head with cross-entropy a plan, both measured in the same run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.record import Result, keep
from surgery_core.measure.encoding import Encoded
from surgery_core.measure.readout import Readout
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.windows import batches_of, windows_of
from surgery_core.sweeps.kinds import SweepPoint, sweep_points
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import Sweep
from surgery_core.text import Text

ROWS, TOKENS = 4, 256
SHAPES = {
    "gpt2": {"n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257},
    "deep": {"n_layer": 24, "n_embd": 512, "n_head": 8, "vocab_size": 8192},
}


def shaped(name: str, **changes: int) -> GPT2LMHeadModel:
    """Return a model of the shape with random weights."""
    torch.manual_seed(0)
    config = GPT2Config(n_positions=TOKENS, **(SHAPES[name] | changes))
    return GPT2LMHeadModel(config).eval().requires_grad_(False)


def random_texts(vocab: int) -> Encoded:
    """Return texts of random tokens, encoded."""
    ids = torch.randint(0, vocab, (ROWS, TOKENS), generator=torch.Generator().manual_seed(1))
    rows = tuple(tuple(row.tolist()) for row in ids)
    windows = [w for n, row in enumerate(rows) for w in windows_of(n, row, TOKENS, TOKENS)]
    ones = tuple((1,) * TOKENS for _ in rows)
    blank = tuple(("",) * TOKENS for _ in rows)
    texts = tuple(Text(f"text {n}", "-") for n in range(ROWS))
    return Encoded(texts, rows, ones, blank, TOKENS, TOKENS, tuple(batches_of(windows, torch.device("cpu"))))


def plain_loop(model: GPT2LMHeadModel, ids: torch.Tensor, points: tuple[SweepPoint, ...]) -> list[float]:
    """Return the loss of the base and of every plan, each from a whole run of the edited model."""
    losses = []
    layers = model.transformer.h
    orders = [list(range(len(layers))), *([slot.layers[0].index for slot in point.plan] for point in points)]
    for order in orders:
        model.transformer.h = nn.ModuleList(layers[index] for index in order)
        model.config.n_layer = len(order)
        try:
            with torch.inference_mode():
                losses.append(float(model(ids, labels=ids, use_cache=False).loss))
        finally:
            model.transformer.h = layers
            model.config.n_layer = len(layers)
    return losses


def ours(model: GPT2LMHeadModel, encoded: Encoded, points: tuple[SweepPoint, ...]) -> list[float]:
    """Return the same from a sweep."""
    sweep = Sweep(model, None, encoded, points, measures=SweepMeasures(agreement=False))
    losses = [row.nats for row in sweep.rows()]
    if sweep.note:
        raise SystemExit(sweep.note)
    return losses


class Floor:
    """Seconds of one layer, and of one head with cross-entropy at its fastest way, in this process and run."""

    def __init__(self, model: GPT2LMHeadModel, encoded: Encoded) -> None:
        self.model, self.batch = model, encoded.batches[0]
        self.hidden = model.transformer.wte(self.batch.input_ids)
        self.readout = Readout(model)
        self.layer: list[float] = []
        self.heads: dict[str, list[float]] = {}

    def sample(self) -> None:
        """Time a run of all layers, and the heads, once more."""
        scored = self.hidden[self.batch.rows, self.batch.columns]
        with torch.inference_mode():
            self.layer.append(_seconds(self._layers) / len(self.model.transformer.h))
            for size in (256, 512, len(scored)):
                self._time(f"{size} positions at a time", lambda size=size: self._by_positions(scored, size))
            self._time(
                "slices of the vocabulary",
                lambda: self.readout.figures(self.readout.enter(scored), self.batch.targets),
            )

    def seconds(self, layer_runs: int, heads: int) -> float:
        """Return the least time that so many runs can take."""
        return layer_runs * statistics.median(self.layer) + heads * min(map(statistics.median, self.heads.values()))

    def describe(self) -> str:
        """Return what was measured."""
        heads = ", ".join(f"{way} {statistics.median(s) * 1e3:.0f} ms" for way, s in self.heads.items())
        return f"layer {statistics.median(self.layer) * 1e3:.1f} ms; head: {heads}"

    def _time(self, way: str, call: Callable[[], object]) -> None:
        self.heads.setdefault(way, []).append(_seconds(call))

    def _layers(self) -> None:
        hidden = self.hidden
        for layer in self.model.transformer.h:
            hidden = layer(hidden)

    def _by_positions(self, scored: torch.Tensor, size: int) -> None:
        for at in range(0, len(scored), size):
            logits = self.model.lm_head(self.model.transformer.ln_f(scored[at : at + size]))
            nn.functional.cross_entropy(logits, self.batch.targets[at : at + size], reduction="none")


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@dataclass
class Timing:
    """One comparison: the sweep, other ways to the same losses, and the floor."""

    shape: str
    kind: str
    runs: int
    peers: bool = False
    layers: int | None = None

    def __post_init__(self) -> None:
        self.model = shaped(self.shape, **({"n_layer": self.layers} if self.layers else {}))
        self.encoded = random_texts(self.model.config.vocab_size)
        n_layers = self.model.config.n_layer
        self.points = sweep_points(self.kind, LayerPlan.identity(n_layers))
        self.sweep = Sweep(self.model, None, self.encoded, self.points)
        self.floor = Floor(self.model, self.encoded)
        ids = torch.tensor(self.encoded.ids)
        self.ways: dict[str, Callable[[], list[float]]] = {
            "sweep": lambda: ours(self.model, self.encoded, self.points),
            "plain loop": lambda: plain_loop(self.model, ids, self.points),
        }
        if self.peers:
            from benchmarks.peers import ways

            self.ways |= ways(self.model, ids)
        self.times: dict[str, list[float]] = {way: [] for way in self.ways}

    def measure(self) -> list[Result]:
        """Time the ways in turn, check that they agree, and return the results."""
        for run in range(self.runs):
            losses = {way: self._once(way) for way in self.ways}
            worst = max(abs(a - b) for own in losses.values() for a, b in zip(losses["sweep"], own, strict=True))
            seconds = ", ".join(f"{way} {times[-1]:.1f} s" for way, times in self.times.items())
            print(f"run {run + 1}: {seconds}; losses differ by {worst:.1e} nats at most", file=sys.stderr)
            if worst > 1e-5:
                raise SystemExit("The ways do not agree.")
        return self._results()

    @property
    def median(self) -> dict[str, float]:
        """Return the median seconds of each way."""
        return {way: statistics.median(times) for way, times in self.times.items()}

    @property
    def least(self) -> float:
        """Return the floor in seconds."""
        return self.floor.seconds(self.sweep.layer_runs, 1 + len(self.points))

    def _once(self, way: str) -> list[float]:
        self.floor.sample()
        found: list[float] = []
        self.times[way].append(_seconds(lambda: found.extend(self.ways[way]())))
        return found

    def _results(self) -> list[Result]:
        what = f"{self.kind} sweep, {self.shape} shape, {self.model.config.n_layer} layers, {len(self.points)} plans"
        median, least = self.median, self.least
        lines = [
            Result(what, f"{way} (sweep takes {median['sweep'] / median[way]:.3f} of it)", tuple(times), 0)
            for way, times in self.times.items()
        ]
        floor = f"floor: {self.sweep.layer_runs} layer runs, {1 + len(self.points)} heads ({self.floor.describe()}; "
        return [*lines, Result(what, f"{floor}sweep takes {median['sweep'] / least:.3f} of it)", (least,), 0)]


def growth(runs: int) -> list[Result]:
    """Return the time of delete-each against layer runs, on the deep shape with 6 to 48 layers."""
    results = []
    for layers in (6, 12, 24, 48):
        timing = Timing("deep", "delete", runs, layers=layers)
        del timing.ways["plain loop"], timing.times["plain loop"]
        timing.measure()
        heads = (1 + layers) * min(map(statistics.median, timing.floor.heads.values()))
        body = (timing.median["sweep"] - heads) / timing.sweep.layer_runs
        how = (
            f"{timing.sweep.layer_runs} layer runs, {1 + layers} heads; "
            f"{timing.median['sweep'] / timing.least:.3f} of the floor, {body * 1e3:.2f} ms a layer run without heads"
        )
        results.append(
            Result(f"growth: delete sweep, deep shape, {layers} layers", how, tuple(timing.times["sweep"]), 0)
        )
    return results


def peak(shape: str) -> list[Result]:
    """Return the peak memory of a delete-each sweep, and of the base's own forward pass, each in its own process."""
    context = multiprocessing.get_context("spawn")
    peaks = {}
    for way in ("base", "sweep"):
        with context.Pool(1) as pool:
            peaks[way] = pool.apply(_peak_bytes, (shape, way))
    what = f"peak memory, {shape} shape, delete sweep"
    ratio = peaks["sweep"] / peaks["base"]
    print(f"peak: base {peaks['base'] / 1e6:,.0f} MB, sweep {peaks['sweep'] / 1e6:,.0f} MB, {ratio:.3f}")
    return [
        Result(what, "the base's own forward with loss", (0.0,), peaks["base"]),
        Result(what, f"sweep ({ratio:.3f} of it)", (0.0,), peaks["sweep"]),
    ]


def _peak_bytes(shape: str, way: str) -> int:
    """Return how much the process's peak is above what it held before, weights included."""
    torch.set_num_threads(2)
    before = psutil.Process().memory_info().rss
    model = shaped(shape)
    encoded = random_texts(model.config.vocab_size)
    reset_peak()
    if way == "base":
        ids = torch.tensor(encoded.ids)
        with torch.inference_mode():
            model(ids, labels=ids, use_cache=False)
    else:
        ours(model, encoded, sweep_points("delete", LayerPlan.identity(model.config.n_layer)))
    return peak_rss() - before


def reset_peak() -> None:
    """Forget the process's highest memory so far."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_rss() -> int:
    """Return the highest memory since then in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("what", choices=["delete", "skip-block", "swap-pairs", "growth", "memory"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="TransformerLens and nnsight too")
    parser.add_argument("--keep", action="store_true", help="add the lines to RESULTS.md")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.what == "growth":
        results = growth(arguments.runs)
    elif arguments.what == "memory":
        results = peak(arguments.shape)
    else:
        results = Timing(arguments.shape, arguments.what, arguments.runs, arguments.peers).measure()
    if arguments.keep:
        keep(*results)
    else:
        print("\n".join(result.line() for result in results))


if __name__ == "__main__":
    main()
