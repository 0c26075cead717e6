"""The same sweeps on a Ray cluster: weights once a worker, rows streamed back, a lost worker's rows run again.

Ray (Moritz et al., "Ray: A Distributed Framework for Emerging AI Applications", arXiv 1712.05889) places the
workers, restarts them and carries the rows; here it is only decided which points a worker runs next. Install it with
`pip install -r requirements-scale.txt`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from surgery_core.errors import SurgeryError
from surgery_core.models.cluster import BACK, MAX_LOSSES, Cluster, ClusterWorker
from surgery_core.models.opening import LoadedModel
from surgery_core.sweeps.description import Description, OpenSweep, SweepJob
from surgery_core.sweeps.rows import SweepRow

CHUNKS_PER_WORKER = 2
"""Parts that each worker gets of one sweep, one after the other. Each part runs the base once."""


@dataclass
class _Part:
    """Points of one job that one worker runs."""

    job: int
    numbers: list[int]
    losses: int = 0


class Worker(ClusterWorker):
    """What runs on a worker: it keeps the model and the sweeps that it has opened."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.models: dict[tuple[str, str | None, str, str], LoadedModel] = {}
        self.opened: dict[SweepJob, OpenSweep] = {}

    def describe(self, job: SweepJob) -> Description:
        """Return what the driver has to know of a job."""
        return self._open(job).description

    def rows(self, job: SweepJob, numbers: list[int]) -> Iterator[SweepRow]:
        """Yield the rows of some of a job's points."""
        yield from self._open(job).rows(numbers)

    def _open(self, job: SweepJob) -> OpenSweep:
        if job not in self.opened:
            key = job.model, job.revision, job.device, job.dtype
            if key not in self.models:
                self.models[key] = job.load()
            self.opened[job] = OpenSweep(job, self.models[key])
        return self.opened[job]


class RaySweeps(Cluster):
    """Several sweeps, of one model or of many, on the workers of a Ray cluster.

    Args:
        jobs: what to sweep.
        workers: how many workers; each has the weights of every model that it is given work for.
        address: of a running cluster; by default one is started on this machine and ended with this object.
        gpus: GPUs that each worker takes, 0 for none.
        threads: CPU threads of each worker.

    Use it in a `with` block.

    Raises:
        SettingsError: when Ray is not installed, or a number is out of range.
    """

    def __init__(
        self,
        jobs: Sequence[SweepJob],
        *,
        workers: int = 2,
        address: str | None = None,
        gpus: float = 0,
        threads: int = 1,
    ) -> None:
        super().__init__(Worker, workers=workers, address=address, gpus=gpus, threads=threads)
        self.jobs = tuple(jobs)

    def __enter__(self) -> RaySweeps:
        super().__enter__()
        return self

    def describe(self) -> list[Description]:
        """Return what each job's file has to know; the first worker finds it out."""
        describe = self.actors[0].describe.options(max_task_retries=MAX_LOSSES)
        return [self.get(describe.remote(job)) for job in self.jobs]

    def rows(self, missing: Sequence[Sequence[int]]) -> Iterator[tuple[int, SweepRow]]:
        """Yield (number of the job, row) as rows come, in any order.

        Args:
            missing: for each job the numbers of the points that are wanted.

        Raises:
            SurgeryError: what a job raised, or that workers were lost again and again.
        """
        parts = deque(self._parts(missing))
        running: dict[Any, tuple[Any, _Part | None]] = {}
        idle = list(self.actors)
        while parts or any(part is not None for _, part in running.values()):
            while parts and idle:
                actor, part = idle.pop(), parts.popleft()
                stream = actor.rows.options(num_returns="streaming").remote(self.jobs[part.job], part.numbers)
                running[stream] = actor, part
            at_it = any(part is not None for _, part in running.values())
            ready, _ = self.ray.wait(list(running), num_returns=1, timeout=None if at_it else BACK)
            if not ready:
                raise SurgeryError(
                    f"All workers were lost, and none was back within {BACK} s; the rows before are kept. Use fewer workers "
                    "or a machine with more memory."
                )
            stream = ready[0]
            actor, at_work = running[stream]
            if at_work is None:
                # a worker that was lost is there again
                del running[stream]
                idle.append(actor)
                continue
            row = self._next(stream, at_work)
            if isinstance(row, SweepRow):
                if row.number in at_work.numbers:
                    at_work.numbers.remove(row.number)
                    at_work.losses = 0
                yield at_work.job, row
                continue
            del running[stream]
            if at_work.numbers:
                parts.append(at_work)
            if at_work.losses:
                # one that is being started again refuses work at once, which is no loss of its own
                running[actor.process.options(max_task_retries=-1).remote()] = actor, None
            else:
                idle.append(actor)

    def _next(self, stream: Any, part: _Part) -> SweepRow | None:
        """Return the next row of a part, or None at its end or when its worker is lost."""
        try:
            return self.get(next(stream))  # type: ignore[no-any-return]
        except StopIteration:
            return None
        except self.ray.exceptions.RayActorError as error:
            part.losses += 1
            if part.losses > MAX_LOSSES:
                raise SurgeryError(
                    f"A worker was lost {part.losses} times before a row came back; "
                    "the rows before are kept. Use fewer workers or a machine with more memory."
                ) from error
            return None

    def _parts(self, missing: Sequence[Sequence[int]]) -> Iterator[_Part]:
        for job, numbers in enumerate(missing):
            size = max(1, -(-len(numbers) // (self.workers * CHUNKS_PER_WORKER)))
            for at in range(0, len(numbers), size):
                yield _Part(job, list(numbers[at : at + size]))
