"""In which order waiting jobs begin: fair between sessions, what an edit is made for first, short work before long.

Nothing here imports Streamlit.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgery_ui.work.job import Job, Key
from surgery_ui.work.kinds import Kind, Turn

LONG = 10.0
"""Seconds after which work that waits is done in the order in which it came."""
SHARE = 12
"""Of so many jobs that begin, one is what has waited longest, whatever its turn, once it has waited for long."""
QUANTUM = 0.2
"""Seconds for which a text that goes on is not interrupted again."""
MAX_REMEMBERED = 256
"""Most kinds of work of which it is remembered how long they took, and most owners that were served."""

Lanes = Mapping[tuple[str, str], Job[Any]]
"""By owner and lane, the job that is wanted there."""


@dataclass(frozen=True)
class Queued:
    """What a job that waits is behind.

    Attributes:
        before: jobs that begin earlier, unless others come meanwhile.
        seconds: about how long it takes until it begins, as far as is known how long such work takes.
    """

    before: int
    seconds: float


def bound(remembered: OrderedDict[Any, Any]) -> None:
    """Forget the oldest of what is remembered, beyond the bound."""
    while len(remembered) > MAX_REMEMBERED:
        remembered.popitem(last=False)


class Order:
    """What is remembered of earlier work, and the order that follows from it.

    Args:
        kinds: of the jobs, by the first part of their keys.
    """

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds
        self._times: OrderedDict[tuple[Key, str], float] = OrderedDict()
        self._served: OrderedDict[str, int] = OrderedDict()
        self._begun = 0

    def note(self, job: Job[Any], lanes: Iterable[str]) -> None:
        """Remember how long a job took that has a result, by what it is of (kind, model) and by the places it was for."""
        if job.took is not None and job.error is None:
            self._times.update({(job.key[:2], lane): job.took for lane in (*lanes, "")})
            bound(self._times)

    def choose(self, ready: Sequence[Job[Any]], running: Iterable[Job[Any]], lanes: Lanes) -> Job[Any]:
        """Return the job that begins now: the first, or what has waited longest where that has its share."""
        self._begun += 1
        oldest = min(ready, key=lambda job: job.asked)
        overdue = self._begun % SHARE == 0 and oldest.asked < time.monotonic() - LONG
        wanted = _wanted(lanes)
        chosen = oldest if overdue else min(ready, key=self._rank(running, wanted))
        for owner in wanted.get(chosen, NOBODY).owners:
            self._served[owner] = self._begun
            self._served.move_to_end(owner)
        bound(self._served)
        return chosen

    def gives_way(self, job: Job[Any], ready: Iterable[Job[Any]], lanes: Lanes) -> bool:
        """Return whether a text that is being written waits now: where other people have no words or figures yet."""
        if time.monotonic() - job.went_on < QUANTUM:
            return False
        wanted = _wanted(lanes)
        own = wanted.get(job, NOBODY).owners
        return any(self._turn(one) < Turn.REST and not own & wanted.get(one, NOBODY).owners for one in ready)

    def queue(
        self, waiting: Iterable[Job[Any]], running: Sequence[Job[Any]], lanes: Lanes, workers: int
    ) -> dict[Job[Any], Queued]:
        """Return what goes before each job that waits."""
        wanted = _wanted(lanes)
        # what runs is half done on average
        work = sum(self._seconds(job, wanted) for job in running) / 2
        found: dict[Job[Any], Queued] = {}
        for before, job in enumerate(sorted(waiting, key=self._rank(running, wanted))):
            found[job] = Queued(before, work / workers)
            work += self._seconds(job, wanted)
        return found

    def _rank(
        self, running: Iterable[Job[Any]], wanted: Mapping[Job[Any], _Wanted]
    ) -> Callable[[Job[Any]], tuple[float, ...]]:
        """Return what waiting jobs are sorted by.

        Those go first whose owner has the fewest running; of these the kinds that have their turn first; of these what
        has waited for long, in the order in which it came, because short work that keeps coming must not hold it up;
        then those whose owner was served longest ago; of one owner's the shortest, and of equals the oldest.
        """
        busy = Counter(owner for job in running for owner in wanted.get(job, NOBODY).owners)
        late = time.monotonic() - LONG

        def rank(job: Job[Any]) -> tuple[float, ...]:
            owners = wanted.get(job, NOBODY).owners
            first = min((busy[who] for who in owners), default=0), self._turn(job)
            if job.asked < late:
                return *first, 0, job.asked
            served = min((self._served.get(who, 0) for who in owners), default=0)
            return *first, 1, served, self._seconds(job, wanted), job.asked

        return rank

    def _turn(self, job: Job[Any]) -> Turn:
        return Turn.REST if job.started is not None else self._kinds[str(job.key[0])].turn

    def _seconds(self, job: Job[Any], wanted: Mapping[Job[Any], _Wanted]) -> float:
        """Return how long such work took the last time; 0 where that is not known, so that it soon is."""
        places = wanted.get(job, NOBODY).places
        known = [self._times[job.key[:2], lane] for lane in places if (job.key[:2], lane) in self._times]
        return min(known, default=self._times.get((job.key[:2], ""), 0.0))


class _Wanted:
    """Who wants a job, for itself or for another that needs it, and in which places it is wanted for itself."""

    def __init__(self) -> None:
        self.owners: set[str] = set()
        self.places: list[str] = []


NOBODY = _Wanted()


def _wanted(lanes: Lanes) -> dict[Job[Any], _Wanted]:
    """Return who wants each job, by one look at all lanes."""
    found: dict[Job[Any], _Wanted] = {}
    for (owner, lane), job in lanes.items():
        found.setdefault(job, _Wanted()).places.append(lane)
        for one in (job, *job.needs):
            found.setdefault(one, _Wanted()).owners.add(owner)
    return found
