"""Undo and redo: the plans that a person went through, and those that are not of the open model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from surgery_core.errors import PlanError
from surgery_core.plans.plan import LayerPlan

MAX_STEPS = 200
"""Most plans kept in each direction."""


@dataclass(frozen=True)
class History:
    """The current plan, those before it (newest last) and those that were undone (next one last)."""

    plan: LayerPlan
    past: tuple[LayerPlan, ...] = ()
    undone: tuple[LayerPlan, ...] = ()

    @classmethod
    def start(cls, n_layers: int) -> History:
        """Return a fresh history that begins with the unchanged model."""
        return cls(LayerPlan.identity(n_layers))

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was ever changed."""
        return self == History.start(self.plan.n_layers)

    def edit(self, plan: LayerPlan) -> History:
        """Return the history with `plan` as the newest step; the same plan again is no step."""
        if plan == self.plan:
            return self
        return History(plan, (*self.past, self.plan)[-MAX_STEPS:])

    def then(self, later: History) -> History:
        """Return this history with the steps of one that began after it, which started from the unchanged model."""
        joined = self
        for plan in (*later.past[1:], later.plan):
            joined = joined.edit(plan)
        return replace(joined, undone=later.undone) if later.undone else joined

    def undo(self) -> History:
        """Return the history one step back; the beginning stays where it is."""
        if not self.past:
            return self
        return History(self.past[-1], self.past[:-1], (*self.undone, self.plan))

    def redo(self) -> History:
        """Return the history one undone step forward; the newest step stays where it is."""
        if not self.undone:
            return self
        return History(self.undone[-1], (*self.past, self.plan), self.undone[:-1])


@dataclass(frozen=True)
class Left:
    """The model that was open before, with the plans that it had."""

    name: str
    title: str
    history: History

    def fits(self, n_layers: int) -> bool:
        """Return whether its plan can be written down for a model of this depth."""
        try:
            LayerPlan.parse(str(self.history.plan), n_layers)
        except PlanError:
            return False
        return True


@dataclass(frozen=True)
class Refused:
    """A link's plan that was not applied, because the link's model could not be opened."""

    model: str
    plan: str
