"""Sweeps: one kind of edit tried everywhere, each row exact and the common work done once.

    for row in sweep(model, tokenizer, texts, "delete"):
        print(row.plan, row.perplexity)

The base runs once (`prefix`); of every plan only what lies behind its first change is run, the head is applied
once a plan in chunks, and all figures of a row come from one pass over its logits (`readout`). Where a
model cannot start in the middle, plans are run whole, and `Sweep.note` says so.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from surgery_core.errors import SettingsError
from surgery_core.measure.encoding import Encoded, encode_texts
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.beginnings_tree import layer_runs
from surgery_core.states.shared_beginnings import DEFAULT_MEMORY
from surgery_core.stopping import Progress
from surgery_core.surgery.adapters import has_adapter
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.ingredients import Ingredients, Means
from surgery_core.surgery.stitches import PENDING as STITCHES_PENDING
from surgery_core.surgery.view import checked_plan
from surgery_core.suture.calibration import calibration_texts, check_apart
from surgery_core.suture.stitcher import Stitcher
from surgery_core.sweeps.kinds import SweepPoint, sweep_points
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.race import Race, worth_it
from surgery_core.sweeps.rows import SweepRow
from surgery_core.sweeps.running import Run
from surgery_core.sweeps.setup import SweepMeasures, SweepSetup
from surgery_core.text import Text, TextsLike, as_texts


class Sweep:
    """One sweep over a model: its points, what it starts from, and its rows as they come.

    Args:
        model: the base; it is not changed.
        tokenizer: its tokenizer.
        texts: what is scored; `Encoded` where that was done before.
        points: the plans, of `sweep_points`.
        start: the plan that they change; by default the unchanged model.
        measures: what is measured.
        donors, means: as for `operate`, for plans that name them.
        stride: tokens between windows of a long text, as for `score`.
        memory: bytes of hidden states that may be kept.
        stop: when set, the sweep ends with `Stopped` within a layer's or a chunk's time.
        calibration: what the stitches of plans that have some are fitted on; by default the bundled set `stories`.

    Raises:
        TextError: when there is no text, or one of fewer than two tokens.
        SettingsError: when there is no plan, one that switches an adapter on a model without one, a start with stitches,
            or a text that is scored and fitted on.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        texts: TextsLike | Encoded,
        points: Sequence[SweepPoint],
        *,
        start: LayerPlan | str | None = None,
        measures: SweepMeasures | None = None,
        donors: Mapping[str, nn.Module] | None = None,
        means: Means | None = None,
        stride: int | None = None,
        memory: int = DEFAULT_MEMORY,
        stop: threading.Event | None = None,
        calibration: TextsLike | None = None,
    ) -> None:
        n_layers = len(find_layers(model)[1])
        self.points = tuple(points)
        self.start = LayerPlan.identity(n_layers) if start is None else checked_plan(start, n_layers)
        if not self.points:
            raise SettingsError("There is no plan to try; choose a sweep that fits the model.")
        if not all(_has_adapter(point.plan) for point in self.points) and not has_adapter(model):
            raise SettingsError(
                "This model was opened without an adapter, so there is none to switch; choose another sweep."
            )
        encoded = texts if isinstance(texts, Encoded) else encode_texts(model, tokenizer, texts, stride)
        stitcher = None
        if any(point.plan != point.plan.unstitched for point in self.points):
            stitcher = Stitcher(model, tokenizer, _calibration(self.start, calibration, encoded), stop)
        ingredients = Ingredients(donors or {}, means, STITCHES_PENDING)
        self.setup = SweepSetup(
            model, tokenizer, encoded, measures or SweepMeasures(), ingredients, memory, stop, stitcher
        )
        self.note = ""

    @property
    def layer_runs(self) -> int:
        """Return how many layers run over the texts when every common beginning runs once."""
        return layer_runs([LayerPlan.identity(self.start.n_layers), self.start, *(p.plan for p in self.points)])

    def _race(self, points: Sequence[SweepPoint], on_progress: Progress | None) -> Iterator[SweepRow]:
        race = Race(self.setup, self.start, points)
        for row in race.rows(on_progress):
            self.note = race.note
            yield row

    def rows(self, done: Iterable[int] = (), on_progress: Progress | None = None) -> Iterator[SweepRow]:
        """Yield the row of the starting plan (number -1), then one a point, each as soon as it is known.

        Where only the best are looked for (`SweepMeasures.best`), texts are taken in rounds, and what is surely not among
        them is left (`Race`).

        Args:
            done: numbers of points to leave out, because their rows are there already.
            on_progress: called with (rows done, rows in all).

        Raises:
            Stopped: when `stop` was set.
        """
        left = [point for point in self.points if point.number not in set(done)]
        if self.setup.stitcher is None and worth_it(self.setup, len(left)):
            yield from self._race(left, on_progress)
            return
        run = Run(self.setup, [self.start, *(point.plan for point in left)])
        self.note = run.note
        first = run.rows([SweepPoint(-1, "start", None, self.start)])[0]
        yield first
        count = len(self.points) - len(left)
        for at in range(0, len(left), run.together):
            for row in run.rows(left[at : at + run.together]):
                count += 1
                if on_progress is not None:
                    on_progress(count, len(self.points))
                yield row


def _calibration(start: LayerPlan, texts: TextsLike | None, scored: Encoded) -> tuple[Text, ...]:
    """Return the texts that stitches are fitted on, none of which is scored."""
    if start != start.unstitched:
        raise SettingsError(f"A sweep cannot start from {start}: its stitches belong to that plan; leave out the ~.")
    found = calibration_texts() if texts is None else as_texts(texts)
    check_apart(found, scored.given or scored.texts)
    return found


def _has_adapter(plan: LayerPlan) -> bool:
    """Whether every layer of the base runs with its adapter."""
    return all(layer.adapter or layer.donor is not None for slot in plan for layer in slot.layers)


def sweep(
    model: nn.Module,
    tokenizer: Any,
    texts: TextsLike,
    kind: str = "delete",
    options: SweepOptions | None = None,
    *,
    start: LayerPlan | str | None = None,
    measures: SweepMeasures | None = None,
    memory: int = DEFAULT_MEMORY,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
    calibration: TextsLike | None = None,
) -> Iterator[SweepRow]:
    """Try one kind of edit everywhere and yield a row a plan as soon as it is known, the starting plan's first.

    Args:
        model: the base; it is not changed.
        tokenizer: its tokenizer.
        texts: what is scored.
        kind: key of a kind, such as `"delete"` or `"skip-block"`; `KINDS` lists them.
        options: what the kind may need.
        start: the plan that every point changes; by default the unchanged model.
        measures: what is measured besides the loss.
        memory: bytes of hidden states that may be kept.
        stop: when set, the sweep ends with `Stopped`.
        on_progress: called with (rows done, rows in all).
        calibration: what stitches are fitted on, for `"stitch-block"`; by default the bundled set `stories`.

    Raises:
        SettingsError: for an unknown kind, or one that does not fit the model's depth.
        TextError: when there is no text, or one of fewer than two tokens.
    """
    n_layers = len(find_layers(model)[1])
    begin = LayerPlan.identity(n_layers) if start is None else checked_plan(start, n_layers)
    points = sweep_points(kind, begin, options)
    run = Sweep(
        model,
        tokenizer,
        texts,
        points,
        start=begin,
        measures=measures,
        memory=memory,
        stop=stop,
        calibration=calibration,
    )
    return run.rows(on_progress=on_progress)
