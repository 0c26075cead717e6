"""Sweeps that look only for the best plans: the texts in rounds, and what is surely not among the best is left.

    measures = SweepMeasures(best=10)
    rows = sweep(model, tokenizer, texts, "swap-pairs", measures=measures)

Which plans are left, and why that is right, says `surgery_core.statistics.race`. Plans that are not left have the same
figures as in a whole sweep.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from surgery_core.measure.sums import Sums
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.race import in_rounds, looks_at, surely_behind
from surgery_core.statistics.units import Array
from surgery_core.stopping import Progress
from surgery_core.sweeps.kinds import SweepPoint
from surgery_core.sweeps.rows import SweepRow
from surgery_core.sweeps.running import Run, Writer
from surgery_core.sweeps.setup import SweepSetup

TOGETHER = 8
"""About how many plans run together over a round's few texts, all with the padding of those."""


def worth_it(setup: SweepSetup, n_points: int) -> bool:
    """Return whether there is a best to look for, and a look to take before all texts are measured."""
    best = setup.measures.best
    return best is not None and n_points > best and len(looks_at(len(setup.encoded.texts))) > 1


class Race:
    """A sweep that looks for the best plans only.

    Args:
        setup: what the sweep is about; `measures.best` says how many are looked for.
        start: the plan that it starts from.
        points: the others.

    Attributes:
        note: why plans are run whole, where they are.
    """

    writer: Writer
    """Makes rows; it is there once the starting plan has been measured, which it compares with."""

    def __init__(self, setup: SweepSetup, start: LayerPlan, points: Sequence[SweepPoint]) -> None:
        self.setup, self.start, self.points = setup, start, tuple(points)
        self.n_texts = len(setup.encoded.texts)
        self.looks = looks_at(self.n_texts)
        self.rounds = in_rounds(self.n_texts, self.looks)
        self.note = ""
        self._sums: dict[int, Sums] = {}
        self._seconds: dict[int, float] = {}

    def rows(self, on_progress: Progress | None = None) -> Iterator[SweepRow]:
        """Yield the starting plan's row, then those of plans that cannot run or are left, and the best at the end."""
        yield self._first()
        alive, work = list(self.points), _Work(self, on_progress)
        for number in range(len(self.looks)):
            refused = self._round(number, alive, work)
            yield from refused.values()
            alive = [point for point in alive if point.number not in refused]
            if number + 1 < len(self.looks):
                behind = self._behind(number, alive)
                for point in behind:
                    yield self._partial(point, number)
                left = {point.number for point in behind}
                alive = [point for point in alive if point.number not in left]
        for point in alive:
            began = time.perf_counter()
            row = self.writer.row(point, self._sums[point.number])
            yield replace(row, seconds=self._seconds[point.number] + time.perf_counter() - began)

    def _first(self) -> SweepRow:
        run = Run(self.setup, [self.start])
        row = run.rows([SweepPoint(-1, "start", None, self.start)])[0]
        self.writer = run.writer
        return row

    def _round(self, number: int, alive: Sequence[SweepPoint], work: _Work) -> dict[int, SweepRow]:
        """Measure some plans over a round's texts; return the rows of those that cannot run."""
        part = replace(self.setup, encoded=self.setup.encoded.part(self.rounds[number].tolist(), TOGETHER))
        run = Run(part, [self.start, *(point.plan for point in alive)])
        self.note = run.note
        refused: dict[int, SweepRow] = {}
        for at in range(0, len(alive), run.together):
            began = time.perf_counter()
            some = alive[at : at + run.together]
            found, failed = run.sums(some)
            refused |= failed
            for key, sums in found.items():
                self._sums.setdefault(key, Sums(self.setup.encoded.units)).add(sums)
                spent = (time.perf_counter() - began) / len(some)
                self._seconds[key] = self._seconds.get(key, 0.0) + spent
            work.done(number, at + len(some), len(alive))
        return refused

    def _behind(self, number: int, alive: Sequence[SweepPoint]) -> list[SweepPoint]:
        """Return the plans that are surely not among the best, after a round."""
        first, best = self.writer.first, self.setup.measures.best
        if first is None or best is None or len(alive) <= best:
            return []
        seen = self._seen(number)
        changes = np.stack([self._sums[point.number].by_unit("nats")[seen] for point in alive])
        changes -= first.by_unit("nats")[seen]
        tests = len(self.points) * (len(self.looks) - 1)
        behind = surely_behind(changes, first.by_unit("tokens")[seen], of=self.n_texts, best=best, tests=tests)
        return [point for point, is_behind in zip(alive, behind, strict=True) if is_behind]

    def _partial(self, point: SweepPoint, number: int) -> SweepRow:
        left = (
            f"Left after {self.looks[number]:,} of {self.n_texts:,} {self.setup.encoded.units.name}s: surely not among the "
            f"{self.setup.measures.best:,} best."
        )
        row = self.writer.partial(point, self._sums.pop(point.number), self._seen(number), left)
        return replace(row, seconds=self._seconds[point.number])

    def _seen(self, number: int) -> Array:
        """Return the texts, by number and in order, that are measured after a round."""
        return np.sort(np.concatenate(self.rounds[: number + 1]))


class _Work:
    """How far a race is, as rows of all: a plan that is left counts as one that is done."""

    def __init__(self, race: Race, on_progress: Progress | None) -> None:
        sizes = [len(ids) for ids in race.setup.encoded.ids]
        tokens = [sum(sizes[n] for n in numbers) for numbers in race.rounds]
        self.ends = np.cumsum([0, *tokens]) / sum(tokens)
        self.plans, self.on_progress = len(race.points), on_progress

    def done(self, number: int, plans: int, alive: int) -> None:
        """Say that so many of the plans that are alive have been measured over a round."""
        if self.on_progress is None:
            return
        here, after = self.ends[number], self.ends[number + 1]
        share = (self.plans - alive + alive * here + plans * (after - here)) / self.plans
        self.on_progress(int(share * self.plans + 1e-9), self.plans)
