"""Work that ends badly: out of memory, or not at all. Its person reads a sentence, and everybody else's goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from surgery_core.errors import Stopped
from surgery_core.failures import failure, is_out_of_memory
from surgery_ui.work import diary, kinds, pool
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.job import Job, Unexpected
from tests.ui.conftest import Open
from tests.ui.support.pools import free_pool
from tests.ui.support.reading import errors, metrics, type_notation
from tests.ui.work.test_jobs import until

TOO_MUCH = {"Python": lambda: bytearray(2**62), "torch": lambda: torch.empty(2**60)}
"""Each asks for more than any machine has, and is told so by the allocator itself."""


class Deaf:
    """Work that neither says anything nor listens, until it is let go."""

    def __init__(self) -> None:
        self.entered, self.let_go, self.left = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, job: Job[Any]) -> str:
        self.entered.set()
        self.let_go.wait(60)
        job.write("too late")
        self.left.set()
        return "too late"


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deaf]:
    monkeypatch.setattr(pool, "WATCH", 0.02)
    work = Deaf()
    yield work
    work.let_go.set()


@pytest.mark.parametrize("ask", TOO_MUCH.values(), ids=TOO_MUCH)
def test_who_asks_for_too_much_memory_reads_so_and_the_worker_goes_on(ask: Any) -> None:
    workers = free_pool(1)
    job = workers.request("a", "x", ("k",), lambda job: ask())
    assert job.wait(5)
    assert isinstance(job.error, Unexpected)
    assert "not enough memory" in str(job.error)
    assert diary.faults()[0].id in str(job.error)
    assert workers.request("b", "x", ("other",), lambda job: 7).wait(5)


def test_what_counts_as_out_of_memory() -> None:
    for ask in TOO_MUCH.values():
        with pytest.raises((MemoryError, RuntimeError)) as caught:
            ask()
        assert is_out_of_memory(caught.value)
        assert "not enough memory" in failure(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."))
    assert is_out_of_memory(OSError(12, "Cannot allocate memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("not enough memory"))


def test_cancelled_work_that_does_not_end_gives_its_worker_back(deaf: Deaf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "GRACE", 0.2)
    workers = free_pool(1)
    job = workers.request("a", "x", ("k",), deaf)
    assert deaf.entered.wait(5)
    waiting = workers.request("b", "x", ("other",), lambda job: 7)
    assert not waiting.wait(0.5), "nobody has told it to end"
    workers.cancel("a", job)
    assert waiting.wait(5)
    assert isinstance(job.error, Stopped)
    assert job.wait(0)
    # whatever comes of it later is nobody's
    deaf.let_go.set()
    assert deaf.left.wait(5)
    until(lambda: not workers._lost)
    assert isinstance(job.error, Stopped)
    assert workers.request("a", "y", ("third",), lambda job: 8).wait(5)
    assert workers.load() == (0, 0)


def test_work_of_which_nothing_is_heard_is_given_up_although_a_page_looks(
    deaf: Deaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "SILENCE", 0.4)
    workers = free_pool(1)
    job = workers.request("a", "x", ("k",), deaf)
    waiting = workers.request("b", "x", ("other",), lambda job: 7)
    until(lambda: job.look() or job.done)
    assert isinstance(job.error, Unexpected)
    assert str(job.error).startswith("This was given up after 0 minutes in which nothing was heard of it (error ")
    assert diary.faults()[0].kind == "TimeoutError"
    assert waiting.wait(5)
    assert workers.request("a", "x", ("k",), deaf) is job, "it is not begun again by itself"


def test_work_that_says_how_far_it_is_goes_on(monkeypatch: pytest.MonkeyPatch, deaf: Deaf) -> None:
    monkeypatch.setattr(kinds, "SILENCE", 0.3)
    pause = threading.Event()

    def slow(job: Job[Any]) -> str:
        for at in range(10):
            job.report(at, 10)
            pause.wait(0.1)
        return "done"

    job = free_pool(1).request("a", "x", ("k",), slow)
    assert job.wait(10)
    assert job.result == "done"


def test_only_so_many_threads_are_left_behind(deaf: Deaf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "GRACE", 0.05)
    monkeypatch.setattr(pool, "MAX_LOST", 2)
    workers, works = free_pool(1), [Deaf() for _ in range(3)]
    for at, work in enumerate(works):
        job = workers.request("a", "x", ("k", at), work)
        assert work.entered.wait(5)
        workers.cancel("a", job)
    last = workers.request("b", "x", ("other",), lambda job: 7)
    assert not last.wait(0.5), "the third keeps its worker"
    works[0].let_go.set()
    assert last.wait(5), "one thread less is left behind"
    for work in works:
        work.let_go.set()


def test_training_and_somebody_elses_code_have_longer() -> None:
    times = {kind.key: (kind.grace, kind.silence) for kind in kinds.TABLE}
    assert times["model"] == times["lens-fetch"] == times["healing"] == times["lens-training"] == (900.0, 7200.0)
    assert times["text"] == times["comparison"] == times["sweep"] == (30.0, 1800.0)


def test_one_page_runs_out_of_memory_and_another_persons_does_not(
    open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cached.compare

    def greedy(*given: Any, **more: Any) -> Any:
        if given[1] is not None and len(given[1].model.layers) == 1:
            torch.empty(2**60)
        return real(*given, **more)

    monkeypatch.setattr(cached, "compare", greedy)
    first, second = open_app(plan="2"), open_app(plan="0-2")
    assert "There was not enough memory on the server for this" in errors(first)
    assert not first.exception
    assert len(metrics(second)) == 4
    assert not second.error
    type_notation(first, "1-3")
    assert not first.error
    assert len(metrics(first)) == 4
