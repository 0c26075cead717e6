"""Long work of the Sweep and Skills pages: sweeps, searches, importance, timings, skills.

Sweeps have workers of their own, fewer than there are cores, so that everybody else's edits are still answered.
A sweep that is paused gives its worker and its memory back; it goes on from the rows that are there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from surgery_core.errors import Stopped
from surgery_core.measure.importance import Importance, importance
from surgery_core.measure.skills import SkillResult, load_skills, score_skill
from surgery_core.models.opening import LoadedModel
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.file import SweepIdentity, model_name
from surgery_core.sweeps.removal import remove_greedily
from surgery_core.sweeps.request import SweepRequest
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import Sweep
from surgery_core.text import Text
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane, Workers, kinds_of
from surgery_ui.work.pool import Pool

SWEEPS = Pool(max(1, (os.cpu_count() or 1) - 1), kinds_of(Workers.SWEEPS), Workers.SWEEPS)


@dataclass(frozen=True)
class SearchRequest:
    """What a greedy removal is asked to do."""

    start: LayerPlan
    texts: tuple[Text, ...]
    beam: int = 1
    least: int = 1
    measures: SweepMeasures = SweepMeasures()  # noqa: RUF009 - it is frozen


def sweep_job(owner: str, loaded: LoadedModel, request: SweepRequest, done: Iterable[int] = ()) -> Job[str]:
    """Run a sweep; the job's pieces are its identity and then its rows, its text a note on how it runs."""
    left_out = frozenset(done)

    def work(job: Job[str]) -> str:
        sweep = _sweep(loaded, request, job)
        job.put(SweepIdentity.of(model_name(loaded.info), request.kind, sweep, request.options))
        for row in sweep.rows(done=left_out, on_progress=job.report):
            if not job.text and sweep.note:
                job.write(sweep.note)
            job.put(row)
        return sweep.note

    key = ("sweep", loaded.info.key, cached.plan_key(request.start), request, left_out)
    return SWEEPS.request(owner, Lane.SWEEP, key, work, anew=True)


def search_job(owner: str, loaded: LoadedModel, request: SearchRequest) -> Job[None]:
    """Remove layers one at a time; the job's pieces are the steps."""

    def work(job: Job[None]) -> None:
        steps = remove_greedily(
            loaded.model, loaded.tokenizer, request.texts, start=request.start, beam=request.beam,
            least=request.least, measures=request.measures, stop=job.stop, on_progress=job.report,
        )  # fmt: skip
        for step in steps:
            job.put(step)

    return SWEEPS.request(owner, Lane.SEARCH, ("search", loaded.info.key, request), work, anew=True)


def importance_job(owner: str, loaded: LoadedModel, plan: LayerPlan, texts: tuple[Text, ...]) -> Job[Importance]:
    """Measure what each layer does to the residual stream, without any surgery."""

    def work(job: Job[Importance]) -> Importance:
        model = cached.view(loaded, plan)
        return importance(model, loaded.tokenizer, texts, stop=job.stop, on_progress=job.report)

    key = ("importance", loaded.info.key, cached.plan_key(plan), texts)
    return cached.WORK.request(owner, Lane.IMPORTANCE, key, work)


def skills_job(owner: str, lane: Lane, loaded: LoadedModel, plan: LayerPlan) -> Job[tuple[SkillResult, ...]]:
    """Ask a plan every prompt of the skills that come with the package."""

    def work(job: Job[tuple[SkillResult, ...]]) -> tuple[SkillResult, ...]:
        model, skills = cached.view(loaded, plan), load_skills()
        results, total = [], sum(len(skill.items) for skill in skills)
        for skill in skills:
            if job.stop.is_set():
                raise Stopped("The skills were not asked to the end.")
            results.append(score_skill(model, loaded.tokenizer, skill, stop=job.stop))
            job.report(sum(len(one.items) for one in skills[: len(results)]), total)
        return tuple(results)

    return cached.WORK.request(owner, lane, ("skills", loaded.info.key, cached.plan_key(plan)), work)


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
