"""Work of the Lens page: readings, distances, averages, training; and the lenses that people bring or train.

Training has a worker of its own, so that everybody else's edits are still answered; two people who train at once wait
for each other. A training goes on while its person looks at other pages.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from surgery_core.errors import LensError
from surgery_core.lenses.averages import lens_averages
from surgery_core.lenses.before_after import distances
from surgery_core.lenses.files import lens_beside, load_lens
from surgery_core.lenses.hub import fetch_lens
from surgery_core.lenses.reading import Follow, Lens, LogitLens, one_token, read_lens
from surgery_core.lenses.training import LensTraining, lens_quality, train_lens
from surgery_core.lenses.trajectory import Array, Trajectory
from surgery_core.lenses.tuned import Translators, TunedLens, check_fits
from surgery_core.models.offered import located
from surgery_core.models.opening import LoadedModel
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.windows import DEFAULT_CONTEXT, window_length
from surgery_core.text import Text, chat_text, read_text
from surgery_ui.work.job import Job
from surgery_ui.work.kept import Kept
from surgery_ui.work.kinds import Lane, Workers, kinds_of
from surgery_ui.work.plan_jobs import WORK, plan_key, view
from surgery_ui.work.pool import Pool

TRAINING = Pool(1, kinds_of(Workers.TRAINING), Workers.TRAINING)
FETCHING = Pool(2, kinds_of(Workers.FETCHING), Workers.FETCHING)
LOGIT, TUNED = "logit", "tuned"
MAX_LENSES = 32
CHARACTERS = 32
"""Characters a token, more than any text has on average."""

_beside: Kept[Translators] = Kept(4)
_lenses: Kept[Translators] = Kept(MAX_LENSES)


@dataclass(frozen=True)
class Reading:
    """How the layers are read.

    Attributes:
        lens: `logit`, `tuned` (the one that came with the model), or the id of a lens that `keep_lens` kept.
        follow: whether translators follow their layer or their position.
        sublayers: whether to read after each layer's attention too.
        picked: a token whose log-probability is wanted, or nothing.
        start: first token of the window that is read.
        system: what the model is told before the text, which is put as a message then; None for plain text.
    """

    lens: str = LOGIT
    follow: Follow = "layer"
    sublayers: bool = False
    picked: str = ""
    start: int = 0
    system: str | None = None


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

    def work(job: Job[Trajectory]) -> Trajectory:
        model = view(loaded, plan)
        checked = _read(loaded, text, reading)
        picked = one_token(loaded.tokenizer, reading.picked) if reading.picked else None
        return read_lens(
            lens_of(model, loaded, reading), model, loaded.tokenizer, checked, follow=reading.follow,
            sublayers=reading.sublayers, picked=picked, start=reading.start, stop=job.stop,
            on_progress=job.report,
        )  # fmt: skip

    return WORK.request(owner, lane, ("lens", loaded.info.key, plan_key(plan), text, reading), work)


def distances_job(
    owner: str, loaded: LoadedModel, plan: LayerPlan, text: str, reading: Reading
) -> Job[dict[str, Array]]:
    """Compare what the lens reads after surgery with what it read before, cell by cell."""
    reading = replace(reading, picked="")

    def work(job: Job[dict[str, Array]]) -> dict[str, Array]:
        models = loaded.model, view(loaded, plan)
        lenses = lens_of(models[0], loaded, reading), lens_of(models[1], loaded, reading)
        return distances(
            lenses, models, loaded.tokenizer, _read(loaded, text, reading), follow=reading.follow,
            sublayers=reading.sublayers, start=reading.start, stop=job.stop, on_progress=job.report,
        )  # fmt: skip

    key = ("distances", loaded.info.key, plan_key(plan), text, reading)
    return WORK.request(owner, Lane.LENS_DISTANCES, key, work)


def averages_job(
    owner: str, lane: Lane, loaded: LoadedModel, plan: LayerPlan, texts: tuple[Text, ...], reading: Reading
) -> Job[pd.DataFrame]:
    """Read texts through the lens and keep the means of each."""
    reading = Reading(reading.lens, reading.follow)

    def work(job: Job[pd.DataFrame]) -> pd.DataFrame:
        model = view(loaded, plan)
        return lens_averages(
            lens_of(model, loaded, reading), model, loaded.tokenizer, texts, follow=reading.follow, stop=job.stop,
            on_progress=job.report,
        )  # fmt: skip

    return WORK.request(owner, lane, ("averages", loaded.info.key, plan_key(plan), texts, reading), work)


def quality_job(owner: str, loaded: LoadedModel, texts: tuple[Text, ...], lens: str) -> Job[pd.DataFrame]:
    """Measure how far the logit lens and a tuned lens are from the model's own output."""

    def work(job: Job[pd.DataFrame]) -> pd.DataFrame:
        return lens_quality(
            loaded.model, loaded.tokenizer, translators(loaded, lens), texts, stop=job.stop, on_progress=job.report
        )

    return WORK.request(owner, Lane.LENS_QUALITY, ("quality", loaded.info.key, texts, lens), work)


def training_job(owner: str, loaded: LoadedModel, texts: tuple[Text, ...], settings: LensTraining) -> Job[Translators]:
    """Train a lens; the job's pieces are `Progress`. Setting its `stop` ends it with the best so far."""

    def work(job: Job[Translators]) -> Translators:
        name = loaded.info.name
        return train_lens(
            loaded.model, loaded.tokenizer, texts, settings, name=name, on_progress=job.put, stop=job.stop
        )

    key: tuple[Hashable, ...] = ("lens-training", loaded.info.key, uuid.uuid4().hex)
    return TRAINING.request(owner, Lane.LENS_TRAINING, key, work)


def fetch_job(owner: str, name: str) -> Job[Translators]:
    """Fetch a lens from the hub; each request asks anew, so that one can be tried again."""
    key: tuple[Hashable, ...] = ("lens-fetch", name, uuid.uuid4().hex)
    return FETCHING.request(owner, Lane.LENS_FETCH, key, lambda job: load_lens(fetch_lens(name)))


def lens_of(model: Any, loaded: LoadedModel, reading: Reading) -> Lens:
    """Return the lens that a reading asks for.

    Raises:
        LensError: when it is no longer on the server, or for another model.
    """
    return LogitLens(model) if reading.lens == LOGIT else TunedLens(model, translators(loaded, reading.lens))


def translators(loaded: LoadedModel, lens: str) -> Translators:
    """Return the translators of a tuned lens: that of the model, or one that was kept.

    Raises:
        LensError: when it is no longer on the server.
    """
    if lens == TUNED:
        return _beside.get(loaded.info.key, lambda: load_lens(located(loaded.info.source) / "lens"))
    if (found := _lenses.find(lens)) is None:
        raise LensError("This lens is no longer on the server; open its file again, or train it once more.")
    return found


def keep_lens(loaded: LoadedModel, found: Translators) -> str:
    """Keep a lens of a model on the server and return the id under which readings find it.

    Raises:
        LensError: when it is for another model.
    """
    check_fits(loaded.model, found)
    digest = hashlib.sha256(found.weights.numpy().tobytes() + found.biases.numpy().tobytes()).hexdigest()[:32]
    _lenses.put(digest, found)
    return digest


def has_lens(loaded: LoadedModel) -> bool:
    """Return whether the model came with a tuned lens."""
    return lens_beside(located(loaded.info.source)) is not None
