"""What the server and its workers on other processes say to each other: values that can be pickled.

Nothing here imports Streamlit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from surgery_core.errors import SurgeryError
from surgery_ui.work.diary import Fault
from surgery_ui.work.healed import HealedModel
from surgery_ui.work.job import Key
from surgery_ui.work.kinds import Workers
from surgery_ui.work.task import Task


@dataclass(frozen=True)
class Named:
    """A model that each process opens for itself.

    Attributes:
        name: by which it is opened.
        key: that its caches have where it is open already: name, revision, number format and device; empty where it is not.
        healed: of a healed model, where it lies and whose it is.
    """

    name: str
    key: tuple[str, ...] = ()
    healed: HealedModel | None = None


@dataclass(frozen=True)
class Asked:
    """A job for a worker elsewhere.

    Attributes:
        number: of this job and no other.
        pool: the pool that does such jobs.
        lane: one in which its kind may be asked for.
        key: what is computed.
        task: what is done; models stand in it as `Named`.
        needs: what has to be done before, by key.
        donors: models that its plans take layers from.
        lenses: what reads layers, by id, as references to values on the cluster.
    """

    number: str
    pool: Workers
    lane: str
    key: Key
    task: Task[Any]
    needs: Mapping[Key, Task[Any]]
    donors: tuple[Named, ...] = ()
    lenses: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a job ended: its result, or its error, and of an unexpected one what is known of it."""

    result: Any = None
    error: SurgeryError | None = None
    fault: Fault | None = None


@dataclass(frozen=True)
class Heard:
    """What is new of a job.

    Attributes:
        before: characters of its text that were told before.
        text: those that follow.
        first: number of the first of `pieces`; one that was told before is there instead of that.
        pieces: results that are shown while it runs.
        progress: steps done and steps in all, (0, 0) where that is not known.
        ended: how it ended, once it has.
    """

    before: int = 0
    text: str = ""
    first: int = 0
    pieces: tuple[Any, ...] = ()
    progress: tuple[int, int] = (0, 0)
    ended: Ended | None = None
