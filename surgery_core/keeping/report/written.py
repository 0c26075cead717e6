"""A report as a file: a page, or a recipe with its figures."""

from __future__ import annotations

import threading
from pathlib import Path

from surgery_core.errors import ReportError
from surgery_core.keeping.report.asked import Asked
from surgery_core.keeping.report.evidence import Evidence, recipe_with_figures
from surgery_core.keeping.report.findings import Findings, find
from surgery_core.keeping.report.page import report_page
from surgery_core.models.opening import LoadedModel
from surgery_core.recipes.recipe import Recipe
from surgery_core.stopping import Progress
from surgery_core.whole_files import write_whole

KINDS = ("html", "toml")
"""Endings of a report: a page, or the recipe with its figures."""


def write_report(
    recipe: Recipe, to: str | Path, asked: Asked | None = None, *, loaded: LoadedModel | None = None,
    device: str = "auto", dtype: str = "auto", force: bool = False, on_progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> tuple[Path, Findings]:  # fmt: skip
    """Measure an experiment and write its report; it is there whole, or not at all.

    Args:
        recipe: the experiment.
        to: the file, which ends in one of `KINDS`.
        asked, loaded, device, dtype, on_progress, stop: as for `find`.
        force: whether a file that is there may be written over.

    Returns:
        The file, and what was measured.

    Raises:
        ReportError: for another ending, a file that is there or cannot be written, or a page that gets too large.
        RecipeError, ModelLoadError, PlanError, RefusedPlanError, TextError, LensError, SettingsError: as `find`.
    """
    target = Path(to)
    kind = target.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise ReportError(
            f"{str(to)!r} does not end in .html or .toml; a report is a page, or a recipe with its figures."
        )
    if target.exists() and not force:
        raise ReportError(f"{str(to)!r} is there already; choose another name, or write over it with --force.")
    if not target.absolute().parent.is_dir():
        raise ReportError(f"There is no folder {str(target.parent)!r} to write the report into; make it first.")
    found = find(recipe, asked, loaded=loaded, device=device, dtype=dtype, on_progress=on_progress, stop=stop)
    content = report_page(found) if kind == "html" else recipe_with_figures(Evidence.of(found))
    try:
        return write_whole(target, content.encode("utf-8")), found
    except OSError as error:
        raise ReportError(f"{str(to)!r} cannot be written: {error.strerror or error}.") from error
