"""What is handed out of a plan: checkpoints, files, reports. What it is made of is shared with the pages (`plan_jobs`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery_core.errors import LensError, PlanError
from surgery_core.models.opening import LoadedModel
from surgery_core.plans.plan import LayerPlan
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane
from surgery_ui.work.lens_jobs import jacobians_of
from surgery_ui.work.limits import MB, limits
from surgery_ui.work.plan_jobs import WORK, donors, ingredients, open_models, plan_key
from surgery_ui.work.task import Task

if TYPE_CHECKING:
    from surgery_core.keeping.report.asked import Asked, Swept
    from surgery_core.keeping.report.findings import Findings
    from surgery_core.recipes.recipe import Recipe
    from surgery_core.recipes.results import StudyResult


def checkpoint_job(owner: str, loaded: LoadedModel, plan: LayerPlan, unproved: bool) -> Job[bytes]:
    """Save a plan's model as a zip to download."""
    key = ("checkpoint", loaded.info.key, plan_key(plan), unproved)
    return WORK.request(owner, Lane.CHECKPOINT, key, Task(_zipped, loaded, plan, unproved))


def _zipped(job: Job[bytes], loaded: LoadedModel, plan: LayerPlan, unproved: bool) -> bytes:
    from surgery_core.keeping.checkpoint import zipped

    stitches = ingredients(loaded, plan, job.stop).stitches
    return zipped(
        loaded, plan, download_bytes(), unproved=unproved, stop=job.stop, on_progress=job.report, stitches=stitches
    )


def gguf_job(owner: str, loaded: LoadedModel, plan: LayerPlan, unproved: bool) -> Job[bytes]:
    """Write a plan's model as a GGUF file to download."""
    key = ("gguf", loaded.info.key, plan_key(plan), unproved)
    return WORK.request(owner, Lane.GGUF, key, Task(_gguf, loaded, plan, unproved))


def _gguf(job: Job[bytes], loaded: LoadedModel, plan: LayerPlan, unproved: bool) -> bytes:
    from surgery_core.keeping.gguf_file import gguf_bytes

    return gguf_bytes(loaded, plan, download_bytes(), unproved=unproved, stop=job.stop, on_progress=job.report)


def why_no_gguf(loaded: LoadedModel, plan: LayerPlan) -> str:
    """Return why a plan cannot be written as a GGUF file, as `cannot_be_gguf`."""
    from surgery_core.keeping.gguf_file import cannot_be_gguf

    return cannot_be_gguf(loaded.info, plan)


def report_job(
    owner: str, loaded: LoadedModel, plan: LayerPlan, recipe: Recipe, asked: Asked, swept: Swept | None = None,
    study: StudyResult | None = None, swap_lens: str | None = None,
) -> Job[Findings]:  # fmt: skip
    """Measure what a report of a plan shows; `swept` and `study` are what was measured already.

    `swap_lens` is the id of what its swap reads with, where the page knows it; else it is the lens that came with the model.
    """
    key = ("report", loaded.info.key, plan_key(plan), recipe, asked)
    work = Task(_found, loaded, plan, recipe, asked, swept, study, swap_lens)
    return WORK.request(owner, Lane.REPORT, key, work)


def _found(
    job: Job[Findings], loaded: LoadedModel, plan: LayerPlan, recipe: Recipe, asked: Asked, swept: Swept | None,
    study: StudyResult | None, swap_lens: str | None,
) -> Findings:  # fmt: skip
    # it is loaded in the job's thread: a page has no use for it
    from surgery_core.keeping.report.findings import find

    if closed := sorted(plan.donors - donors(plan).keys()):
        raise PlanError(f"The plan takes layers from {closed[0]!r}, which is not open; open it in the picker first.")
    if swap_lens is None:
        check_swap_lens(recipe)
    return find(
        recipe, asked, loaded=loaded, swept=swept, study=study,
        swap_lens=None if swap_lens is None else jacobians_of(loaded, swap_lens), stop=job.stop, on_progress=job.report,
    )  # fmt: skip


def check_swap_lens(recipe: Recipe) -> None:
    """Refuse a recipe whose swap names a lens: a page opens no file and asks no hub for what a file says.

    Raises:
        LensError: names the lens.
    """
    if recipe.swap is not None and recipe.swap.lens:
        raise LensError(
            f"The recipe's swap reads with the lens {recipe.swap.lens!r:.80}; open that lens on the Lens page and swap there, "
            "or run the recipe with `model-surgery run`."
        )


def mergekit_job(owner: str, loaded: LoadedModel, plan: LayerPlan) -> Job[str]:
    """Write a plan as a file of mergekit."""
    key = ("mergekit", loaded.info.key, plan_key(plan))
    return WORK.request(owner, Lane.MERGEKIT, key, Task(_mergekit, loaded, plan))


def _mergekit(job: Job[str], loaded: LoadedModel, plan: LayerPlan) -> str:
    from surgery_core.keeping.mergekit import to_mergekit

    return to_mergekit(loaded, plan)


def read_mergekit(loaded: LoadedModel, text: str) -> LayerPlan:
    """Return the plan that a file of mergekit says. Errors as `from_mergekit`."""
    from surgery_core.keeping.mergekit import from_mergekit

    return from_mergekit(text, loaded, [one for one in open_models() if one.info.key != loaded.info.key])


def download_bytes() -> int:
    """Return how large a checkpoint may be that is downloaded from a page, in bytes."""
    return limits().download_mb * MB
