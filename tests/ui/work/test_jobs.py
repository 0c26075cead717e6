"""The pool: shared work, superseded work, fairness, bounds, failures."""

from __future__ import annotations

import threading
import time

import pytest

from surgery_core.errors import Stopped, SurgeryError, TextError
from surgery_ui.work import order
from surgery_ui.work.job import Job, Unexpected
from tests.ui.support.pools import free_pool


def until(condition: object, timeout: float = 5.0) -> None:
    end = time.monotonic() + timeout
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


class Gate:
    """Work that waits until it is let through, and counts how often it ran."""

    def __init__(self, answer: object = "done") -> None:
        self.open, self.entered, self.runs, self.answer = threading.Event(), threading.Event(), 0, answer

    def __call__(self, job: Job[object]) -> object:
        self.runs += 1
        self.entered.set()
        while not self.open.wait(0.005):
            if job.stop.is_set():
                raise Stopped("stopped")
        return self.answer


def test_the_same_key_is_computed_once_for_everyone() -> None:
    pool, gate = free_pool(2), Gate()
    first = pool.request("a", "lane", ("k", 1), gate)
    second = pool.request("b", "lane", ("k", 1), gate)
    gate.open.set()
    assert first is second
    assert first.wait(5)
    assert pool.request("c", "other", ("k", 1), gate).result == "done"
    assert gate.runs == 1


def test_another_key_in_the_lane_stops_the_old_job_unless_someone_else_wants_it() -> None:
    pool, lonely, shared, new = free_pool(3), Gate(), Gate(), Gate()
    old = pool.request("a", "x", ("lonely",), lonely)
    both = pool.request("a", "y", ("shared",), shared)
    pool.request("b", "y", ("shared",), shared)
    lonely.entered.wait(5)
    shared.entered.wait(5)
    pool.request("a", "x", ("new", 1), new)
    pool.request("a", "y", ("new", 2), new)
    assert old.wait(5)
    assert isinstance(old.error, Stopped)
    assert not both.stop.is_set()
    shared.open.set()
    new.open.set()
    assert both.wait(5)
    assert both.result == "done"


def test_a_waiting_job_that_nobody_wants_never_runs() -> None:
    pool, blocker, never = free_pool(1), Gate(), Gate()
    pool.request("a", "x", ("blocker",), blocker)
    blocker.entered.wait(5)
    waiting = pool.request("b", "x", ("never",), never)
    pool.leave("b")
    assert waiting.done
    blocker.open.set()
    until(lambda: pool.load() == (0, 0))
    assert never.runs == 0


def test_a_stopped_job_is_computed_anew_when_it_is_wanted_again() -> None:
    pool, first, second = free_pool(1), Gate(), Gate("again")
    pool.request("a", "x", ("k",), first)
    first.entered.wait(5)
    pool.leave("a")
    second.open.set()
    job = pool.request("a", "x", ("k",), second)
    assert job.wait(5)
    assert job.result == "again"


def test_leaving_some_lanes_keeps_the_others() -> None:
    pool, gate = free_pool(2), Gate()
    gone, kept = pool.request("a", "x", ("1",), gate), pool.request("a", "y", ("2",), gate)
    pool.leave("a", ["x"])
    gate.open.set()
    assert kept.wait(5)
    assert gone.stop.is_set()
    assert not kept.stop.is_set()


def test_the_owner_with_fewer_running_jobs_is_served_first() -> None:
    pool, order = free_pool(1), []
    gates = {name: Gate() for name in ("a1", "a2", "a3", "b1")}
    done: list[Job[object]] = []
    for name, gate in gates.items():

        def work(job: Job[object], name: str = name, gate: Gate = gate) -> object:
            order.append(name)
            return gate(job)

        done.append(pool.request(name[0], name, (name,), work))
    gates["a1"].entered.wait(5)
    # one worker: nothing else runs, so arrival decides; with a second worker b goes before a's next one
    wide, seen = free_pool(2), []
    hold, two = Gate(), Gate()
    wide.request("a", "1", ("1",), hold)
    wide.request("b", "1", ("2",), two)
    hold.entered.wait(5)
    two.entered.wait(5)
    free = Gate()
    for owner, key in (("a", "3"), ("c", "4")):
        wide.request(owner, key, (key,), lambda job, key=key: (seen.append(key), free(job)))
    two.open.set()
    free.open.set()
    until(lambda: wide.load()[1] == 0 and len(seen) == 2)
    assert seen == ["4", "3"]
    for gate in (*gates.values(), hold):
        gate.open.set()
    assert all(job.wait(5) for job in done)


def test_finished_jobs_are_bounded_by_kind() -> None:
    pool = free_pool(1, big=2, small=5)
    for n in range(6):
        for kind in ("big", "small"):
            pool.request("a", f"{kind}{n}", (kind, n), lambda job: "first").wait(5)
    until(lambda: pool.load() == (0, 0))
    runs = []
    for kind, n in (("big", 5), ("big", 4), ("big", 0), ("small", 1), ("small", 0)):
        pool.request("b", "x", (kind, n), lambda job, k=kind, n=n: runs.append((k, n))).wait(5)
    assert runs == [("big", 0), ("small", 0)]


def test_an_error_of_ours_is_kept_and_an_unexpected_one_is_hidden(caplog: pytest.LogCaptureFixture) -> None:
    pool, runs = free_pool(1), []

    def refuse(job: Job[object]) -> object:
        runs.append("refuse")
        raise TextError("Too short.")

    def crash(job: Job[object]) -> object:
        runs.append("crash")
        raise ZeroDivisionError("secret detail")

    for owner in ("a", "b"):
        refused = pool.request(owner, "x", ("refuse",), refuse)
        crashed = pool.request(owner, "y", ("crash",), crash)
        assert refused.wait(5)
        assert crashed.wait(5)
        until(lambda: pool.load() == (0, 0))
    assert runs.count("refuse") == 1
    assert runs.count("crash") == 2
    assert isinstance(crashed.error, Unexpected)
    assert "secret" not in str(crashed.error)
    assert "secret detail" in caplog.text
    with pytest.raises(TextError, match="Too short"):
        _ = refused.result


def test_what_failed_unexpectedly_stays_so_for_its_person_until_they_ask_again() -> None:
    pool, runs = free_pool(1), []

    def ask(owner: str, number: int = 0, *, anew: bool = False) -> Job[object]:
        def crash(job: Job[object]) -> object:
            runs.append(owner)
            if owner == "c":
                return "done"
            raise ZeroDivisionError

        job = pool.request(owner, "x", ("k", number), crash, anew=anew)
        assert job.wait(5)
        return job

    first = ask("a")
    assert [ask("a") for _ in range(3)] == [first] * 3
    assert runs == ["a"]
    ask("a", 1)
    assert runs == ["a", "a"], "another request is work of its own"
    assert ask("b") is not first
    assert runs == ["a", "a", "b"]
    assert isinstance(ask("a").error, Unexpected)
    pool.again("a", first)
    assert isinstance(ask("a").error, Unexpected)
    assert runs == ["a", "a", "b", "a"]
    ask("a", anew=True)
    assert runs == ["a", "a", "b", "a", "a"]
    assert ask("c").result == "done"
    assert ask("a").result == "done", "what another person's work came to is everyone's"


def test_failures_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MAX_REMEMBERED", 2)
    pool, runs = free_pool(1), []

    def ask(number: int) -> None:
        def crash(job: Job[object]) -> object:
            runs.append(number)
            raise ZeroDivisionError

        assert pool.request("a", "x", ("k", number), crash).wait(5)

    for number in (0, 1, 2):
        ask(number)
    until(lambda: pool.load() == (0, 0))
    for number in (1, 2, 0):
        ask(number)
    assert runs == [0, 1, 2, 0]


def test_work_that_never_says_how_far_it_is_is_let_go_when_no_page_looks() -> None:
    pool, gate = free_pool(1, patience=0.3), Gate()
    job = pool.request("a", "x", ("k",), gate)
    assert gate.entered.wait(5)
    assert not job.stop.is_set()
    assert job.wait(5)
    assert isinstance(job.error, Stopped)
    # what is done stays of use, however long nobody looks
    done = pool.request("a", "x", ("other",), lambda job: 7)
    assert done.wait(5)
    time.sleep(0.4)
    assert done.reusable


def test_a_job_that_no_page_looks_at_stops_itself() -> None:
    pool = free_pool(1, patience=0.05)

    def endless(job: Job[object]) -> object:
        for n in range(1000):
            job.report(n, 1000)
            if job.stop.is_set():
                raise Stopped("abandoned")
            time.sleep(0.01)
        return "finished"

    job = pool.request("a", "x", ("endless",), endless)
    assert job.wait(5)
    assert isinstance(job.error, Stopped)


def test_text_and_progress_grow_while_the_job_runs() -> None:
    pool, gate = free_pool(1), Gate()

    def work(job: Job[object]) -> object:
        job.write("Once ")
        job.report(1, 2)
        answer = gate(job)
        job.write("upon")
        return answer

    job = pool.request("a", "x", ("text",), work)
    gate.entered.wait(5)
    assert (job.text, job.progress, job.done) == ("Once ", (1, 2), False)
    gate.open.set()
    job.wait(5)
    assert job.text == "Once upon"


def test_many_threads_asking_at_once_share_one_run() -> None:
    pool, gate = free_pool(4), Gate()
    gate.open.set()
    threads = [threading.Thread(target=lambda n=n: pool.request(str(n), "x", ("k",), gate).wait(5)) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gate.runs == 1


def test_a_dropped_job_raises_stopped() -> None:
    job: Job[object] = Job(("k",), lambda job: "x")
    job.drop()
    with pytest.raises(SurgeryError):
        _ = job.result
