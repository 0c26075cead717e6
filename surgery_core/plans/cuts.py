"""Cuts: places of a plan behind which layers of the base are missing, and where the base goes on behind each."""

from __future__ import annotations

from dataclasses import dataclass

from surgery_core.errors import PlanError, RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Layer
from surgery_core.plans.words import which


@dataclass(frozen=True)
class Cut:
    """Layers, or a half of one, that are missing behind a slot.

    Attributes:
        position: of the slot before it in the plan, from 0.
        layer: what runs there.
        end: the layer of the base that runs next, or the depth of the base where none does.
        half: whether only the MLP of that layer runs, so that its attention is missing too.
    """

    position: int
    layer: Layer
    end: int
    half: bool

    @property
    def missing(self) -> str:
        """Return what is missing, in words: `L4 to L6`, `the MLP of L3 and L4`."""
        whole = which(range(self.layer.index + 1, self.end)) if self.end > self.layer.index + 1 else ""
        mlp = f"the MLP of L{self.layer.index}" if self.layer.part == "attn" else ""
        attention = f"the attention of L{self.end}" if self.half else ""
        return " and ".join(part for part in (mlp, whole, attention) if part)


def cuts(plan: LayerPlan) -> tuple[Cut, ...]:
    """Return the cuts of a plan, in order.

    What is missing before the first slot is none of them, nor is what stands around parallel, damped, mean or donated layers:
    there is no layer of the base there whose output could be mapped.
    """
    found = (cut_behind(plan, position) for position in range(len(plan)))
    return tuple(cut for cut in found if cut is not None)


def cut_behind(plan: LayerPlan, position: int) -> Cut | None:
    """Return the cut behind a slot, or None where nothing of the base is missing there."""
    before, after = plan[position].own, _entered(plan, position + 1)
    if before is None or after is None:
        return None
    left = (before.index, 1) if before.part == "attn" else (before.index + 1, 0)
    return Cut(position, before, after[0], bool(after[1])) if left < after else None


def stitched_cuts(plan: LayerPlan) -> tuple[Cut, ...]:
    """Return the cuts behind which the plan has a stitch.

    Raises:
        PlanError: when there is a stitch behind which nothing is missing.
    """
    found = []
    for position, slot in enumerate(plan):
        if slot.is_stitched:
            cut = cut_behind(plan, position)
            if cut is None:
                raise PlanError(f"Behind {slot} no layer is missing, so there is nothing to stitch; leave out the ~.")
            found.append(cut)
    return tuple(found)


def needed_cuts(plan: LayerPlan) -> tuple[Cut, ...]:
    """Return the cuts that a plan marks with stitches, or where it marks none all of them; at least one.

    Raises:
        RefusedPlanError: when no layer is left, or only those at the very front are missing.
        PlanError: when nothing is missing, or nothing behind a stitch.
    """
    if not len(plan):
        raise RefusedPlanError(
            "Every layer is deleted, so there is no projection left that a map could be folded into."
        )
    if found := stitched_cuts(plan) or cuts(plan):
        return found
    first = _entered(plan, 0)
    if first is not None and first[0] > 0:
        raise RefusedPlanError(
            f"What is missing lies at the very front ({which(range(first[0]))}): no layer runs before it, so there is no "
            "projection that a map could be folded into."
        )
    raise PlanError(f"In {plan} no layer is missing between others; delete a block first, as in 0-3,7-11.")


def stitched(plan: LayerPlan) -> LayerPlan:
    """Return the plan with its stitches, or, where it has none, with one behind every cut. Errors as `needed_cuts`."""
    return plan.stitch([cut.position for cut in needed_cuts(plan)])


def _entered(plan: LayerPlan, position: int) -> tuple[int, int] | None:
    """Return the layer that a slot enters, and 1 where it enters its MLP; the depth of the base behind the last slot."""
    if position == len(plan):
        return plan.n_layers, 0
    layer = plan[position].own
    return None if layer is None else (layer.index, int(layer.part == "mlp"))
