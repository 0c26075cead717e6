"""What a sweep is asked to do, as a record: pages, scripts and notebooks say the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.kinds import SweepKind, SweepOptions, SweepPoint, sweep_kind, sweep_points
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.text import Text


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
