"""Workers on a Ray cluster, for whatever runs on several machines.

Ray (Moritz et al., "Ray: A Distributed Framework for Emerging AI Applications", arXiv 1712.05889) places the workers and
restarts them. Install it with `pip install -r requirements-scale.txt`.
"""

from __future__ import annotations

import os
from typing import Any

from surgery_core.errors import SettingsError, SurgeryError

MAX_LOSSES = 3
"""How often a part may be lost before the work gives up."""
BACK = 300
"""Seconds within which a worker that was lost must be back."""
MAX_WORKERS = 256


class Cluster:
    """Workers of one class on a Ray cluster.

    Args:
        worker: the class; it is given the number of its CPU threads.
        workers: how many.
        address: of a running cluster; by default one is started on this machine and ended with this object.
        gpus: GPUs that each worker takes, 0 for none.
        threads: CPU threads of each worker.
        at_once: calls that a worker takes at a time.
        given: what the class is given besides.

    Use it in a `with` block.

    Raises:
        SettingsError: when Ray is not installed, or a number is out of range.
    """

    def __init__(
        self, worker: type, *, workers: int = 2, address: str | None = None, gpus: float = 0, threads: int = 1,
        at_once: int = 1, given: tuple[Any, ...] = (),
    ) -> None:  # fmt: skip
        if not 1 <= workers <= MAX_WORKERS:
            raise SettingsError(f"{workers} workers cannot be started; give 1 to {MAX_WORKERS}.")
        self.worker, self.workers, self.address, self.threads = worker, workers, address, threads
        self.given = given
        self.resources = {
            "num_cpus": threads, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": 0, "max_concurrency": at_once,
        }  # fmt: skip
        self.ray = _ray()
        self.actors: list[Any] = []

    def __enter__(self) -> Cluster:
        if self.address is None:
            self.ray.init(num_cpus=self.workers * self.threads, include_dashboard=False, log_to_driver=False)
        else:
            self.ray.init(address=self.address, log_to_driver=False)
        actor = self.ray.remote(self.worker).options(**self.resources)
        self.actors = [actor.remote(self.threads, *self.given) for _ in range(self.workers)]
        return self

    def __exit__(self, *problem: object) -> None:
        self.ray.shutdown()

    def processes(self) -> list[int]:
        """Return the process number of each worker; one that was lost is waited for until it is there again."""
        return [int(self.get(actor.process.options(max_task_retries=-1).remote())) for actor in self.actors]

    def await_back(self, actor: Any) -> None:
        """Wait until a worker that was lost is there again.

        Raises:
            SurgeryError: when it is not within `BACK` seconds.
        """
        try:
            self.ray.get(actor.process.options(max_task_retries=-1).remote(), timeout=BACK)
        except self.ray.exceptions.GetTimeoutError as error:
            raise SurgeryError(
                f"A worker was lost and not back within {BACK} s; what came before is kept. Use fewer workers or a machine "
                "with more memory."
            ) from error

    def get(self, reference: Any) -> Any:
        """Return what a worker returned, or raise what it raised."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, SurgeryError) else error from None


class ClusterWorker:
    """What workers share; each begins with its threads set."""

    def __init__(self, threads: int) -> None:
        from surgery_core.models.devices import use_threads

        use_threads(threads)

    def process(self) -> int:
        """Return the number of the worker's process."""
        return os.getpid()


def _ray() -> Any:
    # nothing is sent anywhere, and workers see the devices of their machine even when they ask for none
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise SettingsError(
            "The engine ray needs Ray, which is not installed; run pip install -r requirements-scale.txt."
        ) from error
    return ray
