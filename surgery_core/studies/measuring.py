"""What texts come to under many plans, unit by unit: what most studies are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from surgery_core.errors import RefusedPlanError, SettingsError
from surgery_core.measure.encoding import encode_texts
from surgery_core.measure.sums import Sums
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.paired import estimates
from surgery_core.statistics.units import Array, Units
from surgery_core.studies.finding import Figure
from surgery_core.studies.study import StudySetup
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.ingredients import Ingredients
from surgery_core.sweeps.kinds import SweepPoint
from surgery_core.sweeps.running import Run
from surgery_core.sweeps.setup import SweepMeasures, SweepSetup
from surgery_core.text import Text

TEXTS = 24
"""Texts that a study reads by default: enough for intervals, few enough for a minute on a small model."""

MOST_LAYERS = 32
"""Layers that a study edits one by one by default; of a deeper model every second or third one, evenly."""

TOO_SHALLOW = "The study needs a model of at least {least} layers, and this one has {n}; choose a deeper model."


def n_layers_of(setup: StudySetup, least: int) -> int:
    """Return how deep the model is.

    Raises:
        SettingsError: when it has fewer than `least` layers.
    """
    n = len(find_layers(setup.model)[1])
    if n < least:
        raise SettingsError(TOO_SHALLOW.format(least=least, n=n))
    return n


def number(setup: StudySetup, name: str, least: int, most: int) -> int:
    """Return an option that is a whole number.

    Raises:
        SettingsError: when it is out of its range.
    """
    value = setup.options[name]
    if not isinstance(value, int) or not least <= value <= most:
        raise SettingsError(f"The option {name!r} cannot be {value!r} here; give {least} to {most}.")
    return value


def one_of(setup: StudySetup, name: str, allowed: Iterable[str]) -> str:
    """Return an option that is one of some words.

    Raises:
        SettingsError: when it is another; it names them all.
    """
    value, known = setup.options[name], list(allowed)
    if value not in known:
        raise SettingsError(f"The option {name!r} cannot be {value!r}; choose one of: {', '.join(known)}.")
    return str(value)


def spaced(values: Sequence[int], most: int) -> list[int]:
    """Return at most so many of some values, evenly spaced, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    places = np.linspace(0, len(values) - 1, most).round().astype(int)
    return [values[place] for place in places]


def chosen_texts(setup: StudySetup) -> tuple[Text, ...]:
    """Return the texts that the option `texts` leaves: that many, evenly spaced; 0 is all of them."""
    most = number(setup, "texts", 0, 1_000_000)
    return setup.texts if most == 0 else tuple(setup.texts[at] for at in spaced(range(len(setup.texts)), most))


class Steps:
    """Counts the steps of a study and tells of them.

    Args:
        setup: whose `on_progress` is told.
        total: steps in all.
    """

    def __init__(self, setup: StudySetup, total: int) -> None:
        self.on_progress, self.total, self.done = setup.on_progress, max(1, total), 0

    def add(self, steps: int = 1) -> None:
        """Say that so many more steps are done."""
        self.done = min(self.total, self.done + steps)
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)


@dataclass(frozen=True, eq=False)
class Measured:
    """What some texts came to under several plans.

    Attributes:
        units: what counts as one, and how many tokens each has.
        start: sums under the unchanged model.
        sums: those under each plan that ran.
        refused: why a plan did not run, by plan.
        note: a sentence where plans had to run whole, else empty.
    """

    units: Units
    start: Sums
    sums: dict[LayerPlan, Sums]
    refused: dict[LayerPlan, str] = field(default_factory=dict)
    note: str = ""

    @property
    def tokens(self) -> Array:
        """Return the scored tokens of each unit, `[n]`."""
        return self.units.sizes

    def ran(self, plan: LayerPlan) -> bool:
        """Whether there are figures of a plan."""
        return plan in self.sums

    def change(self, plan: LayerPlan) -> Array:
        """Return the loss under a plan less that of the unchanged model, summed over each unit, `[n]`, in nats."""
        return self._of(plan, "nats") - self.start.by_unit("nats")

    def kept(self, plan: LayerPlan) -> Array:
        """Return in how many positions of each unit the unchanged model's prediction is kept, `[n]`."""
        return self._of(plan, "top1")

    def _of(self, plan: LayerPlan, column: str) -> Array:
        """Return a column's sums by unit.

        Raises:
            RefusedPlanError: when the model cannot run the plan.
        """
        if plan in self.refused:
            raise RefusedPlanError(f"The plan {plan} cannot run on this model. {self.refused[plan]}")
        return self.sums[plan].by_unit(column)

    def mean(self, plans: Sequence[LayerPlan]) -> Array:
        """Return the mean change of loss over plans, summed over each unit, `[n]`, in nats."""
        found: Array = np.mean([self.change(plan) for plan in plans], axis=0)
        return found

    def figure(self, name: str, sums: Array, *, percent: bool = False) -> Figure:
        """Return a figure a token, with Student's interval over the units.

        Args:
            name: of the figure.
            sums: `[n]`, summed over each unit's tokens.
            percent: whether it reads as percent.
        """
        found = estimates(sums, self.tokens)
        return Figure(name, float(found.value), float(found.low), float(found.high), found.n, self.units.name, percent)

    def share(self, name: str, sums: Array) -> Figure:
        """Return the same of a share of tokens, whose interval lies between 0 and 1."""
        found = self.figure(name, sums, percent=True)
        return replace(found, low=float(np.clip(found.low, 0, 1)), high=float(np.clip(found.high, 0, 1)))


def measured(
    setup: StudySetup,
    plans: Iterable[LayerPlan],
    *,
    agreement: bool = False,
    ingredients: Ingredients | None = None,
    texts: tuple[Text, ...] | None = None,
    steps: Steps | None = None,
) -> Measured:
    """Measure texts under plans, every common beginning once.

    Args:
        setup: of the study; its texts are cut down by the option `texts`.
        plans: what is run; one that is named twice runs once, and the unchanged model in any case.
        agreement: whether kept predictions are counted too.
        ingredients: means that plans name.
        texts: what is read instead.
        steps: told of each plan; by default these plans are all there is.

    Raises:
        TextError: when there is no text, or one of fewer than two tokens.
        Stopped: when the setup's `stop` was set.
    """
    encoded = encode_texts(setup.model, setup.tokenizer, chosen_texts(setup) if texts is None else texts)
    base = LayerPlan.identity(len(find_layers(setup.model)[1]))
    wanted = [plan for plan in dict.fromkeys(plans) if plan != base]
    how = SweepSetup(
        setup.model, setup.tokenizer, encoded, SweepMeasures(agreement=agreement),
        ingredients or Ingredients(), stop=setup.stop,
    )  # fmt: skip
    run = Run(how, [base, *wanted])
    points = [SweepPoint(place, place, None, plan) for place, plan in enumerate([base, *wanted])]
    steps = steps or Steps(setup, len(points))
    sums, refused = run.sums(points[:1])
    if refused:
        raise RefusedPlanError(f"The unchanged model did not run. {refused[0].refused}")
    steps.add()
    for at in range(1, len(points), run.together):
        some = points[at : at + run.together]
        found, failed = run.sums(some)
        sums, refused = sums | found, refused | failed
        steps.add(len(some))
    by_plan = {point.plan: sums[point.number] for point in points if point.number in sums}
    why = {point.plan: refused[point.number].refused for point in points if point.number in refused}
    return Measured(encoded.units, sums[0], by_plan, why, run.note)
