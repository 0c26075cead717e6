"""A job that ends between two looks of one round of drawing."""

from __future__ import annotations

from typing import Any

import pytest

from surgery_core.errors import TextError
from surgery_ui.surgery_page.writing import Writing, _look
from surgery_ui.work.job import Job
from tests.ui.conftest import Open


class LateFailure(Job[Any]):
    """A job that fails right after it was asked whether it is done."""

    def __init__(self) -> None:
        def fail(job: Job[Any]) -> Any:
            raise TextError("Too late.")

        super().__init__(("text",), fail)

    @property
    def done(self) -> bool:
        was = super().done
        if not was:
            self.run()
        return was


def test_one_look_is_one_moment() -> None:
    job = LateFailure()
    job.text = "Once"
    assert (_look(job).text, _look(job).generation) == ("Once", None)
    assert isinstance(_look(job).error, TextError)


def test_a_side_that_failed_is_drawn_once_while_the_other_writes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    failed, other = Job[Any](("text",), lambda job: None), Job[Any](("text",), lambda job: None)
    failed.drop()
    drawn: list[str] = []
    section = Writing.__new__(Writing)
    section._jobs, section._shown = {"after": failed, "before": other}, {}
    monkeypatch.setattr(section, "_fail", lambda side: drawn.append(f"{side} failed"))
    monkeypatch.setattr(section, "_draw", lambda side, now, beside: drawn.append(side))
    for piece in ("Once", " upon", " a time"):
        other.text += piece
        section.show()
    assert drawn == ["after failed", "before", "before", "before"]


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
