"""Run a recipe's study on an open model, and say whether its claim holds there."""

from __future__ import annotations

import threading
import time
from typing import Any

from surgery_core.errors import RecipeError
from surgery_core.lenses.files import lens_beside, load_lens
from surgery_core.lenses.tuned import TunedLens
from surgery_core.models.offered import located
from surgery_core.models.opening import LoadedModel
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.results import StudyResult
from surgery_core.stopping import Progress
from surgery_core.studies.study import StudySetup
from surgery_core.text import Text


def run_study(
    recipe: Recipe, loaded: LoadedModel, texts: tuple[Text, ...], *, stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> StudyResult:  # fmt: skip
    """Run the study of a recipe.

    Args:
        recipe: which study, with which options and seed, and what is claimed.
        loaded: the model that is studied; it is not changed.
        texts: what is read.
        stop: when set, the study ends with `Stopped`.
        on_progress: called with (steps done, steps in all).

    Raises:
        RecipeError: when the recipe has no study.
        SettingsError: when the study does not fit the model, or needs a tuned lens and there is none.
        TextError: when a text cannot be read.
    """
    if recipe.study is None:
        raise RecipeError("The recipe has no study to run; give it [study] with a name.")
    began = time.monotonic()
    setup = StudySetup(
        loaded.model, loaded.tokenizer, texts, recipe.study.options, recipe.seed, tuned_lens(loaded), stop, on_progress
    )
    finding = recipe.study.study.run(setup)
    outcome = None if recipe.claim is None else recipe.claim.claim.outcome(finding.figure)
    return StudyResult(recipe.study.name, finding, outcome, time.monotonic() - began)


def tuned_lens(loaded: LoadedModel) -> Any:
    """Return the tuned lens that came with a model, or None where none did. Errors as `load_lens`."""
    folder = lens_beside(located(loaded.info.source))
    return None if folder is None else TunedLens(loaded.model, load_lens(folder))
