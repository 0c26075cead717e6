"""One piece of work off the script thread: what it wrote so far, how far it is, its result or its error.

Nothing here imports Streamlit.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar, cast

from surgery_core.errors import Stopped, SurgeryError
from surgery_ui.work.diary import note_fault
from surgery_ui.work.kinds import PATIENCE
from surgery_ui.work.sizes import size_of

Result = TypeVar("Result")
Key = tuple[Hashable, ...]
Work = Callable[["Job[Result]"], Result]

_TELLING = threading.Lock()
"""Two pages may begin to listen to one job at the same moment."""


UNKNOWN = "Something went wrong on the server (error {id}); its log has the details. Try again."
NO_MEMORY = (
    "There was not enough memory on the server for this (error {id}). Choose less of it (fewer or shorter texts, a smaller "
    "model), or close what you no longer need, and try again."
)
HUNG = (
    "This was given up after {minutes:.0f} minutes in which nothing was heard of it (error {id}); the server's log has the "
    "details. Try again, or choose less of it."
)


class Unexpected(SurgeryError):
    """Something failed that should not have; the details are in the server's log."""


class Cancelled(Stopped):
    """The person cancelled it; it is not done again before they ask for it."""


class _Stop(threading.Event):
    """Set by whoever wants a job's work ended, and by itself once the work asks and no page looks at the job any more.

    Work that never says how far it is, such as one long reading of a lens, is let go by this too.
    """

    def __init__(self, job: Job[Any]) -> None:
        super().__init__()
        self._job = weakref.ref(job)
        self.since = math.inf

    def set(self) -> None:
        self.since = min(self.since, time.monotonic())
        super().set()

    def is_set(self) -> bool:
        job = self._job()
        if job is not None and job.running and job.abandoned:
            self.set()
        return super().is_set()


class Job(Generic[Result]):
    """One piece of work: what it wrote so far, how far it is, and its result or error once it is done.

    Attributes:
        needs: jobs whose results this one's work takes; it starts once they are done.
        asked: when it was made.
        reported_at: when it last said how far it is.
        ended: when there was a result or an error.
        took: how many seconds its own work took, once that is done.
        give_way: called after each piece of a text; returns when it is this job's turn to go on.
        went_on: when it went on after it gave way last.
        rested: for how many seconds it gave way in all.
        size: about how many bytes its result and its pieces keep, once that is done.
    """

    def __init__(
        self, key: Key, work: Work[Result], patience: float = PATIENCE, needs: Sequence[Job[Any]] = ()
    ) -> None:
        self.key, self.needs = key, tuple(needs)
        self._patience = patience
        self.stop: _Stop = _Stop(self)
        self.text = ""
        self.pieces: list[Any] = []
        self.asked = time.monotonic()
        self.started: float | None = None
        self.ended: float | None = None
        self.took: float | None = None
        self.size = 0
        self.give_way: Callable[[Job[Any]], None] | None = None
        self.went_on = -math.inf
        self.rested = 0.0
        self.reported_at = self._said_at = time.monotonic()
        self._settling = threading.Lock()
        self._reported = (0, 0)
        self._awaited = tuple(need for need in self.needs if not need.done)
        self._work: Work[Result] | None = work
        self._again = False
        self._seen = time.monotonic()
        self._result: Result | None = None
        self._error: SurgeryError | None = None
        self._finished = threading.Event()
        self._listeners: tuple[weakref.ref[threading.Event], ...] = ()

    @property
    def done(self) -> bool:
        """Whether there is a result or an error."""
        return self._finished.is_set()

    @property
    def running(self) -> bool:
        """Whether its own work has begun and is not done."""
        return self.started is not None and not self.done

    @property
    def abandoned(self) -> bool:
        """Whether no page has looked at it for longer than it waits for one."""
        return time.monotonic() - self._seen > self._patience

    def hangs(self, grace: float, silence: float) -> bool:
        """Return whether its work goes on although it was told to end so many seconds ago, or has said nothing for so long."""
        now = time.monotonic()
        heard = max(self._said_at, self.went_on, self.started or now)
        return self.running and (now - self.stop.since > grace or now - heard > silence)

    @property
    def ready(self) -> bool:
        """Whether everything that the work needs is done."""
        return all(need.done for need in self.needs)

    @property
    def progress(self) -> tuple[int, int]:
        """Return how far the job is and where its end is, (0, 0) where that is not known.

        A job that waited for others counts their work with its own, which it takes for as long until it knows better.
        """
        done, total = self._reported
        before = [need.progress for need in self._awaited]
        first, whole = sum(one[0] for one in before), sum(one[1] for one in before)
        return first + done, whole + (total or whole)

    @property
    def reported(self) -> tuple[int, int]:
        """Return how far its own work is and where the end of that is, (0, 0) where that is not known."""
        return self._reported

    @property
    def working(self) -> float | None:
        """Return when the first of its work began, that of what it needs included."""
        began = [one.started for one in (*self._awaited, self) if one.started is not None]
        return min(began, default=None)

    @property
    def heard_at(self) -> float:
        """Return when it, or what it waited for, last said how far it is."""
        return max(one.reported_at for one in (*self._awaited, self))

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
        return not (self._again or self.stop.is_set() or isinstance(self._error, (Stopped, Unexpected)))

    def raise_what_failed(self) -> None:
        """Raise what went wrong with the work that it needs, where something did."""
        for need in self.needs:
            _ = need.result

    def look(self) -> None:
        """Say that a page still shows this job."""
        self._seen = time.monotonic()
        for need in self.needs:
            need.look()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job is done; return whether it is."""
        return self._finished.wait(timeout)

    def tell(self, listener: threading.Event) -> None:
        """Set `listener` whenever there is something new to show, for as long as somebody else holds it."""
        with _TELLING:
            known = tuple(one for one in self._listeners if one() is not None)
            self._listeners = (*known, weakref.ref(listener))

    def write(self, piece: str) -> None:
        """Append to the text that pages show while the job runs."""
        self.text += piece
        self._say_new()
        self._stop_if_abandoned()
        if self.give_way is not None:
            self.give_way(self)

    def put(self, piece: Any, *, instead: bool = False) -> None:
        """Append to the results that pages show while the job runs, or put one in the place of the last."""
        if instead:
            self.pieces[-1:] = [piece]
        else:
            self.pieces.append(piece)
        self._say_new()
        self._stop_if_abandoned()

    def report(self, done: int, total: int) -> None:
        """Set how far the job is."""
        self._reported, self.reported_at = (done, total), time.monotonic()
        self._said_at = self.reported_at
        self._stop_if_abandoned()

    def run(self) -> None:
        """Do the work, unless nobody looks any more, and keep its outcome. Never raises."""
        self._stop_if_abandoned()
        if self.stop.is_set() or self._work is None:
            return self.drop()
        began = self.started = time.monotonic()
        result: Result | None = None
        wrong: SurgeryError | None = None
        try:
            result = self._work(self)
        except SurgeryError as error:
            # A traceback keeps every frame alive, and with them whatever memory the work held.
            error.__cause__ = error.__context__ = None
            wrong = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - a worker thread must outlive whatever a job does
            wrong = _unexpected(error, str(self.key[0]))
        finally:
            self.took = time.monotonic() - began - self.rested
            kept = (self.text, self.pieces, result)
            self._release()
            self._settle(result, wrong)
        # whoever waits for the result has it by now
        self.size = size_of(kept)

    def give_up(self) -> bool:
        """Finish although the work goes on, which nothing ends; whatever comes of it is let go. Return whether it was open."""
        if self.done:
            return False
        asked = self.stop.is_set()
        self.stop.set()
        silent = time.monotonic() - max(self._said_at, self.started or 0.0)
        fault = note_fault(TimeoutError("It does not end."), str(self.key[0]))
        hung = Unexpected(HUNG.format(minutes=silent / 60, id=fault.id))
        return self._settle(None, Stopped("It was told to end.") if asked else hung)

    def drop(self, error: Stopped | None = None) -> None:
        """Finish without running: nobody wants the job any more. What its work holds on to is let go."""
        self.stop.set()
        self._release()
        self._settle(None, error or Stopped("No longer wanted."))

    def refuse_reuse(self) -> None:
        """Have the next request do the work anew, whatever came of it."""
        self._again = True

    def rest(self, go: threading.Event) -> None:
        """Wait until the event is set, or nobody wants the rest any more."""
        began = time.monotonic()
        while not go.wait(1.0) and not self.stop.is_set():
            pass
        self.went_on = time.monotonic()
        self.rested += self.went_on - began

    def _settle(self, result: Result | None, error: SurgeryError | None) -> bool:
        """Have this come of it, unless something has already; return whether it does."""
        with self._settling:
            if self.done:
                return False
            self._result, self._error, self.ended = result, error, time.monotonic()
            self._finished.set()
        self._say_new()
        return True

    def _say_new(self) -> None:
        self._said_at = time.monotonic()
        for listener in self._listeners:
            if (event := listener()) is not None:
                event.set()

    def _release(self) -> None:
        """Let go of what the work held and of the results that it took; of a failed need only to do it again."""
        self._work, self._awaited, self.give_way = None, (), None
        self.needs = tuple(need for need in self.needs if need.done and need.error is not None)

    def _stop_if_abandoned(self) -> None:
        if self.abandoned:
            self.stop.set()


def _unexpected(error: Exception, where: str) -> Unexpected:
    """Write down what went wrong, and return what its person reads."""
    from surgery_core.failures import is_out_of_memory  # it knows torch, which a job's work has loaded by now

    fault = note_fault(error, where)
    return Unexpected((NO_MEMORY if is_out_of_memory(error) else UNKNOWN).format(id=fault.id))
