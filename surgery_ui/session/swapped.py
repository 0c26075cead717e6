"""A word that a person has swapped on the Lens page: a value that outlives edits of the plan."""

from __future__ import annotations

from dataclasses import dataclass

from surgery_core.errors import SettingsError
from surgery_core.lenses.reading import Follow
from surgery_core.plans.labels import slot_labels
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.swap_choice import Side, SwapChoice


@dataclass(frozen=True)
class Swapped:
    """Which word stands for which, and where.

    Attributes:
        model: name of the model that it is of.
        side: of which map the cell was.
        label: of the cell's row, by which it is found again when the plan is edited.
        source, target: the two tokens as text.
        positions: which tokens of the text, counted from 0; None for all.
        strength: 1 for a whole swap.
    """

    model: str
    side: Side
    label: str
    source: str
    target: str
    positions: tuple[int, ...] | None = None
    strength: float = 1.0

    @classmethod
    def of(cls, model: str, choice: SwapChoice, plan: LayerPlan) -> Swapped:
        """Return what a recipe says; `plan` is the recipe's.

        Raises:
            SettingsError: when the plan has no such slot.
        """
        labels = slot_labels(LayerPlan.identity(plan.n_layers) if choice.side == "before" else plan)
        if choice.slot >= len(labels):
            raise SettingsError(
                f"The recipe swaps a word behind slot {choice.slot}, and its plan has {len(labels)} slots, counted from 0."
            )
        return cls(
            model, choice.side, labels[choice.slot], choice.source, choice.target, choice.positions, choice.strength
        )

    def choice(self, plan: LayerPlan, follow: Follow, lens: str = "") -> SwapChoice:
        """Return the swap under a plan, as a recipe says it.

        Args:
            plan: the one that there is now.
            follow: which matrix belongs to a slot after surgery.
            lens: as of `SwapChoice`.

        Raises:
            SettingsError: when the row does not run in this plan.
        """
        side = "before" if plan.is_identity else self.side
        labels = slot_labels(LayerPlan.identity(plan.n_layers) if side == "before" else plan)
        if self.label not in labels:
            raise SettingsError(
                f"{self.label} does not run in this plan, so no word can be swapped behind it; click a cell of another layer."
            )
        return SwapChoice(
            labels.index(self.label), self.source, self.target, side, self.strength, self.positions, follow, lens
        )
