"""The engine: whether jobs are done by threads of this process, or by workers on Ray, which alone have weights then.

With Ray, a pool's job is a thread that waits for what a worker tells. What it needs is done where it is done itself, and
stays there. A job whose worker is lost is done again by another one; what was told of it before is not told twice.
Nothing here imports Streamlit.
"""

from __future__ import annotations

import atexit
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from surgery_core.errors import SurgeryError
from surgery_core.models.cluster import BACK, MAX_LOSSES, Cluster
from surgery_core.models.opening import LoadedModel
from surgery_ui.work.asked import Asked, Heard, Named
from surgery_ui.work.diary import note_elsewhere
from surgery_ui.work.healed import HEALED, is_healed
from surgery_ui.work.job import Job, Key, Work
from surgery_ui.work.kept import Kept
from surgery_ui.work.kinds import Workers
from surgery_ui.work.limits import FILE_VARIABLE, PREFIX, RAY, THREADS, Limits, limits
from surgery_ui.work.task import Task

if TYPE_CHECKING:
    from surgery_core.lenses.fitted import Fitted

Answer = TypeVar("Answer")
LOOK = 0.2
"""Seconds after which it is looked whether a job is still wanted."""
WITHOUT_HEAD = 86_400
"""Seconds for which a process of the cluster goes on where Ray's head is gone; by itself Ray ends it after 60."""
CALLS = 64
"""Calls that a worker takes at a time; most of them wait for one of its threads."""
PASSED_ON = (PREFIX, "HF_", "TRANSFORMERS_")
"""Beginnings of variables that workers get from the server: where models lie, and how the hub is reached."""
SECRET = "TOKEN"
"""Part of the names of variables that stay where they are; machines that reach the hub by a token have their own."""
UNREACHABLE = "The workers that compute cannot be reached now; your plan is kept. Try again in a minute, and tell whoever runs this server."


class _Lost(Exception):
    """A worker is gone, with what it did."""


class Engine:
    """Does what pools hand on.

    Args:
        told: what is allowed here, and which engine computes.

    Attributes:
        models: returns the models that are open here.
        lens: returns what was kept under the id of a lens, or None.
    """

    def __init__(self, told: Limits) -> None:
        self.told = told
        self.models: Callable[[], list[LoadedModel]] = list
        self.lens: Callable[[str], Fitted | None] = lambda lens: None
        self._lock = threading.Lock()
        self._crew: Crew | None = None
        self._lenses: Kept[Any] = Kept(32)

    @property
    def elsewhere(self) -> bool:
        """Whether other processes compute, and this one has no weights."""
        return self.told.engine == RAY

    def sender(self, pool: Workers) -> Callable[[str, Key, Task[Any], Mapping[Key, Work[Any]]], Work[Any]] | None:
        """Return how a pool has work done elsewhere, or None where its own threads do it."""
        if not self.elsewhere:
            return None

        def handed_on(lane: str, key: Key, task: Task[Any], needs: Mapping[Key, Work[Any]]) -> Work[Any]:
            return lambda job: self._done(pool, lane, key, task, needs, job)

        return handed_on

    def open(self, named: Named) -> LoadedModel:
        """Have a worker open a model, and return it without its weights; the others open it in the meantime.

        Raises:
            ModelLoadError: as `load_model`.
            SurgeryError: when no worker can be reached.
        """
        for _ in range(MAX_LOSSES):
            crew = self._reached()
            with suppress(_Lost), crew.taken() as worker:
                for other in crew.cluster.actors:
                    if other is not worker:
                        other.open.remote(named)
                info, tokenizer, model = self._got(crew.cluster, worker.open.remote(named))
                return LoadedModel(model, tokenizer, info)
        raise SurgeryError(UNREACHABLE)

    def ask(self, do: Callable[..., Answer], *arguments: Any) -> Answer:
        """Return what a short function of a module comes to that needs a model's weights; a worker elsewhere is waited for.

        Raises:
            SurgeryError: what it raises, or that no worker can be reached.
        """
        if not self.elsewhere:
            return do(*arguments)
        sent = [_named(one) if isinstance(one, LoadedModel) else one for one in arguments]
        for _ in range(MAX_LOSSES):
            crew = self._reached()
            with suppress(_Lost), crew.taken() as worker:
                answer: Answer = self._got(crew.cluster, worker.call.remote(do, sent))
                return answer
        raise SurgeryError(UNREACHABLE)

    def close(self, name: str, key: Key) -> None:
        """Have all workers close a model."""
        with self._lock:
            for worker in self._crew.cluster.actors if self._crew is not None else ():
                worker.close.remote(name, key)

    def end(self) -> None:
        """Let go of the workers; the next job has new ones."""
        with self._lock:
            crew, self._crew = self._crew, None
        if crew is not None:
            self._lenses.clear()
            crew.cluster.__exit__()

    def processes(self) -> list[int]:
        """Return the process number of each worker."""
        return self._reached().cluster.processes()

    def _done(
        self, pool: Workers, lane: str, key: Key, task: Task[Any], needs: Mapping[Key, Work[Any]], job: Job[Any]
    ) -> Any:
        for _ in range(MAX_LOSSES):
            cluster = (crew := self._reached()).cluster
            with suppress(_Lost), crew.taken() as worker:
                result = self._followed(cluster, worker, self._asked(cluster, pool, lane, key, task, needs), job)
                if task.received is not None:
                    task.received(result)
                return result
        raise SurgeryError(
            f"This was begun {MAX_LOSSES} times, and each time the worker that did it was lost, as it is when its machine runs "
            "out of memory. Choose less of it (fewer or shorter texts, a smaller model), and try again."
        )

    def _followed(self, cluster: Cluster, worker: Any, asked: Asked, job: Job[Any]) -> Any:
        """Have a worker do a job; what it tells is told here, and its result is returned."""
        stream, told = worker.work.options(num_returns="streaming").remote(asked), False
        while not job.done:  # where it was given up, nobody waits for it any more
            ready, _ = cluster.ray.wait([stream], num_returns=1, timeout=LOOK)
            if job.stop.is_set() and not told:
                told = True
                worker.stop.remote(asked.number)
            if not ready:
                continue
            try:
                heard: Heard = self._got(cluster, next(stream))
            except StopIteration:
                raise _Lost from None
            hear(job, heard)
            if heard.ended is None:
                continue
            if heard.ended.fault is not None:
                note_elsewhere(heard.ended.fault)
            if heard.ended.error is not None:
                raise heard.ended.error
            return heard.ended.result
        return None

    def _got(self, cluster: Cluster, reference: Any) -> Any:
        """Return what a worker returned, or raise what it raised, or `_Lost`."""
        errors = cluster.ray.exceptions
        try:
            return cluster.get(reference)
        except errors.RayTaskError:
            raise
        except errors.RayActorError:
            raise _Lost from None
        except (errors.RayError, ConnectionError) as error:
            self.end()
            raise SurgeryError(UNREACHABLE) from error

    def _asked(
        self, cluster: Cluster, pool: Workers, lane: str, key: Key, task: Task[Any], needs: Mapping[Key, Work[Any]]
    ) -> Asked:
        """Return a job as it is sent."""
        tasks = {name: one for name, one in needs.items() if isinstance(one, Task)}
        opened = self.models()
        values = [value for one in (task, *tasks.values()) for value in one.arguments]
        mine = {one.info.name for one in values if isinstance(one, LoadedModel)}
        wanted = {name for value in values for name in donors_in(value)} - mine
        return Asked(
            number=uuid.uuid4().hex,
            pool=pool,
            lane=lane,
            key=key,
            task=_sent(task),
            needs={name: _sent(one) for name, one in tasks.items()},
            donors=tuple(_named(one) for one in opened if one.info.name in wanted),
            lenses={
                lens: self._lenses.get(lens, partial(cluster.ray.put, found))
                for value in values
                for lens in lenses_in(value)
                if (found := self.lens(lens)) is not None
            },
        )

    def _reached(self) -> Crew:
        with self._lock:
            if self._crew is None:
                self._crew = Crew(self._begun())
            return self._crew

    def _begun(self) -> Cluster:
        from surgery_ui.work.worker import PageWorker

        # before Ray is loaded: workers that are there go on without the head, and so does the server
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(WITHOUT_HEAD))
        told = self.told
        of_one = replace(
            told, engine=THREADS, workers=1, log="", cache_mb=max(10, told.cache_mb // told.at_once),
            model_mb=told.model_mb,
        )  # fmt: skip
        environment = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(PASSED_ON) and name != FILE_VARIABLE and SECRET not in name
        }
        cluster = Cluster(
            PageWorker, workers=told.at_once, address=told.ray_address or None, gpus=told.ray_gpus,
            threads=told.ray_threads, at_once=CALLS, given=(of_one, environment, str(HEALED.root())),
        )  # fmt: skip
        errors = cluster.ray.exceptions
        try:
            cluster.__enter__()
        except (errors.RayError, ConnectionError, RuntimeError) as error:
            cluster.ray.shutdown()
            raise SurgeryError(UNREACHABLE) from error
        return cluster


class Crew:
    """The workers of a cluster: how much each has to do, and which are being started again.

    Args:
        cluster: that has been entered.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._lock = threading.Lock()
        self._busy = dict.fromkeys(cluster.actors, 0)
        self._gone: dict[Any, Any] = {}

    @contextmanager
    def taken(self) -> Iterator[Any]:
        """Give the worker with the least to do, for as long as a `with` block lasts; `_Lost` in it says that it is gone."""
        worker = self._least()
        try:
            yield worker
        except _Lost:
            with self._lock:
                # one that is being started again refuses work at once; this is answered when it is there
                self._gone[worker] = worker.process.options(max_task_retries=-1).remote()
            raise
        finally:
            with self._lock:
                self._busy[worker] -= 1

    def _least(self) -> Any:
        with self._lock:
            gone = list(self._gone.values())
        if len(gone) == len(self.cluster.actors):
            self.cluster.ray.wait(gone, num_returns=1, timeout=BACK)
        with self._lock:
            for worker, answer in list(self._gone.items()):
                if self.cluster.ray.wait([answer], timeout=0)[0]:
                    del self._gone[worker]
            there = [worker for worker in self._busy if worker not in self._gone]
            if not there:
                raise SurgeryError(UNREACHABLE)
            worker = min(there, key=self._busy.__getitem__)
            self._busy[worker] += 1
            return worker


def hear(job: Job[Any], heard: Heard) -> None:
    """Tell of a job what a worker told; what was told before, by a worker that was lost, is left out."""
    if new := heard.text[max(0, len(job.text) - heard.before) :]:
        job.write(new)
    for number, piece in enumerate(heard.pieces, heard.first):
        if number >= len(job.pieces):
            job.put(piece)
        elif number == len(job.pieces) - 1:
            job.put(piece, instead=True)
    if heard.progress[1] and heard.progress != job.reported:
        job.report(*heard.progress)


def donors_in(value: Any) -> Iterator[str]:
    """Yield the names of the models that a task's argument takes layers from."""
    for plan in (value, getattr(value, "start", None)):
        yield from getattr(plan, "donors", ())


def lenses_in(value: Any) -> Iterator[str]:
    """Yield what may be ids of lenses in a task's argument."""
    if isinstance(value, str):
        yield value
    for name in ("lens", "unchanged"):
        if isinstance(found := getattr(value, name, None), str):
            yield found


def _sent(task: Task[Any]) -> Task[Any]:
    return Task(task.do, *(_named(one) if isinstance(one, LoadedModel) else one for one in task.arguments))


def _named(loaded: LoadedModel) -> Named:
    name, key = loaded.info.name, loaded.info.key
    return Named(name, key, HEALED.known(name) if is_healed(name) else None)


ENGINE = Engine(limits())
atexit.register(ENGINE.end)
