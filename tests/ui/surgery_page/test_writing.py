"""A job that ends between two looks of one round of drawing."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from surgery_core.errors import TextError
from surgery_core.measure.generation import Generation
from surgery_ui.surgery_page.writing import Writing, _look
from surgery_ui.work.channel import Channel
from surgery_ui.work.job import Job
from tests.ui.conftest import Open


class LateFailure(Job[Any]):
    """A job that fails right after it was asked whether it is done."""

    def __init__(self) -> None:
        def fail(job: Job[Any]) -> Any:
            raise TextError("Too late.")

        super().__init__(("text",), fail)
        self.asked_once = False

    @property
    def done(self) -> bool:
        was = super().done
        if not was and not self.asked_once:
            self.asked_once = True
            self.run()
        return was


def test_one_look_is_one_moment() -> None:
    job = LateFailure()
    job.text = "Once"
    assert (_look(job).text, _look(job).generation) == ("Once", None)
    assert isinstance(_look(job).error, TextError)


class Note:
    """The line below a text."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def caption(self, said: str) -> Note:
        self.said.append(said)
        return self


def sides(monkeypatch: pytest.MonkeyPatch, drawn: list[str], **jobs: Job[Any]) -> Writing:
    """Return the section of these jobs, which writes down what it draws."""
    section = Writing("me", "", jobs, Any, {}, cast("Any", {side: Note() for side in jobs}), Channel())
    monkeypatch.setattr(section, "_fail", lambda side: drawn.append(f"{side} failed"))
    monkeypatch.setattr(section, "_draw", lambda side, now, beside: drawn.append(f"{side}{now.text}"))
    return section


def test_a_side_that_failed_is_drawn_once_while_the_other_writes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    failed, other = Job[Any](("text",), lambda job: None), Job[Any](("text",), lambda job: None)
    failed.drop()
    drawn: list[str] = []
    section = sides(monkeypatch, drawn, after=failed, before=other)
    for piece in ("Once", " upon", " a time"):
        other.text += piece
        section.show()
    assert drawn == ["after failed", "beforeOnce", "beforeOnce upon", "beforeOnce upon a time"]


def test_words_that_the_browser_has_already_are_drawn_now_and_then_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("surgery_ui.surgery_page.writing.time", SimpleNamespace(monotonic=lambda: now[0]))
    job, drawn = Job[Any](("text",), lambda job: Generation("", " b c d", 3, "length", 1.0, 0.1)), list[str]()
    section, listener = sides(monkeypatch, drawn, after=job), threading.Event()
    section._channel.listen(listener)
    for at, piece in ((0.0, " a"), (0.5, " b"), (1.2, " c"), (1.3, " d")):
        now[0] = at
        job.text += piece
        section.show()
    job.run()
    section.show()
    assert drawn == ["after a", "after a b c", "after b c d"]


def test_a_look_at_a_job_that_ends_meanwhile_does_not_raise() -> None:
    first = _look(LateFailure())
    assert first.error is None
    assert first.generation is None


def test_the_text_is_asked_for_before_anything_is_drawn_and_only_once(
    open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from surgery_ui.sidebar import sidebar
    from surgery_ui.work.plan_jobs import WORK

    order: list[str] = []
    draw, request = sidebar.sidebar, WORK.request

    def asked(owner: str, lane: str, key: Any, *more: Any, **options: Any) -> Any:
        if key[0] == "text":
            order.append(f"text of {key[2][0]}")
        return request(owner, lane, key, *more, **options)

    monkeypatch.setattr(WORK, "request", asked)
    monkeypatch.setattr(sidebar, "sidebar", lambda: (order.append("sidebar"), draw()))
    app = open_app(plan="0,2-3")
    assert not app.exception
    assert order[:3] == ["text of 0,2-3", "text of 0-3", "sidebar"]
    assert set(order) == {"sidebar", "text of 0,2-3", "text of 0-3"}
    order.clear()
    open_app("models", plan="0,2-3")
    assert order[order.index("sidebar", 3) :] == ["sidebar"]


def test_a_text_that_takes_a_while_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("surgery_ui.surgery_page.writing.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("surgery_ui.work.timing.time", SimpleNamespace(monotonic=lambda: now[0]))
    job = Job[Any](("text",), lambda job: None)
    section = sides(monkeypatch, [], after=job)
    job.started = 100.0
    for at, tokens in ((100.5, 4), (104.0, 32), (104.5, 36), (106.0, 48)):
        now[0] = job.reported_at = at
        job._reported = (tokens, 64)
        section.show()
    # 8 tokens a second: 32 are left, and then 16
    note: Any = section._notes["after"]
    assert note.said == ["Writing … 32 of 64 tokens, 3 to 5 s left", "Writing … 48 of 64 tokens, about 2 s left"]
