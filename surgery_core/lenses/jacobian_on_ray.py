"""Texts of a Jacobian fit read on the workers of a Ray cluster; the mean is taken here, in the order of the texts.

So the fit is the one that runs here, with its stopping rule and its state, whoever read which text; a text whose worker
is lost is read again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from surgery_core.errors import SurgeryError
from surgery_core.lenses.jacobian_rows import TextJacobians
from surgery_core.models.cluster import MAX_LOSSES, Cluster, ClusterWorker
from surgery_core.models.opening import load_model
from surgery_core.surgery.view import operate

AHEAD = 2
"""Texts that each worker has been given and that are not taken into the mean yet."""


@dataclass(frozen=True)
class FitJob:
    """What workers need to read texts.

    Attributes:
        model, revision, device, dtype: as for `load_model`.
        plan: of the operated model, in notation; it has layers of the model alone.
    """

    model: str
    plan: str
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"


class FitWorker(ClusterWorker):
    """What runs on a worker: it keeps the model and reads one text after the other."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.readers: dict[Any, TextJacobians] = {}

    def read(self, job: FitJob, layers: tuple[int, ...], target: int, skip: int, ids: list[int]) -> Any:
        """Return a text's Jacobians `[layers, d_model, d_model]` as an array in float32."""
        key = job, layers, target, skip
        if key not in self.readers:
            loaded = load_model(job.model, revision=job.revision, device=job.device, dtype=job.dtype)
            self.readers = {key: TextJacobians(operate(loaded.model, job.plan), layers, target, skip)}
        return self.readers[key].read(ids).numpy()


class RayTexts:
    """Reads texts for `fit_jacobians(read=)` on a cluster of `FitWorker`s.

    Args:
        cluster: that has been entered.
        job: what its workers open.
    """

    def __init__(self, cluster: Cluster, job: FitJob) -> None:
        self.cluster, self.job = cluster, job

    def __call__(
        self, pieces: Sequence[list[int]], layers: tuple[int, ...], target: int, skip: int
    ) -> Iterator[torch.Tensor]:  # fmt: skip
        """Yield the Jacobians of texts in their order.

        Raises:
            SurgeryError: what a worker raised, or that workers were lost again and again.
        """
        asked = (layers, target, skip)
        waiting: deque[tuple[Any, list[int], Any]] = deque()
        for number, ids in enumerate(pieces):
            actor = self.cluster.actors[number % self.cluster.workers]
            waiting.append((actor, ids, self._ask(actor, asked, ids)))
            if len(waiting) == AHEAD * self.cluster.workers:
                yield self._take(asked, *waiting.popleft())
        while waiting:
            yield self._take(asked, *waiting.popleft())

    def _ask(self, actor: Any, asked: tuple[tuple[int, ...], int, int], ids: list[int]) -> Any:
        return actor.read.remote(self.job, *asked, ids)

    def _take(
        self, asked: tuple[tuple[int, ...], int, int], actor: Any, ids: list[int], reference: Any
    ) -> torch.Tensor:  # fmt: skip
        """Return what a worker read; where it was lost, it is waited for and given the text once more."""
        for _ in range(MAX_LOSSES):
            try:
                return torch.from_numpy(self.cluster.get(reference).copy())
            except self.cluster.ray.exceptions.RayActorError:
                # one that is being started again refuses work at once, which is no loss of its own
                self.cluster.await_back(actor)
                reference = self._ask(actor, asked, ids)
        raise SurgeryError(
            f"A worker was lost {MAX_LOSSES} times at one text; what was read before is kept where the fit has a state. Use "
            "fewer workers or a machine with more memory."
        )
