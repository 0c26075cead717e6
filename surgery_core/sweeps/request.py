"""What a sweep is asked to do, as a record: pages, scripts and notebooks say the same.

Greedy removal and importance are asked for, run, kept and saved as sweeps are, and have no fixed list of plans.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.estimate import Costs, reading_seconds, removal_plans, removal_seconds
from surgery_core.sweeps.kinds import SweepKind, SweepPoint, Tried, sweep_kind, sweep_points
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.text import Text


def _no_points(start: LayerPlan, options: SweepOptions) -> Tried:
    yield from ()


GREEDY = SweepKind(
    "greedy", "Greedy removal", "Layers go one at a time, each time the one without which the loss stays lowest.",
    "lines", "Layers left", "Layer that went", (), 1, _no_points,
)  # fmt: skip
IMPORTANCE = SweepKind(
    "importance", "Importance", "What each layer does to the residual stream, from one run and without any surgery.",
    "bars", "Layer", "", (), 1, _no_points,
)  # fmt: skip


def any_kind(key: str) -> SweepKind:
    """Return the kind with this key: of a sweep, greedy removal or importance.

    Raises:
        SettingsError: when there is none.
    """
    return {kind.key: kind for kind in (GREEDY, IMPORTANCE)}.get(key) or sweep_kind(key)


@dataclass(frozen=True)
class SweepRequest:
    """Everything that a sweep's rows depend on, besides the model.

    Attributes:
        kind: key of the kind of sweep.
        options: the kind's options.
        start: plan that every plan of the sweep begins with.
        texts: what is scored.
        measures: what is measured of every plan.
    """

    kind: str
    options: SweepOptions
    start: LayerPlan
    texts: tuple[Text, ...]
    measures: SweepMeasures = SweepMeasures()  # noqa: RUF009 - it is frozen

    @property
    def family(self) -> SweepKind:
        """Return the kind with its titles."""
        return sweep_kind(self.kind)

    @cached_property
    def points(self) -> tuple[SweepPoint, ...]:
        """Return the plans.

        Raises:
            SettingsError: when the kind or an option does not fit the model.
        """
        return sweep_points(self.kind, self.start, self.options)

    @property
    def total(self) -> int:
        """Return how many results it comes to."""
        return len(self.points)

    @property
    def n_plans(self) -> int:
        """Return how many plans are measured."""
        return len(self.points)

    def seconds(self, costs: Costs) -> float:
        """Return about how long it takes."""
        return costs.total(self.start, self.points, self.measures)


@dataclass(frozen=True)
class RemovalRequest:
    """What a greedy removal is asked to do; its results are its steps.

    Attributes:
        start: the plan to begin with.
        texts: what the loss is measured on.
        beam: how many of the best plans of each size are gone on from.
        least: slots at which it ends.
        measures: what is measured of the best plan of each size besides its loss.
    """

    start: LayerPlan
    texts: tuple[Text, ...]
    beam: int = 1
    least: int = 1
    measures: SweepMeasures = SweepMeasures()  # noqa: RUF009 - it is frozen

    family = GREEDY
    points: ClassVar[tuple[SweepPoint, ...]] = ()

    @property
    def options(self) -> dict[str, Any]:
        """Return what a file says of it, besides the rest."""
        return {"beam": self.beam, "least": self.least}

    @property
    def total(self) -> int:
        """Return how many removals it comes to."""
        return len(self.start) - self.least

    @property
    def n_plans(self) -> int:
        """Return how many plans are tried, at most."""
        return removal_plans(self.start, self.beam, self.least)

    def seconds(self, costs: Costs) -> float:
        """Return about how long it takes."""
        return removal_seconds(costs, self.start, self.beam, self.least, self.measures)


@dataclass(frozen=True)
class ImportanceRequest:
    """Of which plan importance is asked, and over which texts; its results are the windows of the texts, read one by one."""

    start: LayerPlan
    texts: tuple[Text, ...]

    family = IMPORTANCE
    points: ClassVar[tuple[SweepPoint, ...]] = ()
    total = 0
    """How many windows there are is known once the texts are tokens."""
    n_plans = 1

    def seconds(self, costs: Costs) -> float:
        """Return about how long it takes."""
        return reading_seconds(costs) * len(self.start) / max(1, costs.speeds.n_layers)


Request = SweepRequest | RemovalRequest | ImportanceRequest
"""What the Sweep page can be asked for."""
