"""Work off the script thread: one fair pool for all sessions, with results kept, shared and bounded.

A page requests a job under a lane ("after", "scores", ...). The same key is computed once for everyone who wants
it, while it runs and afterwards; a request with another key in the same lane lets go of the old job, and a job that
nobody wants any more is stopped. Nothing here imports Streamlit.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar, cast

from surgery_core.errors import Stopped, SurgeryError

Result = TypeVar("Result")
Key = tuple[Hashable, ...]
Work = Callable[["Job[Result]"], Result]

ABANDONED_AFTER = 30.0
"""Seconds after which a job that no page looks at stops itself."""

_log = logging.getLogger(__name__)


class Unexpected(SurgeryError):
    """Something failed that should not have; the details are in the server's log."""


class Job(Generic[Result]):
    """One piece of work: what it wrote so far, how far it is, and its result or error once it is done."""

    def __init__(self, key: Key, work: Work[Result], patience: float | None = None) -> None:
        self.key = key
        self._patience = patience
        self.stop = threading.Event()
        self.text = ""
        self.pieces: list[Any] = []
        self.progress = (0, 0)
        self.started: float | None = None
        self._work = work
        self._seen = time.monotonic()
        self._result: Result | None = None
        self._error: SurgeryError | None = None
        self._finished = threading.Event()

    @property
    def done(self) -> bool:
        """Whether there is a result or an error."""
        return self._finished.is_set()

    @property
    def error(self) -> SurgeryError | None:
        """Return what went wrong, once it is done."""
        return self._error

    @property
    def result(self) -> Result:
        """Return the result; raises the job's error where there is one. Only for a job that is done."""
        if self._error is not None:
            raise self._error
        return cast("Result", self._result)

    @property
    def reusable(self) -> bool:
        """Whether a later request may have this job's outcome instead of new work."""
        return not self.stop.is_set() and not isinstance(self._error, (Stopped, Unexpected))

    def look(self) -> None:
        """Say that a page still shows this job."""
        self._seen = time.monotonic()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job is done; return whether it is."""
        return self._finished.wait(timeout)

    def write(self, piece: str) -> None:
        """Append to the text that pages show while the job runs."""
        self.text += piece
        self._stop_if_abandoned()

    def put(self, piece: Any) -> None:
        """Append to the results that pages show while the job runs."""
        self.pieces.append(piece)
        self._stop_if_abandoned()

    def report(self, done: int, total: int) -> None:
        """Set how far the job is."""
        self.progress = (done, total)
        self._stop_if_abandoned()

    def run(self) -> None:
        """Do the work, unless nobody looks any more, and keep its outcome. Never raises."""
        self._stop_if_abandoned()
        if self.stop.is_set():
            return self.drop()
        self.started = time.monotonic()
        try:
            self._result = self._work(self)
        except SurgeryError as error:
            # A traceback keeps every frame alive, and with them whatever memory the work held.
            error.__cause__ = error.__context__ = None
            self._error = error.with_traceback(None)
        except Exception:  # noqa: BLE001 - a worker thread must outlive whatever a job does
            _log.exception("A job failed: %s", self.key[0])
            self._error = Unexpected("Something went wrong on the server; its log has the details. Try again.")
        finally:
            del self._work
            self._finished.set()

    def drop(self) -> None:
        """Finish without running: nobody wants the job any more."""
        self.stop.set()
        self._error = Stopped("No longer wanted.")
        self._finished.set()

    def _stop_if_abandoned(self) -> None:
        patience = ABANDONED_AFTER if self._patience is None else self._patience
        if time.monotonic() - self._seen > patience:
            self.stop.set()


class Pool:
    """A few worker threads, a queue that is fair between owners, and the bounded store of finished jobs.

    Args:
        workers: threads at most.
        bounds: how many finished jobs of a kind are kept.
        name: of the threads.
        patience: seconds after which a job that no page looks at stops itself; by default `ABANDONED_AFTER`.
    """

    def __init__(
        self, workers: int, bounds: Mapping[str, int], name: str = "jobs", patience: float | None = None
    ) -> None:
        self._workers = workers
        self._patience = patience
        self._bounds = dict(bounds)
        self._name = name
        self._lock = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._waiting: list[Job[Any]] = []
        self._running: list[Job[Any]] = []
        self._jobs: OrderedDict[Key, Job[Any]] = OrderedDict()
        self._lanes: dict[tuple[str, str], Job[Any]] = {}

    def request(self, owner: str, lane: str, key: Key, work: Work[Result]) -> Job[Result]:
        """Return the job for `key`, new, running or finished, and make it the owner's job in this lane."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None or not job.reusable:
                job = self._jobs[key] = Job(key, work, self._patience)
                self._waiting.append(job)
                self._start_workers()
            self._jobs.move_to_end(key)
            previous = self._lanes.pop((owner, lane), None)
            if not job.done:
                self._lanes[owner, lane] = job
            self._let_go(previous)
            job.look()
            self._lock.notify()
        return job

    def outcome(self, key: Key) -> Job[Any] | None:
        """Return the job for `key` where it has a result or an error that counts; nothing is started."""
        with self._lock:
            job = self._jobs.get(key)
        return job if job is not None and job.done and job.reusable else None

    def finished(self, kind: str) -> list[Job[Any]]:
        """Return the jobs of a kind that have a result, the least recently wanted first."""
        with self._lock:
            return [job for key, job in self._jobs.items() if key[0] == kind and job.done and job.error is None]

    def leave(self, owner: str, lanes: Iterable[str] | None = None) -> None:
        """Let go of the owner's jobs, in these lanes or in all of them."""
        with self._lock:
            mine = [place for place in self._lanes if place[0] == owner and (lanes is None or place[1] in lanes)]
            for place in mine:
                self._let_go(self._lanes.pop(place))

    def load(self) -> tuple[int, int]:
        """Return how many jobs run and how many wait."""
        with self._lock:
            return len(self._running), len(self._waiting)

    def _let_go(self, job: Job[Any] | None) -> None:
        if job is None or job.done or job in self._lanes.values():
            return
        if job in self._waiting:
            self._waiting.remove(job)
            job.drop()
        job.stop.set()

    def _owners(self, job: Job[Any]) -> set[str]:
        return {owner for (owner, _), wanted in self._lanes.items() if wanted is job}

    def _next(self) -> Job[Any]:
        """Take the waiting job whose owner has the fewest running, the oldest of those."""
        busy = [owner for job in self._running for owner in self._owners(job)]
        chosen = min(self._waiting, key=lambda job: min((busy.count(who) for who in self._owners(job)), default=0))
        self._waiting.remove(chosen)
        return chosen

    def _start_workers(self) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) < min(self._workers, len(self._waiting) + len(self._running)):
            name = f"{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        while True:
            with self._lock:
                while not self._waiting:
                    self._lock.wait()
                job = self._next()
                self._running.append(job)
            job.run()
            with self._lock:
                self._running.remove(job)
                self._lanes = {place: wanted for place, wanted in self._lanes.items() if wanted is not job}
                self._trim()
            # While this thread waits for the next job, it must not keep the last one alive.
            del job

    def _trim(self) -> None:
        """Forget the oldest finished jobs of every kind beyond its bound, and those of no use to anyone."""
        kept: dict[str, int] = {}
        for key, job in reversed(list(self._jobs.items())):
            if not job.done:
                continue
            kind = str(key[0])
            kept[kind] = kept.get(kind, 0) + 1
            if not job.reusable or kept[kind] > self._bounds.get(kind, 16):
                del self._jobs[key]
