"""An experiment as a file of whatever kind its name ends in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from surgery_core.errors import InputError
from surgery_core.keeping import pictures, tables
from surgery_core.keeping.mergekit import to_mergekit
from surgery_core.keeping.report.asked import AskedSweep
from surgery_core.keeping.report.findings import sweep_request
from surgery_core.keeping.script import LensView, Page, Shown, notebook, script
from surgery_core.models.opening import load_model
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.run import run_recipe
from surgery_core.recipes.scored import texts_of
from surgery_core.text import TextSet
from surgery_core.whole_files import write_whole

KINDS = ("toml", "py", "ipynb", "yaml", *pictures.KINDS, *tables.KINDS)
"""Endings of files that an experiment can be kept as."""


def keep(
    recipe: Recipe, to: str | Path, *, page: Page = "surgery", device: str = "auto", dtype: str = "auto",
    unproved: bool = False, force: bool = False, text_set: TextSet | None = None, lens: LensView | None = None,
    sweep: AskedSweep | None = None,
) -> Path:  # fmt: skip
    """Write an experiment as a file; it is there whole, or not at all.

    Args:
        recipe: the experiment.
        to: the file; `.toml` is the recipe itself, `.py` and `.ipynb` print what a page shows, `.svg`, `.png` and
            `.html` are the plan's picture, `.yaml` a passthrough merge, `.csv`, `.json`, `.parquet` and `.md` the table of
            scores, which is computed.
        page: whose script or notebook.
        device, dtype: as for `load_model`.
        unproved: whether to go on where the plan does not pass its checks.
        force: whether a file that is there may be written over.
        text_set: the set that the recipe names by its digest, where it does not hold the texts themselves.
        lens: how the Lens page's script reads; by default the first prompt through the logit lens.
        sweep: what the Sweep page's script tries; by default it deletes every layer.

    Raises:
        InputError: for another ending, a file that is there, or one that cannot be written.
        ModelLoadError, PlanError, RefusedPlanError: as `run_recipe`.
    """
    target = Path(to)
    kind = target.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise InputError(f"{str(to)!r} ends in none of {', '.join(f'.{one}' for one in KINDS)}; choose one of these.")
    if target.exists() and not force:
        raise InputError(f"{str(to)!r} is there already; choose another name, or write over it with --force.")
    content = _content(recipe, kind, Shown(page, recipe, 0, device, dtype, unproved, lens), text_set, sweep)
    try:
        return write_whole(target, content)
    except OSError as error:
        raise InputError(f"{str(to)!r} cannot be written: {error.strerror or error}.") from error


def _content(
    recipe: Recipe, kind: str, shown: Shown, text_set: TextSet | None, sweep: AskedSweep | None
) -> bytes:  # fmt: skip
    if kind == "toml":
        return recipe.dumps().encode("utf-8")
    loaded = load_model(recipe.model, device=shown.device, dtype=shown.dtype, revision=recipe.revision)
    plan = recipe.plan_of(loaded.info.n_layers)
    if kind == "yaml":
        return to_mergekit(loaded, plan).encode("utf-8")
    if kind in tables.KINDS:
        report = run_recipe(recipe, loaded=loaded, unproved=shown.unproved, text_set=text_set)
        return tables.table_file(report.frame(), kind)
    if kind in pictures.KINDS:
        return pictures.picture_file(plan, kind)
    make = script if kind == "py" else notebook
    request = None if sweep is None else sweep_request(recipe, sweep, plan.n_layers)
    return make(replace(shown, n_layers=plan.n_layers, texts=texts_of(recipe, text_set), sweep=request)).encode("utf-8")
