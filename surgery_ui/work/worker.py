"""What runs in a worker process: the pools of this package, which do what the server asks for and tell what comes of it.

A worker has whole models and keeps what it computed of them, as a server does whose engine is its own threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from surgery_core.errors import ModelLoadError, Stopped, SurgeryError
from surgery_core.models.cluster import ClusterWorker
from surgery_core.models.opening import LoadedModel
from surgery_ui.work.asked import Asked, Ended, Heard, Named
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Workers
from surgery_ui.work.limits import Limits, tell
from surgery_ui.work.task import Task

JOBS = "surgery_ui.work.{}_jobs"
"""Modules with jobs, by name: they know the engine that begins workers."""
BEAT = 0.25
"""Seconds after which a job that says nothing is looked at again."""


class PageWorker(ClusterWorker):
    """One worker.

    Args:
        threads: processor cores that it takes.
        told: what is allowed on the server.
        environment: variables of the server's that say where models lie.
        healed: the folder with healed models, on a disk that all machines see.
    """

    def __init__(self, threads: int, told: Limits, environment: Mapping[str, str], healed: str) -> None:
        os.environ.update(environment)
        tell(told)
        super().__init__(threads)
        # what follows reads what is allowed as it is loaded
        from surgery_ui.work.healed import HEALED

        self.healed = HEALED
        HEALED.lie_in(Path(healed))
        self.plans, self.lenses, self.sweeps = (import_module(JOBS.format(name)) for name in ("plan", "lens", "sweep"))
        self.pools = {
            Workers.WORK: self.plans.WORK, Workers.SWEEPS: self.sweeps.SWEEPS, Workers.TRAINING: self.lenses.TRAINING,
        }  # fmt: skip
        self.jobs: dict[str, Job[Any]] = {}
        self.stopped: set[str] = set()

    def open(self, named: Named) -> tuple[Any, Any, Any]:
        """Open a model and return its facts, its tokenizer and itself without its weights."""
        from surgery_core.models.skeleton import without_weights

        loaded = self._opened(named)
        return loaded.info, loaded.tokenizer, without_weights(loaded.model)

    def call(self, do: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """Return what a short function comes to."""
        return do(*(self._opened(one) if isinstance(one, Named) else one for one in arguments))

    def close(self, name: str, key: tuple[str, ...]) -> None:
        """Close a model, which gives its memory back."""
        self.plans.let_go(name, key)

    def stop(self, number: str) -> None:
        """End a job; one whose best so far counts ends with that."""
        self.stopped.add(number)
        if (job := self.jobs.get(number)) is not None:
            job.stop.set()

    def work(self, asked: Asked) -> Iterator[Heard]:
        """Do a job and yield what is new of it, how it ended last."""
        try:
            job = self.jobs[asked.number] = self._requested(asked)
            if asked.number in self.stopped:
                job.stop.set()
            yield from _told(job)
        except SurgeryError as error:
            yield Heard(ended=_ended(error))
        finally:
            self.jobs.pop(asked.number, None)
            self.stopped.discard(asked.number)

    def _requested(self, asked: Asked) -> Job[Any]:
        self._fetch(asked.lenses)
        for donor in asked.donors:
            self._opened(donor)
        task, needs = self._here(asked.task), {key: self._here(one) for key, one in asked.needs.items()}
        if asked.number in self.stopped:
            raise Stopped("No longer wanted.")
        # a person's lanes are the server's business: here each job is somebody's only one
        job: Job[Any] = self.pools[asked.pool].request(asked.number, asked.lane, asked.key, task, needs, anew=True)
        return job

    def _here(self, task: Task[Any]) -> Task[Any]:
        """Return a task with the models of this process."""
        return Task(task.do, *(self._opened(one) if isinstance(one, Named) else one for one in task.arguments))

    def _opened(self, named: Named) -> LoadedModel:
        owner = place = f"{threading.get_ident()} {named.name}"
        if named.healed is not None:
            self.healed.adopt(named.healed)
            owner = named.healed.owner
        job = self.plans.model_job(owner, named.name, place)
        while not job.wait(1.0):
            job.look()
        loaded: LoadedModel = job.result
        if named.key and loaded.info.key != named.key:
            raise ModelLoadError(
                f"{named.name!r} is another model on a worker's machine than on the server's ({loaded.info.key[1:]} and "
                f"{named.key[1:]}); give both the same files, and open it again."
            )
        return loaded

    def _fetch(self, lenses: Mapping[str, Any]) -> None:
        import ray

        for name, reference in lenses.items():
            self.lenses.put_lens(name, partial(ray.get, reference))


def _told(job: Job[Any]) -> Iterator[Heard]:
    """Yield what is new of a job until it has ended."""
    new = threading.Event()
    job.tell(new)
    characters, count, last, progress = 0, 0, None, (0, 0)
    while True:
        new.clear()
        done = job.done  # what is said after this is told in the next round
        text, pieces = job.text, list(job.pieces)
        again = count > 0 and len(pieces) >= count and pieces[count - 1] is not last
        first = count - 1 if again else count
        heard = Heard(characters, text[characters:], first, tuple(pieces[first:]), job.progress)
        if done:
            ended = _ended(job.error) if job.error is not None else Ended(job.result)
            yield Heard(heard.before, heard.text, heard.first, heard.pieces, heard.progress, ended)
            return
        if heard.text or heard.pieces or heard.progress != progress:
            characters, count, progress = len(text), len(pieces), heard.progress
            last = pieces[-1] if pieces else None
            yield heard
        job.look()
        new.wait(BEAT)


def _ended(error: SurgeryError) -> Ended:
    from surgery_ui.work.diary import fault_of

    return Ended(error=error, fault=fault_of(str(error)))
