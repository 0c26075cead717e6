"""The pool where jobs need other jobs, are cancelled, done again, and let go of what they held."""

from __future__ import annotations

import gc
import weakref

import pytest

from surgery_core.errors import Stopped, TextError
from surgery_ui.work.job import Cancelled, Job, Unexpected
from tests.ui.support.pools import free_pool
from tests.ui.work.test_jobs import Gate, until


def doubled(job: Job[int]) -> int:
    return 2 * int(job.needs[0].result)


def test_a_job_takes_the_result_of_what_it_needs_even_with_one_worker() -> None:
    pool = free_pool(1)
    jobs = [pool.request("a", f"lane {n}", ("twice", n), doubled, {("base",): lambda job: 21}) for n in range(3)]
    assert all(job.wait(5) for job in jobs)
    assert [job.result for job in jobs] == [42, 42, 42]


def test_what_several_people_need_runs_once_and_outlives_the_first_who_asked() -> None:
    pool, base = free_pool(2), Gate(21)
    first = pool.request("a", "x", ("twice", "a"), doubled, {("base",): base})
    second = pool.request("b", "x", ("twice", "b"), doubled, {("base",): base})
    assert base.entered.wait(5)
    pool.leave("a")
    assert first.wait(5)
    assert isinstance(first.error, Stopped)
    base.open.set()
    assert second.wait(5)
    assert (second.result, base.runs) == (42, 1)


def test_what_nobody_needs_any_more_is_stopped_with_the_job_that_needed_it() -> None:
    pool, base = free_pool(1), Gate(21)
    job = pool.request("a", "x", ("twice",), doubled, {("base",): base})
    assert base.entered.wait(5)
    pool.leave("a")
    assert job.done
    until(lambda: pool.load() == (0, 0))
    assert pool.outcome(("base",)) is None


def test_an_edit_lets_go_of_work_and_not_of_the_base_side_that_the_next_plan_needs() -> None:
    pool, base = free_pool(2), Gate(21)
    first = pool.request("a", "x", ("twice", "old plan"), doubled, {("base",): base})
    assert base.entered.wait(5)
    pool.leave("a", ("x",), needs=False)
    assert first.wait(5)
    assert isinstance(first.error, Stopped)
    second = pool.request("a", "x", ("twice", "new plan"), doubled, {("base",): base})
    base.open.set()
    assert second.wait(5)
    assert (second.result, base.runs) == (42, 1)


def test_other_work_goes_on_while_a_job_waits_for_what_it_needs() -> None:
    pool, base, other = free_pool(2), Gate(21), Gate("other")
    waiting = pool.request("a", "x", ("twice",), doubled, {("base",): base})
    assert base.entered.wait(5)
    free = pool.request("b", "x", ("other",), other)
    assert other.entered.wait(5), "the job that waits holds the second worker"
    other.open.set()
    assert free.wait(5)
    base.open.set()
    assert waiting.wait(5)
    assert waiting.result == 42


def test_an_error_of_what_is_needed_is_that_of_the_job() -> None:
    pool = free_pool(1)

    def refuse(job: Job[int]) -> int:
        raise TextError("Too short.")

    job = pool.request("a", "x", ("twice",), doubled, {("base",): refuse})
    assert job.wait(5)
    with pytest.raises(TextError, match="Too short"):
        _ = job.result


def test_the_bar_of_a_job_counts_the_work_that_it_waits_for() -> None:
    pool, base, own = free_pool(1), Gate(21), Gate()

    def first(job: Job[int]) -> object:
        job.report(3, 10)
        return base(job)

    def then(job: Job[int]) -> object:
        job.report(5, 10)
        return own(job)

    job = pool.request("a", "x", ("then",), then, {("base",): first})
    assert base.entered.wait(5)
    until(lambda: job.progress == (3, 20))
    base.open.set()
    assert own.entered.wait(5)
    assert job.progress == (8, 20)
    own.open.set()
    assert job.wait(5)
    late = pool.request("b", "x", ("late",), then, {("base",): first})
    assert late.wait(5)
    assert late.progress == (5, 10)


def test_a_cancelled_job_frees_its_worker_and_stays_so_until_its_person_asks_again() -> None:
    pool, gate, again, after = free_pool(1), Gate(), Gate("again"), Gate()
    job = pool.request("a", "x", ("long",), gate)
    assert gate.entered.wait(5)
    pool.cancel("a", job)
    after.open.set()
    assert pool.request("b", "x", ("short",), after).wait(5)
    for _ in range(2):
        refused = pool.request("a", "x", ("long",), again)
        assert refused.done
        assert isinstance(refused.error, Cancelled)
    again.open.set()
    other = pool.request("b", "y", ("long",), again)
    assert other.wait(5)
    assert other.result == "again"
    pool.again("a", refused)
    assert pool.request("a", "x", ("long",), again).result == "again"
    assert again.runs == 1


def test_cancelling_goes_for_other_work_that_needs_the_same_until_it_is_asked_for() -> None:
    pool, base = free_pool(1), Gate(21)
    job = pool.request("a", "x", ("twice", "a"), doubled, {("base",): base})
    assert base.entered.wait(5)
    pool.cancel("a", job)
    other = pool.request("a", "x", ("twice", "b"), doubled, {("base",): base})
    assert isinstance(other.error, Cancelled)
    base.open.set()
    pool.again("a", other)
    wanted = pool.request("a", "x", ("twice", "b"), doubled, {("base",): base})
    assert wanted.wait(5)
    assert wanted.result == 42


def test_cancelling_leaves_the_job_of_somebody_else() -> None:
    pool, gate = free_pool(1), Gate()
    mine, theirs = (pool.request(who, "x", ("long",), gate) for who in ("a", "b"))
    assert mine is theirs
    pool.cancel("a", mine)
    gate.open.set()
    assert theirs.wait(5)
    assert theirs.result == "done"


def test_a_failure_is_done_anew_when_its_person_asks_again() -> None:
    pool, runs = free_pool(1), []

    def refuse(job: Job[object]) -> object:
        runs.append(1)
        raise TextError("The disk was full.")

    job = pool.request("a", "x", ("k",), refuse)
    assert job.wait(5)
    until(lambda: pool.load() == (0, 0))
    assert pool.request("a", "x", ("k",), refuse) is job
    pool.again("a", job)
    assert pool.request("a", "x", ("k",), refuse).wait(5)
    assert len(runs) == 2


def test_an_unexpected_failure_of_what_is_needed_is_done_anew() -> None:
    pool, runs = free_pool(1), []

    def base(job: Job[int]) -> int:
        runs.append(1)
        if len(runs) == 1:
            raise ZeroDivisionError
        return 21

    job = pool.request("a", "x", ("twice",), doubled, {("base",): base})
    assert job.wait(5)
    assert isinstance(job.error, Unexpected)
    until(lambda: pool.load() == (0, 0))
    pool.again("a", job)
    second = pool.request("a", "x", ("twice",), doubled, {("base",): base})
    assert second.wait(5)
    assert second.result == 42


class Heavy:
    """Something large that work holds on to."""


def test_neither_a_dropped_nor_a_finished_job_keeps_what_its_work_held() -> None:
    pool, blocker = free_pool(1), Gate()
    pool.request("a", "x", ("blocker",), blocker)
    assert blocker.entered.wait(5)
    heavy, base = Heavy(), Heavy()
    gone, shared = weakref.ref(heavy), weakref.ref(base)
    dropped = pool.request("b", "x", ("never",), lambda job, held=heavy: held)
    pool.leave("b")
    assert dropped.done
    kept = pool.request("b", "y", ("kept",), lambda job: 1, {("base",): lambda job, held=base: held})
    del heavy, base
    blocker.open.set()
    assert kept.wait(5)
    until(lambda: pool.load() == (0, 0))
    pool.forget(lambda key: key[0] == "base")
    gc.collect()
    assert gone() is None
    assert shared() is None
