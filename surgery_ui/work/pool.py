"""Work off the script thread: one fair pool for all sessions, with results kept, shared and bounded.

A page requests a job under a lane ("after", "scores", ...). The same key is computed once for everyone who wants
it, while it runs and afterwards; a request with another key in the same lane lets go of the old job, and a job that
nobody wants any more is stopped. A job may need others: those run first, on the same workers, and are wanted for as
long as it is. Nothing here imports Streamlit.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from surgery_ui.work.diary import note_end
from surgery_ui.work.job import Cancelled, Job, Key, Result, Unexpected, Work
from surgery_ui.work.kinds import Kind
from surgery_ui.work.order import Order, Queued, bound
from surgery_ui.work.task import Task

Elsewhere = Callable[[str, Key, Task[Any], Mapping[Key, Work[Any]]], Work[Any]]

MAX_RESTING = 64
"""Texts that give way to others at a time, each of which has a thread."""
MAX_LOST = 8
"""Workers at most that are given up because their work does not end; each is a thread that stays."""
WATCH = 1.0
"""Seconds between two looks whether work hangs."""
STALE = 0.5
"""Seconds for which the order of what waits is told without looking again: every page that waits asks many times a second."""


def _cancelled(key: Key, which: Sequence[Key]) -> Job[Any]:
    """Return a job that was cancelled, or that needs others which were."""
    dropped = [Job[Any](one, lambda job: None) for one in (*which, key)]
    for job in dropped:
        job.drop(Cancelled("Cancelled."))
    whole = dropped.pop()
    whole.needs = tuple(dropped)
    return whole


class Pool:
    """A few worker threads, a queue that is fair between owners, and the bounded store of finished jobs.

    Args:
        workers: threads at most.
        kinds: of the jobs that it does, by the first part of their keys; `kinds.TABLE` has all of them.
        name: of the threads.
        most_bytes: memory that the results of finished jobs may keep; None for no bound.
        elsewhere: returns work that has a task, and all that it needs, done by another process; None to do it here.
    """

    def __init__(
        self, workers: int, kinds: Mapping[str, Kind], name: str = "jobs", most_bytes: int | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:  # fmt: skip
        self._elsewhere = elsewhere
        self._workers = workers
        self._most_bytes = most_bytes
        self._kinds = kinds
        self._name = name
        self._lock = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._waiting: list[Job[Any]] = []
        self._running: list[Job[Any]] = []
        self._resting: dict[Job[Any], threading.Event] = {}
        self._lost: set[Job[Any]] = set()
        self._watching = False
        self._jobs: OrderedDict[Key, Job[Any]] = OrderedDict()
        self._lanes: dict[tuple[str, str], Job[Any]] = {}
        self._cancelled: OrderedDict[tuple[str, Key], None] = OrderedDict()
        self._failed: OrderedDict[tuple[str, Key], Job[Any]] = OrderedDict()
        self._order = Order(kinds)
        self._queue: dict[Job[Any], Queued] = {}
        self._queued_at = -STALE

    def request(
        self,
        owner: str,
        lane: str,
        key: Key,
        work: Work[Result],
        needs: Mapping[Key, Work[Any]] | None = None,
        *,
        anew: bool = False,
    ) -> Job[Result]:
        """Return the job for `key`, new, running or finished, and make it the owner's job in this lane.

        What failed unexpectedly stays failed for the owners who waited for it until `again`, as pages ask on every run.

        Args:
            owner: who asks.
            lane: which of the owner's places the job takes; what was there is let go.
            key: what is computed; its first part is the kind.
            work: makes the result.
            needs: other work of this pool that has to be done before, by key; `Job.needs` are those jobs, in order.
            anew: whether it is done again where it failed: for what is asked by the press of a button.

        Raises:
            LookupError: when the kind of the job, or of one that it needs, or its lane is not in the pool's table.
        """
        self._check(lane, (key, *(needs or ())))
        if self._elsewhere is not None and isinstance(work, Task):
            # what it needs stays where it is made
            work, needs = self._elsewhere(lane, key, work, needs or {}), {}
        with self._lock:
            if not anew and (failed := self._known_failure(owner, key)) is not None:
                self._let_go(self._lanes.pop((owner, lane), None))
                return failed
            if cancelled := [one for one in (key, *(needs or ())) if (owner, one) in self._cancelled]:
                self._let_go(self._lanes.pop((owner, lane), None))
                return _cancelled(key, cancelled)
            job = self._find(key, work, needs or {})
            previous = self._lanes.pop((owner, lane), None)
            if not job.done:
                self._lanes[owner, lane] = job
            self._let_go(previous)
            job.look()
            self._lock.notify_all()
        return job

    def cancel(self, owner: str, job: Job[Any]) -> None:
        """Let go of a job in all lanes of its owner, and do it no more for them until `again`.

        What it needs and has not got is cancelled with it: other work that needs the same is not done either.
        """
        with self._lock:
            for one in (job, *(need for need in job.needs if not need.done)):
                self._cancelled[owner, one.key] = None
            bound(self._cancelled)
            for place in [place for place, wanted in self._lanes.items() if place[0] == owner and wanted is job]:
                self._let_go(self._lanes.pop(place))

    def again(self, owner: str, job: Job[Any]) -> None:
        """Have the owner's next request for a job that failed or was cancelled do it anew."""
        with self._lock:
            for one in (job, *job.needs):
                self._cancelled.pop((owner, one.key), None)
                self._failed.pop((owner, one.key), None)
                if one.done and one.error is not None:
                    one.refuse_reuse()

    def forget(self, unwanted: Callable[[Key], bool]) -> None:
        """Forget the finished jobs with such keys, and with them what their results keep alive."""
        with self._lock:
            for key in [key for key, job in self._jobs.items() if job.done and unwanted(key)]:
                del self._jobs[key]

    def outcome(self, key: Key) -> Job[Any] | None:
        """Return the job for `key` where it has a result or an error that counts; nothing is started."""
        with self._lock:
            job = self._jobs.get(key)
        return job if job is not None and job.done and job.reusable else None

    def finished(self, kind: str) -> list[Job[Any]]:
        """Return the jobs of a kind that have a result, the least recently wanted first."""
        with self._lock:
            return [job for key, job in self._jobs.items() if key[0] == kind and job.done and job.error is None]

    def leave(self, owner: str, lanes: Iterable[str] | None = None, *, needs: bool = True) -> None:
        """Let go of the owner's jobs, in these lanes or in all of them.

        Without `needs`, what those jobs wait for goes on: other work of the same owner is about to need it.
        """
        with self._lock:
            mine = [place for place in self._lanes if place[0] == owner and (lanes is None or place[1] in lanes)]
            for place in mine:
                self._let_go(self._lanes.pop(place), needs=needs)

    def owners_of(self, model: Key) -> set[str]:
        """Return who wants jobs on a model that are not done; the second part of a job's key is that of its model."""
        with self._lock:
            return {owner for (owner, _), job in self._lanes.items() if not job.done and job.key[1:2] == (model,)}

    def wanted_by(self, owner: str) -> int:
        """Return how many jobs an owner wants that run or wait."""
        with self._lock:
            return len({id(job) for (who, _), job in self._lanes.items() if who == owner and not job.done})

    def kept_bytes(self) -> int:
        """Return about how much memory the results of finished jobs keep, in bytes."""
        with self._lock:
            return sum(job.size for job in self._jobs.values() if job.done)

    def load(self) -> tuple[int, int]:
        """Return how many jobs run and how many wait, to begin or to go on."""
        with self._lock:
            return len(self._running), len(self._waiting) + len(self._resting)

    def queued(self, job: Job[Any]) -> Queued | None:
        """Return what goes before a job that waits, as it was a moment ago; None for one that runs, is done or is new."""
        if job.started is not None or job.done:
            return None
        with self._lock:
            if time.monotonic() - self._queued_at > STALE:
                self._queue = self._order.queue(self._waiting, self._running, self._lanes, self._workers)
                self._queued_at = time.monotonic()
            return self._queue.get(job)

    def _check(self, lane: str, keys: Sequence[Key]) -> None:
        """Refuse work that is not in the table: nothing would say how much of it is kept, and what lets go of it."""
        for key in keys:
            if key[0] not in self._kinds:
                raise LookupError(f"The pool {str(self._name)!r} does no {key[0]!r}; give it a row in work/kinds.py.")
        if lane not in self._kinds[str(keys[0][0])].lanes:
            raise LookupError(f"{str(lane)!r} is no lane of {keys[0][0]!r}; add it to its row in work/kinds.py.")

    def _known_failure(self, owner: str, key: Key) -> Job[Any] | None:
        """Return the job that failed for this owner, unless somebody else's does it again or has done it."""
        job = self._jobs.get(key)
        if job is not None and job.reusable:
            return None
        if job is not None:
            self._remember_failure(job)
        return self._failed.get((owner, key))

    def _remember_failure(self, job: Job[Any]) -> None:
        if isinstance(job.error, Unexpected):
            for owner in {owner for (owner, _), wanted in self._lanes.items() if wanted is job}:
                self._failed[owner, job.key] = job
            bound(self._failed)

    def _find(self, key: Key, work: Work[Any], needs: Mapping[Key, Work[Any]]) -> Job[Any]:
        """Return the job for a key; a new one waits behind those that it needs."""
        job = self._jobs.get(key)
        if job is None or not job.reusable:
            first = [self._find(other, how, {}) for other, how in needs.items()]
            job = self._jobs[key] = Job(key, work, self._kinds[str(key[0])].patience, first)
            job.give_way = self._give_way
            self._waiting.append(job)
            self._start_workers()
        self._jobs.move_to_end(key)
        return job

    def _let_go(self, job: Job[Any] | None, *, needs: bool = True) -> None:
        """Stop a job that nobody wants, and what only it needed."""
        if job is None or job.done or self._wanted(job):
            return
        needed = job.needs if needs else ()
        if job in self._waiting:
            self._waiting.remove(job)
            job.drop()
        job.stop.set()
        self._go_on(job)
        for need in needed:
            self._let_go(need)

    def _wanted(self, job: Job[Any]) -> bool:
        return any(wanted is job or job in wanted.needs for wanted in self._lanes.values())

    def _owners(self, job: Job[Any]) -> set[str]:
        return {owner for (owner, _), wanted in self._lanes.items() if wanted is job or job in wanted.needs}

    def _ready(self) -> list[Job[Any]]:
        return [job for job in self._waiting if job.ready]

    def _next(self) -> Job[Any] | None:
        """Take the waiting job that begins now, if any may; those that gave way and have their turn go on."""
        while len(self._running) < self._workers and (ready := [*self._ready(), *self._resting]):
            chosen = self._order.choose(ready, self._running, self._lanes)
            self._running.append(chosen)
            if chosen not in self._resting:
                self._waiting.remove(chosen)
                return chosen
            self._resting.pop(chosen).set()
        return None

    def _give_way(self, job: Job[Any]) -> None:
        """Have a text that is being written wait for its turn, where others go first; another thread works meanwhile."""
        go = threading.Event()
        with self._lock:
            if (
                job in self._lost
                or len(self._resting) >= MAX_RESTING
                or not self._order.gives_way(job, self._ready(), self._lanes)
            ):
                return
            self._resting[job] = go
            self._running.remove(job)
            self._start_workers()
            self._lock.notify_all()
        job.rest(go)
        with self._lock:
            self._go_on(job)

    def _go_on(self, job: Job[Any]) -> None:
        """Have a job go on that gave way and is not wanted any more: it ends."""
        if (go := self._resting.pop(job, None)) is not None:
            self._running.append(job)
            go.set()

    def _lanes_of(self, job: Job[Any]) -> list[str]:
        return [lane for (_, lane), wanted in self._lanes.items() if wanted is job]

    def _start_workers(self) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        busy = min(self._workers, len(self._waiting) + len(self._running))
        if busy and not self._watching:
            self._watching = True
            threading.Thread(target=self._watch, name=f"{self._name}-watch", daemon=True).start()
        if len(self._threads) < busy + len(self._resting) + len(self._lost):
            name = f"{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        while True:
            with self._lock:
                while (job := self._next()) is None:
                    self._lock.wait()
            job.run()
            with self._lock:
                if job in self._lost:  # another worker has taken this one's place
                    self._lost.remove(job)
                    return
                owners = self._owners(job)
                self._running.remove(job)
                self._remember_failure(job)
                self._order.note(job, self._lanes_of(job))
                self._lanes = {place: wanted for place, wanted in self._lanes.items() if wanted is not job}
                self._trim()
                # What waited for this job may start now, on any worker.
                self._lock.notify_all()
            note_end(job.key, owners, job.took, job.size, job.error)
            # While this thread waits for the next job, it must not keep the last one alive.
            del job

    def _watch(self) -> None:
        """Give up what hangs, for as long as anything runs or waits."""
        while True:
            time.sleep(WATCH)
            with self._lock:
                hanging = [job for job in self._running if self._hangs(job)][: MAX_LOST - len(self._lost)]
                self._watching = bool(self._running or self._waiting or self._resting)
                watching = self._watching
            for job in hanging:
                self._give_up(job)
            if not watching:
                return

    def _hangs(self, job: Job[Any]) -> bool:
        kind = self._kinds[str(job.key[0])]
        return job.hangs(kind.grace, kind.silence)

    def _give_up(self, job: Job[Any]) -> None:
        """Finish a job whose work does not end, and have another worker in the place of its own."""
        with self._lock:
            if job not in self._running or not job.give_up():
                return
            owners = self._owners(job)
            self._running.remove(job)
            self._lost.add(job)
            self._remember_failure(job)
            self._lanes = {place: wanted for place, wanted in self._lanes.items() if wanted is not job}
            for _ in range(min(self._workers, len(self._waiting))):
                self._start_workers()
            self._lock.notify_all()
        note_end(job.key, owners, None, 0, job.error)

    def _trim(self) -> None:
        """Forget the oldest finished jobs beyond the bound of their kind or of memory, and those of no use to anyone."""
        kept: dict[str, int] = {}
        room = self._most_bytes
        for key, job in reversed(list(self._jobs.items())):
            if not job.done:
                continue
            kind = str(key[0])
            kept[kind] = kept.get(kind, 0) + 1
            # the newest stays however large it is: somebody waits for it
            full = room is not None and sum(kept.values()) > 1 and job.size > room
            if not job.reusable or full or kept[kind] > self._kinds[kind].kept:
                del self._jobs[key]
            elif room is not None:
                room = max(0, room - job.size)
