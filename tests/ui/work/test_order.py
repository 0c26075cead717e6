"""In which order a pool does what waits: what an edit is for first, of that the shortest, and nothing waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from surgery_ui.work import order as module
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import TABLE, Kind, Lane, Turn, Workers, kinds_of, tray_lanes
from surgery_ui.work.pool import Pool

KINDS: Mapping[str, Kind] = kinds_of(Workers.WORK)
LANES_OF_A_TRAY = tray_lanes("scores")
LANES = {
    "text": Lane.TEXT_AFTER, "comparison": Lane.SCORES, "lens": Lane.LAYERS_AFTER, "proof": Lane.PROOF,
    "skills": Lane.SKILLS_AFTER, "preflight": Lane.PREFLIGHT, "speeds": Lane.SPEEDS, "counts": Lane.TEXT_COUNTS,
}  # fmt: skip


class Held:
    """A pool of one worker that is busy until the block ends; what is asked for meanwhile waits."""

    def __init__(self) -> None:
        self.pool, self.order, self._jobs = Pool(1, KINDS), list[str](), list[Job[Any]]()
        self._gate = threading.Event()

    def __enter__(self) -> Held:
        began = threading.Event()
        self._gate.clear()

        def hold(job: Job[Any]) -> None:
            began.set()
            self._gate.wait(10)

        self._jobs.append(self.pool.request("nobody", Lane.COSTS_OWN, ("reading", "other", object()), hold))
        assert began.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._gate.set()
        for job in self._jobs:
            assert job.wait(10)

    def named(self, name: str) -> Job[Any]:
        return next(job for job in self._jobs if job.key[-1] == name)

    def ask(
        self, kind: str, name: str = "", lane: Lane | None = None, owner: str = "me",
        work: Callable[[Job[Any]], Any] = lambda job: None, **needs: Callable[[Job[Any]], Any],
    ) -> None:  # fmt: skip
        def done(job: Job[Any]) -> Any:
            self.order.append(name or kind)
            return work(job)

        def noted(key: str, work: Callable[[Job[Any]], Any]) -> Callable[[Job[Any]], Any]:
            return lambda job: (self.order.append(key), work(job))

        wanted = {(key, "model", name): noted(key, how) for key, how in needs.items()}
        self._jobs.append(self.pool.request(owner, lane or LANES[kind], (kind, "model", name), done, wanted))


def test_texts_and_the_figures_at_the_head_come_before_details_and_those_before_checks() -> None:
    with Held() as held:
        for kind in ("speeds", "preflight", "proof", "skills", "lens", "counts", "text"):
            held.ask(kind)
        held.ask("comparison", base=lambda job: None)
    # its base comes before it; within a turn nothing is known of times, so it is the order of asking
    assert held.order == ["text", "base", "comparison", "skills", "lens", "counts", "speeds", "preflight", "proof"]


def test_of_equals_the_shortest_is_done_first_as_far_as_times_are_known() -> None:
    held = Held()
    with held:
        held.ask("text", "a", work=lambda job: time.sleep(0.2))
        held.ask("comparison", "a", work=lambda job: time.sleep(0.05))
        held.ask("comparison", "another", Lane.OWN_SCORES, work=lambda job: time.sleep(0.4))
    held.order.clear()
    with held:
        held.ask("lens", "details")
        held.ask("comparison", "of one's own, long", Lane.OWN_SCORES)
        held.ask("text", "text")
        held.ask("comparison", "figures")
        held.ask("table", "never timed", Lane.SCORES, owner="me too")
    assert held.order == ["text", "never timed", "figures", "of one's own, long", "details"]


def test_of_one_turn_what_has_waited_for_long_goes_before_what_is_short_and_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Held()
    with held:
        held.ask("skills", "a", work=lambda job: time.sleep(0.2))
    held.order.clear()
    monkeypatch.setattr(module, "SHARE", 1000)
    with held:
        held.ask("skills", "first", owner="a")
        held.ask("lens", "second", owner="b")
        monkeypatch.setattr(module, "LONG", -1.0)  # all of it has waited for long
        held.ask("text", "text", owner="c")
    assert held.order == ["text", "first", "second"]


def test_first_words_never_wait_for_old_details_and_those_have_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONG", -1.0)
    with Held() as held:
        held.ask("proof", owner="details")
        for at in range(2 * module.SHARE):
            held.ask("text", str(at), owner=f"somebody {at}")
    # the job that holds the worker is the first of the count
    assert held.order.index("proof") == module.SHARE - 2
    assert [name for name in held.order if name != "proof"] == [str(at) for at in range(2 * module.SHARE)]


def test_a_text_gives_way_to_what_others_have_nothing_of_yet_and_to_nothing_of_its_own() -> None:
    pool, said, step = Pool(1, KINDS), list[str](), threading.Semaphore(0)

    def write(job: Job[Any]) -> str:
        for at in range(4):
            assert step.acquire(timeout=10)
            said.append(f"mine {at}")
            job.write("word")
        return job.text

    text = pool.request("me", Lane.TEXT_AFTER, ("text", "m", 1), write)
    while text.started is None:
        time.sleep(0.01)
    own = pool.request("me", Lane.SCORES, ("comparison", "m", 1), lambda job: said.append("my figures"))
    details = pool.request("you", Lane.LAYERS_AFTER, ("lens", "m", 1), lambda job: said.append("your details"))
    step.release()
    while len(said) < 1:
        time.sleep(0.01)
    time.sleep(0.1)
    assert pool.load() == (1, 2), "neither one's own work nor details of others interrupt"
    figures = pool.request("you", Lane.SCORES, ("comparison", "m", 2), lambda job: said.append("your figures"))
    step.release(3)
    assert all(job.wait(10) for job in (text, own, figures, details))
    # in a gap figures go first, one's own too, since the worker is free
    assert said[:3] == ["mine 0", "mine 1", "your figures"]
    assert set(said[3:5]) == {"my figures", "mine 2"}
    assert said[-1] == "your details"
    assert text.result == "word" * 4
    assert text.rested > 0


def test_a_text_that_gave_way_ends_at_once_when_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, gate = Pool(1, KINDS), threading.Event()

    def write(job: Job[Any]) -> str:
        while not job.stop.is_set():
            job.write("word")
            time.sleep(0.01)
        return job.text

    text = pool.request("me", Lane.TEXT_AFTER, ("text", "m", 1), write)
    while not text.text:
        time.sleep(0.01)
    pool.request("you", Lane.SCORES, ("comparison", "m", 2), lambda job: gate.wait(10))
    while pool.load() != (1, 1):
        time.sleep(0.01)
    pool.leave("me")
    assert text.wait(0.5)
    gate.set()


def test_sessions_take_turns() -> None:
    with Held() as held:
        for at in range(3):
            for owner in "ab":
                held.ask("comparison", f"{owner}{at}", LANES_OF_A_TRAY[at], owner=owner)
        held.ask("text", "c0", owner="c")
    assert [name[0] for name in held.order[:3]] in (["a", "b", "c"], ["b", "a", "c"], ["a", "c", "b"], ["c", "a", "b"])
    assert [name[0] for name in held.order[3:]] == ["a", "b", "a", "b"]


def test_who_waits_learns_what_is_before_and_for_how_long() -> None:
    held = Held()
    with held:
        held.ask("text", "a", work=lambda job: time.sleep(0.2))
        held.ask("comparison", "a", work=lambda job: time.sleep(0.1))
    with held:
        held.ask("text", "text", owner="b")
        held.ask("comparison", "short", owner="c")
        held.ask("proof", "mine", owner="me")
        held.ask("lens", "later", owner="d")
        held.pool._queued_at = -1.0  # looked at a moment ago, when somebody asked before
        queued = {name: held.pool.queued(held.named(name)) for name in ("text", "short", "later", "mine")}
        assert [one and one.before for one in queued.values()] == [0, 1, 2, 3]
        assert queued["mine"] is not None
        assert 0.3 <= queued["mine"].seconds < 1
        running = held.named("mine")
    assert held.pool.queued(running) is None


def test_every_kind_has_its_turn() -> None:
    assert [kind.key for kind in TABLE if kind.turn is Turn.WORDS] == ["text"]
    first = {kind.key for kind in TABLE if kind.turn is Turn.FIGURES}
    last = {kind.key for kind in TABLE if kind.turn is Turn.LAST}
    assert first == {"base", "stitches", "table", "comparison"}
    assert last == {"preflight", "proof", "nearest", "speeds", "costs", "reading"}
