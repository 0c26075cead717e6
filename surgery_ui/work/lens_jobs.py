"""Work of the Lens page: readings, distances, averages, training, fits; and the lenses that people bring or make.

Training has a worker of its own, so that everybody else's edits are still answered; two people who train at once wait
for each other. A training goes on while its person looks at other pages.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from surgery_core.errors import LensError
from surgery_core.lenses.archive import digest_of
from surgery_core.lenses.averages import lens_averages
from surgery_core.lenses.before_after import distances
from surgery_core.lenses.files import lens_beside, load_lens
from surgery_core.lenses.fitted import Fitted, lens_for
from surgery_core.lenses.hub import fetch_lens
from surgery_core.lenses.jacobian import Jacobians, check_jacobians
from surgery_core.lenses.jacobian_files import jacobians_beside, load_beside, load_jacobians
from surgery_core.lenses.jacobian_fit import JacobianFit, fit_jacobians
from surgery_core.lenses.quality import lens_quality
from surgery_core.lenses.reading import Follow, Lens, LogitLens, one_token, read_lens
from surgery_core.lenses.training import LensTraining, train_lens
from surgery_core.lenses.trajectory import Array, Trajectory
from surgery_core.lenses.tuned import Translators, check_fits
from surgery_core.measure.generation import Generation
from surgery_core.models.offered import located
from surgery_core.models.opening import LoadedModel
from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.swap_choice import SwapChoice
from surgery_core.recipes.swapped import swapped_view
from surgery_core.states.windows import DEFAULT_CONTEXT, window_length
from surgery_core.surgery.anatomy import plan_of
from surgery_core.text import Text, chat_text, read_text
from surgery_ui.work.engine import ENGINE
from surgery_ui.work.job import Job
from surgery_ui.work.kept import Kept
from surgery_ui.work.kinds import Lane, Workers, kinds_of
from surgery_ui.work.plan_jobs import WORK, plan_key, view, written
from surgery_ui.work.pool import Pool
from surgery_ui.work.task import Task

TRAINING = Pool(1, kinds_of(Workers.TRAINING), Workers.TRAINING, elsewhere=ENGINE.sender(Workers.TRAINING))
FETCHING = Pool(2, kinds_of(Workers.FETCHING), Workers.FETCHING)
LOGIT, TUNED, JACOBIAN = "logit", "tuned", "jacobian"
MAX_LENSES = 32
CHARACTERS = 32
"""Characters a token, more than any text has on average."""

_beside: Kept[Fitted] = Kept(8)
_lenses: Kept[Fitted] = Kept(MAX_LENSES)
ENGINE.lens = _lenses.find


@dataclass(frozen=True)
class Reading:
    """How the layers are read.

    Attributes:
        lens: `logit`, `tuned` or `jacobian` (those that came with the model), or the id of a lens that `keep_lens` kept.
        follow: whether translators follow their layer or their position.
        sublayers: whether to read after each layer's attention too.
        picked: a token whose log-probability is wanted, or nothing.
        start: first token of the window that is read.
        system: what the model is told before the text, which is put as a message then; None for plain text.
        unchanged: what reads the unchanged model, where `lens` was fitted on an operated one; else nothing.
    """

    lens: str = LOGIT
    follow: Follow = "layer"
    sublayers: bool = False
    picked: str = ""
    start: int = 0
    system: str | None = None
    unchanged: str = ""


LOGIT_LENS = Reading()


def window_of(loaded: LoadedModel) -> int:
    """Return how many tokens a lens reads at once: the model's context, or a bound where that is long or not stated."""
    return window_length(loaded.model, DEFAULT_CONTEXT)


def beginning(loaded: LoadedModel, text: Text) -> str:
    """Return as much of a text as the model sees at once: to cut one of a megabyte into tokens takes many seconds."""
    return text.text[: CHARACTERS * window_of(loaded)]


def _read(loaded: LoadedModel, text: str, reading: Reading) -> Text:
    """Return a text as the model reads it."""
    checked = read_text(text, title="The text")
    return checked if reading.system is None else chat_text(loaded.tokenizer, checked.text, reading.system, "The text")


def lens_job(
    owner: str, lane: str, loaded: LoadedModel, plan: LayerPlan, text: str, reading: Reading = LOGIT_LENS
) -> Job[Trajectory]:
    """Read a plan's layers on a text."""
    key = ("lens", loaded.info.key, plan_key(plan), text, reading)
    return WORK.request(owner, lane, key, Task(_trajectory, loaded, plan, text, reading))


def _trajectory(job: Job[Trajectory], loaded: LoadedModel, plan: LayerPlan, text: str, reading: Reading) -> Trajectory:
    model = view(loaded, plan)
    checked = _read(loaded, text, reading)
    picked = one_token(loaded.tokenizer, reading.picked) if reading.picked else None
    return read_lens(
        lens_of(model, loaded, reading), model, loaded.tokenizer, checked, follow=reading.follow,
        sublayers=reading.sublayers, picked=picked, start=reading.start, stop=job.stop, on_progress=job.report,
    )  # fmt: skip


def swapped_job(
    owner: str, loaded: LoadedModel, plan: LayerPlan, text: str, settings: GenerationSettings, choice: SwapChoice,
    reading: Reading,
) -> Job[Generation]:  # fmt: skip
    """Continue a text with one word swapped for another, where the lens of a reading reads it; the job's text grows."""
    lens = lens_of_side(reading, choice.side)
    of = plan if choice.side == "after" else LayerPlan.identity(plan.n_layers)
    key = ("text", loaded.info.key, plan_key(of), text, settings, choice, lens)
    return WORK.request(owner, Lane.TEXT_SWAPPED, key, Task(_write_swapped, loaded, of, text, settings, choice, lens))


def _write_swapped(
    job: Job[Generation], loaded: LoadedModel, plan: LayerPlan, text: str, settings: GenerationSettings,
    choice: SwapChoice, lens: str,
) -> Generation:  # fmt: skip
    swapped = swapped_view(choice, loaded, view(loaded, plan, job.stop), jacobians_of(loaded, lens))
    return written(loaded, swapped, text, settings, on_text=job.write, stop=job.stop, on_progress=job.report)


def lens_of_side(reading: Reading, side: str) -> str:
    """Return the id of the lens that a reading asks for of a side."""
    return reading.unchanged if reading.unchanged and side == "before" else reading.lens


def jacobians_of(loaded: LoadedModel, lens: str) -> Jacobians:
    """Return what a Jacobian lens decodes with.

    Raises:
        LensError: when it is no longer on the server, or another lens.
    """
    found = fitted_of(loaded, lens)
    if not isinstance(found, Jacobians):
        raise LensError("A word is swapped along the directions of a Jacobian lens; choose one above the maps.")
    return found


def distances_job(
    owner: str, loaded: LoadedModel, plan: LayerPlan, text: str, reading: Reading
) -> Job[dict[str, Array]]:
    """Compare what the lens reads after surgery with what it read before, cell by cell."""
    reading = replace(reading, picked="")
    key = ("distances", loaded.info.key, plan_key(plan), text, reading)
    return WORK.request(owner, Lane.LENS_DISTANCES, key, Task(_distances, loaded, plan, text, reading))


def _distances(
    job: Job[dict[str, Array]], loaded: LoadedModel, plan: LayerPlan, text: str, reading: Reading
) -> dict[str, Array]:
    models = loaded.model, view(loaded, plan)
    lenses = lens_of(models[0], loaded, reading), lens_of(models[1], loaded, reading)
    return distances(
        lenses, models, loaded.tokenizer, _read(loaded, text, reading), follow=reading.follow,
        sublayers=reading.sublayers, start=reading.start, stop=job.stop, on_progress=job.report,
    )  # fmt: skip


def averages_job(
    owner: str, lane: Lane, loaded: LoadedModel, plan: LayerPlan, texts: tuple[Text, ...], reading: Reading
) -> Job[pd.DataFrame]:
    """Read texts through the lens and keep the means of each."""
    reading = Reading(reading.lens, reading.follow, unchanged=reading.unchanged)
    key = ("averages", loaded.info.key, plan_key(plan), texts, reading)
    return WORK.request(owner, lane, key, Task(_averages, loaded, plan, texts, reading))


def _averages(
    job: Job[pd.DataFrame], loaded: LoadedModel, plan: LayerPlan, texts: tuple[Text, ...], reading: Reading
) -> pd.DataFrame:
    model = view(loaded, plan)
    return lens_averages(
        lens_of(model, loaded, reading), model, loaded.tokenizer, texts, follow=reading.follow, stop=job.stop,
        on_progress=job.report,
    )  # fmt: skip


def quality_job(owner: str, loaded: LoadedModel, texts: tuple[Text, ...], lens: str) -> Job[pd.DataFrame]:
    """Measure how far the logit lens and another one are from the model's own output."""
    key = ("quality", loaded.info.key, texts, lens)
    return WORK.request(owner, Lane.LENS_QUALITY, key, Task(_quality, loaded, texts, lens))


def _quality(job: Job[pd.DataFrame], loaded: LoadedModel, texts: tuple[Text, ...], lens: str) -> pd.DataFrame:
    return lens_quality(
        loaded.model, loaded.tokenizer, fitted_of(loaded, lens), texts, stop=job.stop, on_progress=job.report
    )


def training_job(owner: str, loaded: LoadedModel, texts: tuple[Text, ...], settings: LensTraining) -> Job[Fitted]:
    """Train a lens; the job's pieces are `Progress`. Setting its `stop` ends it with the best so far."""
    key: tuple[Hashable, ...] = ("lens-training", loaded.info.key, uuid.uuid4().hex)
    return TRAINING.request(owner, Lane.LENS_TRAINING, key, Task(_train, loaded, texts, settings))


def _train(job: Job[Fitted], loaded: LoadedModel, texts: tuple[Text, ...], settings: LensTraining) -> Fitted:
    return train_lens(
        loaded.model, loaded.tokenizer, texts, settings, name=loaded.info.name, on_progress=job.put, stop=job.stop
    )


def fitting_job(
    owner: str, loaded: LoadedModel, plan: LayerPlan, texts: tuple[Text, ...], settings: JacobianFit
) -> Job[Fitted]:
    """Fit a Jacobian lens of a plan; the job's pieces are `FitProgress`. Setting its `stop` ends it with the mean so far."""
    key: tuple[Hashable, ...] = ("lens-training", loaded.info.key, uuid.uuid4().hex)
    return TRAINING.request(owner, Lane.LENS_TRAINING, key, Task(_fit, loaded, plan, texts, settings))


def _fit(
    job: Job[Fitted], loaded: LoadedModel, plan: LayerPlan, texts: tuple[Text, ...], settings: JacobianFit
) -> Fitted:
    return fit_jacobians(
        view(loaded, plan), loaded.tokenizer, texts, settings, name=loaded.info.name, on_progress=job.put,
        stop=job.stop,
    )  # fmt: skip


def fetch_job(owner: str, name: str) -> Job[Fitted]:
    """Fetch a tuned lens from the hub; each request asks anew, so that one can be tried again."""
    key: tuple[Hashable, ...] = ("lens-fetch", name, uuid.uuid4().hex)
    return FETCHING.request(owner, Lane.LENS_FETCH, key, lambda job: load_lens(fetch_lens(name)))


def fetch_jacobian_job(owner: str, name: str) -> Job[Fitted]:
    """Fetch the Jacobian lens of a model from Neuronpedia's collection on the hub."""
    key: tuple[Hashable, ...] = ("lens-fetch", name, uuid.uuid4().hex)
    return FETCHING.request(owner, Lane.LENS_FETCH, key, lambda job: load_jacobians(name))


def saved_as(loaded: LoadedModel) -> str:
    """Return what the folder of a lens that is saved from a page is called, by which scripts and recipes name it."""
    return f"{loaded.info.name.replace('/', '-')}-lens"


def lens_of(model: Any, loaded: LoadedModel, reading: Reading) -> Lens:
    """Return the lens that a reading asks for of a model, which is the loaded one or a view of it.

    Raises:
        LensError: when it is no longer on the server, or for another model.
    """
    unchanged = reading.unchanged and plan_of(model).is_identity
    lens = reading.unchanged if unchanged else reading.lens
    return LogitLens(model) if lens == LOGIT else lens_for(model, fitted_of(loaded, lens))


def fitted_of(loaded: LoadedModel, lens: str) -> Fitted:
    """Return what a lens decodes with: that which came with the model, or one that was kept.

    Raises:
        LensError: when it is no longer on the server.
    """
    if lens in (TUNED, JACOBIAN):
        return _beside.get((loaded.info.key, lens), lambda: _read_beside(loaded, lens))
    if (found := _lenses.find(lens)) is None:
        raise LensError("This lens is no longer on the server; open its file again, or train it once more.")
    return found


def _read_beside(loaded: LoadedModel, lens: str) -> Fitted:
    place = located(loaded.info.source)
    if lens == TUNED:
        return load_lens(place / "lens")
    return load_beside(place)


def keep_lens(loaded: LoadedModel, found: Fitted) -> str:
    """Keep a lens of a model, or of a plan of it, on the server and return the id under which readings find it.

    Raises:
        LensError: when it is for another model.
    """
    ENGINE.ask(_check_fits, loaded, found)
    digest = digest_of(found)
    _lenses.put(digest, found)
    return digest


def _check_fits(loaded: LoadedModel, found: Fitted) -> None:
    """Refuse a lens of another model: its weights are compared."""
    if isinstance(found, Translators):
        check_fits(loaded.model, found)
    else:
        of = view(loaded, LayerPlan.parse(found.plan, loaded.info.n_layers)) if found.plan else loaded.model
        check_jacobians(of, found)


def put_lens(lens: str, make: Callable[[], Fitted]) -> None:
    """Keep a lens under an id that another process gave it; it is made where it is not here yet."""
    _lenses.get(lens, make)


def what_reads(lens: str) -> str:
    """Return `LOGIT`, `TUNED` or `JACOBIAN` for a lens's id; one that is no longer on the server counts as tuned."""
    if lens in (LOGIT, JACOBIAN):
        return LOGIT if lens == LOGIT else JACOBIAN
    return JACOBIAN if isinstance(_lenses.find(lens), Jacobians) else TUNED


def plan_of_lens(lens: str) -> str:
    """Return the plan that a kept lens was fitted on; empty where it is of the unchanged model."""
    found = _lenses.find(lens)
    return found.plan if isinstance(found, Jacobians) else ""


def has_lens(loaded: LoadedModel) -> bool:
    """Return whether the model came with a tuned lens."""
    return lens_beside(located(loaded.info.source)) is not None


def has_jacobian_lens(loaded: LoadedModel) -> bool:
    """Return whether the model came with a Jacobian lens."""
    return jacobians_beside(located(loaded.info.source)) is not None
