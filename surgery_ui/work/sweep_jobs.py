"""Long work of the Sweep and Skills pages: sweeps, removals, importance, skills.

Sweeps have workers of their own, fewer than there are cores, so that everybody else's edits are still answered.
A sweep that is paused gives its worker and its memory back; it goes on from the rows that are there. So do a removal, from
its last step, and importance, from what was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from surgery_core.errors import Stopped
from surgery_core.measure.encoding import Encoded, encode_texts
from surgery_core.measure.importance import Reading, read_on
from surgery_core.measure.skills import SkillResult, load_skills, score_skill
from surgery_core.models.opening import LoadedModel
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.file import SweepIdentity, model_name
from surgery_core.sweeps.kinds import SweepKind
from surgery_core.sweeps.removal import Removal, remove_greedily
from surgery_core.sweeps.request import (
    GREEDY,
    IMPORTANCE,
    ImportanceRequest,
    RemovalRequest,
    Request,
    SweepRequest,
)  # fmt: skip
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import Sweep
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.engine import ENGINE
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane, Workers, kinds_of
from surgery_ui.work.limits import MB, limits
from surgery_ui.work.pool import Pool
from surgery_ui.work.task import Task

SWEEPS = Pool(
    max(1, limits().at_once - 1), kinds_of(Workers.SWEEPS), Workers.SWEEPS, limits().cache_mb * MB // 4,
    elsewhere=ENGINE.sender(Workers.SWEEPS),
)  # fmt: skip


Mark = frozenset[int] | Removal | Reading | None
"""What work goes on from: numbers of rows, the last step of a removal, or what was read; nothing at the beginning."""

LANES = {GREEDY.key: Lane.SEARCH, IMPORTANCE.key: Lane.IMPORTANCE}
"""Where work is asked for that is no sweep, by its kind."""


def lane_of(kind: SweepKind) -> Lane:
    """Return the lane of a kind; of each, one runs at a time for a person."""
    return LANES.get(kind.key, Lane.SWEEP)


def start_job(owner: str, loaded: LoadedModel, request: Request, mark: Mark = None) -> Job[str]:
    """Do what is asked for, from a mark on.

    The job's pieces are first its identity and then its rows, its steps, or the one reading of all that was read; its text
    is a note on how it runs.
    """
    if isinstance(request, RemovalRequest):
        return removal_job(owner, loaded, request, mark if isinstance(mark, Removal) else None)
    if isinstance(request, ImportanceRequest):
        return importance_job(owner, loaded, request, mark if isinstance(mark, Reading) else None)
    return sweep_job(owner, loaded, request, mark if isinstance(mark, frozenset) else ())


def sweep_job(owner: str, loaded: LoadedModel, request: SweepRequest, done: Iterable[int] = ()) -> Job[str]:
    """Run a sweep, but for the rows that are done."""
    left_out = frozenset(done)
    key = ("sweep", loaded.info.key, cached.plan_key(request.start), request, left_out)
    return SWEEPS.request(owner, Lane.SWEEP, key, Task(_rows, loaded, request, left_out), anew=True)


def _rows(job: Job[str], loaded: LoadedModel, request: SweepRequest, left_out: frozenset[int]) -> str:
    sweep = _sweep(loaded, request, job)
    job.put(SweepIdentity.of(model_name(loaded.info), request.kind, sweep, request.options))
    for row in sweep.rows(done=left_out, on_progress=job.report):
        if not job.text and sweep.note:
            job.write(sweep.note)
        job.put(row)
    return sweep.note


def removal_job(owner: str, loaded: LoadedModel, request: RemovalRequest, before: Removal | None = None) -> Job[str]:
    """Remove layers one at a time, from a step on."""
    key = ("search", loaded.info.key, cached.plan_key(request.start), request, () if before is None else before.kept)
    return SWEEPS.request(owner, Lane.SEARCH, key, Task(_steps, loaded, request, before), anew=True)


def _steps(job: Job[str], loaded: LoadedModel, request: RemovalRequest, before: Removal | None) -> str:
    encoded = _named(loaded, request, job, request.options, request.measures)
    given = cached.ingredients(loaded, request.start)
    steps = remove_greedily(
        loaded.model, loaded.tokenizer, encoded, start=request.start, beam=request.beam, least=request.least,
        measures=request.measures, donors=given.donors, means=given.means, before=before, stop=job.stop,
        on_progress=job.report,
    )  # fmt: skip
    for step in steps:
        job.put(step)
    return ""


def importance_job(
    owner: str, loaded: LoadedModel, request: ImportanceRequest, before: Reading | None = None
) -> Job[str]:
    """Measure what each layer does to the residual stream, without any surgery, behind what was read."""
    key = ("importance", loaded.info.key, cached.plan_key(request.start), request, 0 if before is None else before.read)
    return SWEEPS.request(owner, Lane.IMPORTANCE, key, Task(_importance, loaded, request, before), anew=True)


def _importance(job: Job[str], loaded: LoadedModel, request: ImportanceRequest, before: Reading | None) -> str:
    encoded, model = _named(loaded, request, job), cached.view(loaded, request.start)
    for number, reading in enumerate(read_on(model, encoded, before, job.stop)):
        job.report(reading.read, reading.windows)
        job.put(reading, instead=number > 0)
    return ""


def _named(
    loaded: LoadedModel, request: RemovalRequest | ImportanceRequest, job: Job[str],
    options: Mapping[str, int] | None = None, measures: SweepMeasures | None = None,
) -> Encoded:  # fmt: skip
    """Return the texts of a request as tokens, once the job has said what its pieces belong to."""
    encoded = encode_texts(loaded.model, loaded.tokenizer, request.texts)
    kind = request.family.key
    job.put(SweepIdentity.named(model_name(loaded.info), kind, request.start, encoded, options, measures))
    return encoded


def skills_job(owner: str, lane: str, loaded: LoadedModel, plan: LayerPlan) -> Job[tuple[SkillResult, ...]]:
    """Ask a plan every prompt of the skills that come with the package."""
    key = ("skills", loaded.info.key, cached.plan_key(plan))
    return cached.WORK.request(owner, lane, key, Task(_answers, loaded, plan))


def _answers(job: Job[tuple[SkillResult, ...]], loaded: LoadedModel, plan: LayerPlan) -> tuple[SkillResult, ...]:
    model, skills = cached.view(loaded, plan), load_skills()
    results, total = [], sum(len(skill.items) for skill in skills)
    for skill in skills:
        if job.stop.is_set():
            raise Stopped("The skills were not asked to the end.")
        results.append(score_skill(model, loaded.tokenizer, skill, stop=job.stop))
        job.report(sum(len(one.items) for one in skills[: len(results)]), total)
    return tuple(results)


def known_skills(loaded: LoadedModel, plan: LayerPlan) -> tuple[SkillResult, ...] | None:
    """Return what a plan answered, where it was asked; nothing is computed."""
    job = cached.WORK.outcome(("skills", loaded.info.key, cached.plan_key(plan)))
    return None if job is None or job.error is not None else job.result


def _sweep(loaded: LoadedModel, request: SweepRequest, job: Job[str]) -> Sweep:
    layers = [layer for point in request.points for slot in point.plan for layer in slot.layers]
    means = cached.mean_side(loaded) if any(layer.mean for layer in layers) else None
    donors = {name: one.model for name, one in cached.donors(request.start).items()}
    return Sweep(
        loaded.model, loaded.tokenizer, request.texts, request.points, start=request.start,
        measures=request.measures, donors=donors or None, means=means, stop=job.stop,
    )  # fmt: skip


def without_extras(measures: SweepMeasures) -> SweepMeasures:
    """Return the measures that need no run of their own."""
    return replace(measures, skills=(), prompt=None)
