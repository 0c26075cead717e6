"""What a report shows, measured: recipe -> models -> text, scores, lens, skills, sweep."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import transformers

from surgery_core import __version__
from surgery_core.errors import TextError
from surgery_core.keeping.report.asked import Asked
from surgery_core.keeping.report.firm import firm_beginning
from surgery_core.keeping.report.tolerances import tolerances_of
from surgery_core.lenses.files import load_lens
from surgery_core.lenses.reading import LogitLens, read_lens
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.lenses.tuned import TunedLens
from surgery_core.measure.skills import SkillResult, load_skills, score_skills
from surgery_core.models.offered import located
from surgery_core.models.opening import LoadedModel, ModelInfo, load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.run import Report, operated_model, run_recipe, texts_of
from surgery_core.sweeps.request import SweepRequest
from surgery_core.sweeps.rows import SweepRow
from surgery_core.sweeps.sweep import sweep
from surgery_core.text import Text, chat_text

LENS_TOKENS = 40
"""Most tokens of a lens's map."""
Progress = Callable[[int, int], None]
_STEPS = 1000


@dataclass(frozen=True, eq=False)
class Swept:
    """A sweep: what it was asked, and its rows in order, the starting plan's first."""

    request: SweepRequest
    rows: tuple[SweepRow, ...]


@dataclass(frozen=True, eq=False)
class Findings:
    """What was measured.

    Attributes:
        asked: what the report shows.
        report: text and scores before and after.
        firm: a pair a prompt: how many characters of the text before, and after, do not hang on rounding.
        lens: the layers read before and after, or none.
        skills: results before and after, or none.
        swept: the sweep, or None.
        made: with what: versions, and the facts of the model that figures depend on.
    """

    asked: Asked
    report: Report
    firm: tuple[tuple[int, int], ...]
    lens: tuple[Trajectory, ...]
    skills: tuple[tuple[SkillResult, ...], ...]
    swept: Swept | None
    made: dict[str, str]


def find(
    recipe: Recipe, asked: Asked | None = None, *, loaded: LoadedModel | None = None, device: str = "auto",
    dtype: str = "auto", on_progress: Progress | None = None, stop: threading.Event | None = None,
) -> Findings:  # fmt: skip
    """Measure what a report shows.

    Args:
        recipe: the experiment.
        asked: what the report shows.
        loaded: the recipe's model, when it is open already.
        device, dtype: as for `load_model`.
        on_progress: called with how much of the work is done, and of how much.
        stop: when set, the work ends with `Stopped`.

    Raises:
        RecipeError, ModelLoadError, PlanError, RefusedPlanError: as `run_recipe`.
        TextError: when layers are to be read and the recipe has no text for it.
        LensError: when the model came without a tuned lens, and that is asked for.
        SettingsError: when the sweep does not fit the model.
    """
    asked = asked or Asked()
    base = loaded or load_model(recipe.model, device=device, dtype=dtype, revision=recipe.revision)
    wanted = [part for part in ("lens", "skills", "sweep") if part in asked.parts]
    stages = _stages(1 + len(wanted), on_progress)
    ran = run_recipe(recipe, loaded=base, on_progress=next(stages), stop=stop, unproved=asked.unproved)
    view = operated_model(base, ran.plan, unproved=True)
    firm = tuple(_firm(base, view, recipe, one) for one in ran.continuations)
    lens = _read(base, view, recipe, asked, next(stages), stop) if "lens" in asked.parts else ()
    skills = _skills(base, view, next(stages), stop) if "skills" in asked.parts else ()
    swept = _swept(base, recipe, asked, next(stages), stop) if asked.sweep is not None else None
    return Findings(asked, ran, firm, lens, skills, swept, made_with(base.info))


def made_with(info: ModelInfo) -> dict[str, str]:
    """Return what figures depend on besides the recipe: versions, and the model's revision, number format and device."""
    versions = {
        "surgery_core": __version__, "torch": torch.__version__, "transformers": transformers.__version__,
        "python": platform.python_version(),
    }  # fmt: skip
    facts = {
        "model": info.name, "title": info.title, "revision": info.revision, "layers": str(info.n_layers),
        "dtype": info.dtype, "device": info.device, "machine": f"{platform.system()} {platform.machine()}",
    }  # fmt: skip
    return {name: str(value) for name, value in (versions | facts).items()}


def _stages(n: int, on_progress: Progress | None) -> Iterator[Progress]:
    """Yield the progress of one of n stages after another, each for as much of the whole."""

    def report(stage: int, done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(round((stage + done / max(1, total)) * _STEPS), n * _STEPS)

    for stage in range(n):
        yield partial(report, stage)


def _firm(base: LoadedModel, view: Any, recipe: Recipe, one: Any) -> tuple[int, int]:
    lead = tolerances_of(base.info.dtype).logits
    sides = ((base.model, one.before), (view, one.after))
    before, after = (firm_beginning(model, base.tokenizer, text, recipe.settings, lead) for model, text in sides)
    return before, after


def lens_text(recipe: Recipe) -> str:
    """Return what is read through a lens: the recipe's text for it, or its first prompt.

    Raises:
        TextError: when it has neither.
    """
    text = recipe.lens or next(iter(recipe.prompts), "")
    if not text:
        raise TextError("The recipe has no text for a lens; give it `lens` or a prompt, or leave the part lens out.")
    return text


def _read(
    base: LoadedModel, view: Any, recipe: Recipe, asked: Asked, update: Progress, stop: threading.Event | None
) -> tuple[Trajectory, ...]:  # fmt: skip
    text: Text | str = lens_text(recipe)
    if recipe.chat:
        text = chat_text(base.tokenizer, lens_text(recipe), recipe.system)
    state = load_lens(located(base.info.source) / "lens") if asked.lens == "tuned" else None
    read = []
    for side, model in enumerate((base.model, view)):
        lens = LogitLens(model) if state is None else TunedLens(model, state)
        read.append(read_lens(lens, model, base.tokenizer, text, max_tokens=LENS_TOKENS, stop=stop))
        update(side + 1, 2)
    return tuple(read)


def _skills(
    base: LoadedModel, view: Any, update: Progress, stop: threading.Event | None
) -> tuple[tuple[SkillResult, ...], ...]:  # fmt: skip
    known = load_skills()

    def side(model: Any, number: int) -> tuple[SkillResult, ...]:
        def shifted(done: int, total: int) -> None:
            update(number * total + done, 2 * total)

        return tuple(score_skills(model, base.tokenizer, known, stop=stop, on_progress=shifted))

    return side(base.model, 0), side(view, 1)


def _swept(
    base: LoadedModel, recipe: Recipe, asked: Asked, update: Progress, stop: threading.Event | None
) -> Swept:  # fmt: skip
    assert asked.sweep is not None
    what, n = asked.sweep, base.info.n_layers
    start = LayerPlan.identity(n) if what.start is None else LayerPlan.parse(what.start, n)
    request = SweepRequest(what.kind, what.options, start, texts_of(recipe))
    rows = sweep(
        base.model, base.tokenizer, request.texts, what.kind, what.options, start=start, stop=stop, on_progress=update
    )
    return Swept(request, tuple(sorted(rows, key=lambda row: row.number)))
