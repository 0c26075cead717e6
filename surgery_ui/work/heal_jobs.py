"""Healing in the background: a training that goes on while its person works, and ends as a model of their session."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from surgery_core.keeping.checkpoint import expected_bytes
from surgery_core.keeping.healed import export_healed, healed_title
from surgery_core.models.opening import LoadedModel
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.preflight import prove
from surgery_core.suture.heal import heal
from surgery_core.suture.heal_report import HealReport, heal_report
from surgery_core.suture.healing import HealProgress
from surgery_core.text import Text
from surgery_ui.work.healed import HEALED, HealedModel
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane
from surgery_ui.work.lens_jobs import TRAINING
from surgery_ui.work.task import Task


@dataclass(frozen=True, eq=False)
class Healed:
    """What came of a heal: a model that can be opened, and its report."""

    model: HealedModel
    report: HealReport


def heal_job(owner: str, loaded: LoadedModel, plan: LayerPlan, texts: tuple[Text, ...], minutes: float) -> Job[Healed]:
    """Heal a plan; the job's one piece is the newest `HealProgress`. Setting its `stop` ends it with the best so far."""
    key = ("healing", loaded.info.key, uuid.uuid4().hex)
    work = Task(_heal, loaded, plan, texts, minutes, owner, received=_received)
    return TRAINING.request(owner, Lane.HEALING, key, work)


def _heal(
    job: Job[Healed], loaded: LoadedModel, plan: LayerPlan, texts: tuple[Text, ...], minutes: float, owner: str
) -> Healed:
    def told(now: HealProgress) -> None:
        job.put(now, instead=bool(job.pieces))

    prove(loaded.model, loaded.tokenizer, plan.unstitched, stop=job.stop)
    view = heal(loaded.model, plan, loaded.tokenizer, texts, minutes=minutes, stop=job.stop, on_progress=told)
    report = heal_report(view)
    made = HEALED.put(
        owner, healed_title(loaded.info, report), expected_bytes(loaded.info, plan),
        lambda folder: export_healed(loaded, view, folder),
    )  # fmt: skip
    return Healed(made, report)


def _received(healed: Healed) -> None:
    """Have a model that a worker elsewhere wrote among those of this server."""
    HEALED.adopt(healed.model)
