"""Views: operated models that share every tensor with their base.

`operate` clones the module shells of the base (not its tensors), puts the plan's layers into the clone, gives each
its own cache position and brings the config's depth and per-layer lists in line. The base is never written to, so
any number of views can live at once, in any number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from torch import nn

from surgery_core.errors import PlanError, RefusedPlanError
from surgery_core.plans.nearby import neighbours
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Slot
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.assembly import Assembly, assemble
from surgery_core.surgery.building import built
from surgery_core.surgery.ingredients import PENDING, Ingredients, Means
from surgery_core.surgery.stitches import PENDING as STITCHES_PENDING
from surgery_core.surgery.stitches import Stitches
from surgery_core.surgery.stream_form import stream_of

_NEIGHBOURS = 64
"""Plans that are looked at for one that the structure allows."""


def operate(
    model: nn.Module,
    plan: LayerPlan | str,
    *,
    donors: Mapping[str, nn.Module] | None = None,
    means: Means | None = None,
    stitches: Stitches | None = None,
) -> Any:
    """Return the model that `plan` describes, as a view of `model`.

    The view is an ordinary model of the same class, with its own config and generation config: it runs, generates
    with the KV cache, and can be operated again. It shares every parameter and buffer with `model`, which is not
    changed; a stitched layer has one projection of its own.

    Args:
        model: a transformers causal language model.
        plan: a plan for its layers, or the notation of one.
        donors: other models by name, for slots such as `donor:7`.
        means: mean contributions of this model's layers (`mean_contributions`), for slots such as `mean(7)`.
        stitches: projections that were fitted for this plan (`stitch`), for plans such as `0-3,~,7-11`.

    Raises:
        PlanError: when the plan is for another number of layers, does not parse, or names what is not there.
        RefusedPlanError: when the structure of this model does not allow the plan; has the nearest plan that can run,
            if any. What shows only while the model runs is found by `prove`, which the app and the command line do
            before every result.
        AnatomyError: when the model's layers cannot be found.
    """
    plan = checked_plan(plan, len(find_layers(model)[1]))
    ingredients = Ingredients(donors or {}, means, stitches)
    return _built(_assembled(model, plan, ingredients), ingredients)


def check_plan(model: nn.Module, plan: LayerPlan, donors: Mapping[str, nn.Module] | None = None) -> None:
    """Refuse a plan that cannot run on this model, before anything of it is measured. Errors as for `operate`."""
    _assembled(model, plan, Ingredients(donors or {}, PENDING, STITCHES_PENDING))


def _assembled(model: nn.Module, plan: LayerPlan, ingredients: Ingredients) -> Assembly:
    """Return what a plan consists of on a model; a refusal has the nearest plan that its structure allows."""
    try:
        return assemble(model, plan, ingredients)
    except RefusedPlanError as error:
        raise RefusedPlanError(str(error), _nearest_operable(model, plan, ingredients)) from None


def check_operable(model: nn.Module, plan: LayerPlan, ingredients: Ingredients) -> None:
    """Refuse a plan that cannot run on this model. Errors as for `operate`, which does this first."""
    assemble(model, plan, ingredients)


def _nearest_operable(model: nn.Module, plan: LayerPlan, ingredients: Ingredients) -> LayerPlan | None:
    """Return the nearest plan that is not ruled out before it is tried, or None."""

    def possible(near: LayerPlan) -> bool:
        try:
            check_operable(model, near, ingredients)
        except PlanError:
            return False
        return True

    return next(filter(possible, islice(neighbours(plan), _NEIGHBOURS)), None)


def operate_slot(model: nn.Module, slot: Slot, ingredients: Ingredients | None = None) -> Any:
    """Return a view with one single slot of a plan, for calling its layers by hand.

    Whether the slot alone would be a model to be trusted does not matter here.
    """
    plan, ingredients = LayerPlan((slot,), len(find_layers(model)[1])), ingredients or Ingredients()
    return _built(assemble(model, plan, ingredients, alone=True), ingredients)


def _built(assembly: Assembly, ingredients: Ingredients) -> Any:
    has_means = any(placement.layer.mean for placement in assembly.placements)
    return built(assembly, ingredients, stream_of(assembly.model) if has_means else None)


def checked_plan(plan: LayerPlan | str, n_layers: int) -> LayerPlan:
    """Return the plan, parsed if it is text.

    Raises:
        PlanError: when it is a plan for another number of layers, or does not parse.
    """
    if isinstance(plan, str):
        return LayerPlan.parse(plan, n_layers)
    if plan.n_layers != n_layers:
        raise PlanError(
            f"This plan is for a model of {plan.n_layers} layers, but the model has {n_layers}; "
            f"make a plan for {n_layers} layers."
        )
    return plan
