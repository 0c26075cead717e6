"""Sections that fail keep their place and can be run again; what is no number is said; lengths that fit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from surgery_core.measure.results import Comparison
from surgery_core.sweeps.estimate import Span
from surgery_ui.parts import waiting
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work import lens_jobs, sweep_jobs, timing
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane, Workers, kinds_of
from surgery_ui.work.pool import Pool
from tests.ui.conftest import Open
from tests.ui.support.reading import charts, errors, metrics, said, type_notation, wait, written


def broken(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> Callable[[], None]:
    """Have a function crash; the function that is returned mends it."""
    real, mended = getattr(module, name), []

    def crash(*given: Any, **more: Any) -> Any:
        if not mended:
            raise ZeroDivisionError("secret detail")
        return real(*given, **more)

    monkeypatch.setattr(module, name, crash)
    return lambda: mended.append(True)


def test_a_failed_calculation_leaves_the_other_sections_and_every_place_offers_a_retry(
    open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    mend = broken(monkeypatch, cached, "compare")
    app = open_app(plan="0,3,1,2,2")
    assert not app.exception
    assert "secret" not in errors(app)
    assert len(written(app)) == 2
    assert len(charts(app)) == 1, "layer by layer has figures of its own"
    places = ("retry-headline", "retry-table-scores", "retry-tokens")
    assert all(app.button(key=key) for key in places)
    assert len(app.error) == len(places)
    mend()
    app.button(key="retry-tokens").click().run()
    assert not app.error
    assert len(metrics(app)) == 4


def test_what_failed_is_not_computed_again_by_other_clicks(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def crash(*given: Any, **more: Any) -> Any:
        calls.append(given)
        raise ZeroDivisionError

    monkeypatch.setattr(cached, "compare", crash)
    app = open_app(plan="1,3,0,2,2")
    for _ in range(3):
        app.run()
    assert len(calls) == 1
    assert "Something went wrong on the server" in errors(app)
    app.button(key="retry-headline").click().run()
    assert len(calls) == 2
    type_notation(app, "1,3,0,0,2")
    type_notation(app, "1,3,0,2,2")
    assert len(calls) == 3, "another plan is computed, and this one is known to have failed"
    open_app(plan="1,3,0,2,2")
    assert len(calls) == 4, "another person's is computed"


@pytest.mark.parametrize(
    ("page", "module", "name", "key", "before"),
    [
        ("lens", lens_jobs, "read_lens", "retry-map", {}),
        ("lens", lens_jobs, "lens_averages", "retry-averages", {"lens-texts": True}),
        ("skills", sweep_jobs, "score_skill", "retry-skills", {}),
    ],
)
def test_every_page_offers_to_do_again_what_failed(
    open_app: Open, monkeypatch: pytest.MonkeyPatch, page: str, module: Any, name: str, key: str, before: dict[str, Any]
) -> None:
    mend = broken(monkeypatch, module, name)
    # a plan of its own for each, so that nothing is known from another test
    app = open_app(page, plan={"retry-map": "3,2", "retry-averages": "3,1", "retry-skills": "3,0"}.get(key, "2,0"))
    for name, value in before.items():
        app.session_state[name] = value
    app.run()
    wait(app, lambda: [button for button in app.button if button.key == key])
    assert "Something went wrong on the server" in errors(app)
    mend()
    app.button(key=key).click().run()
    wait(app, lambda: not app.error)
    assert not [button for button in app.button if button.key == key]


def test_the_text_that_could_not_be_written_is_written_again(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    mend = broken(monkeypatch, cached, "complete")
    app = open_app(plan="2,3,3", prompt="Nobody asked this before")
    assert {"retry-text-before", "retry-text-after"} <= {button.key for button in app.button}
    assert len(metrics(app)) == 4
    mend()
    app.button(key="retry-text-after").click().run()
    assert [button.key for button in app.button if str(button.key).startswith("retry")] == ["retry-text-before"]
    app.button(key="retry-text-before").click().run()
    assert not app.error
    assert len(written(app)) == 2


def test_a_plan_that_could_not_be_checked_is_checked_again(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    mend = broken(monkeypatch, cached, "prove")
    app = open_app(plan="3,1,1,1")
    assert any("could not be checked" in one.value for one in app.warning)
    mend()
    app.button(key="retry-proof").click().run()
    assert not app.exception
    assert not app.warning


def test_figures_that_are_no_numbers_give_way_to_a_sentence(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cached.compare

    def broken_off(*given: Any, **more: Any) -> Comparison:
        return replace(real(*given, **more), not_finite="Not a number from layer L1 on.")

    monkeypatch.setattr(cached, "compare", broken_off)
    app = open_app(plan="0-2,2*0.5")
    assert not app.exception
    assert "There are no figures to show. Not a number from layer L1 on." in errors(app)
    assert not metrics(app)


def test_the_slider_offers_only_a_length_that_fits_behind_the_prompt(open_app: Open) -> None:
    """The tiny model reads 128 tokens, one a byte."""
    app = open_app(plan="0-2", prompt="a" * 100, length="128")
    assert not app.error
    assert app.slider(key="set-length").max == 28
    assert any(caption.value.startswith("28 tokens") for caption in app.caption)
    app.text_area(key="prompt").set_value("a" * 20).run()
    assert app.slider(key="set-length").max == 108
    app.slider(key="set-length").set_value(108).run()
    assert not app.error
    app.text_area(key="prompt").set_value("a" * 127).run()
    assert not app.exception
    assert "The prompt fills what the model reads at once" in said(app)


class Running(Job[None]):
    """A job that has been at work for some seconds."""

    def __init__(self, done: int, total: int, began: float) -> None:
        super().__init__(("k",), lambda job: None)
        now = time.monotonic()
        self.report(done, total)
        self.started, self.reported_at = now - began, now


def test_the_time_left_is_counted_from_the_speed_so_far() -> None:
    left = timing.left(Running(25, 100, 10.0))
    assert left is not None
    assert left.low < 30.0 < left.high
    assert left.high / left.low < 2.0
    near = timing.left(Running(99, 100, 99.0))
    assert near is not None
    assert near.high / near.low < 1.3 or near.high == 1.0


def test_a_first_estimate_is_corrected_by_what_is_done() -> None:
    expected = timing.left(Running(0, 0, 0.0), 100.0)
    assert expected is not None
    assert expected.low < 100.0 < expected.high
    assert expected.high / expected.low == pytest.approx(2.0, rel=0.05)
    # half is done in 150 s, three times what was expected of it: 150 s are left, not 50
    late = timing.left(Running(50, 100, 150.0), 100.0)
    assert late is not None
    assert late.low < 140.0 < late.high
    assert timing.left(Running(0, 0, 5.0)) is None


def test_what_a_job_waited_for_counts_before_its_own_work_says_anything() -> None:
    first = Running(100, 100, 40.0)
    job = Job[None](("second",), lambda job: None, needs=[first])
    job.reported_at -= 40.0  # nothing was heard of it since it was asked for
    left = timing.left(job)
    assert left is not None
    assert left.low < 40.0 < left.high


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (2.1, 4.2, "2 to 4 s"), (118.0, 236.0, "2 to 4 min"), (52.0, 104.0, "50 s to 2 min"), (3.1, 3.3, "about 3 s"),
        (0.1, 0.4, "about 1 s"), (3000.0, 6000.0, "50 min to 1 h 40 min"), (7200.0, 14400.0, "2 h 0 min to 4 h 0 min"),
        (41.0, 78.0, "40 to 80 s"),
    ],
)  # fmt: skip
def test_spans_in_words(low: float, high: float, text: str) -> None:
    assert sweep_words.span(Span(low, high)) == text


def test_who_waits_for_others_reads_how_many_and_how_long() -> None:
    pool, gate = Pool(1, kinds_of(Workers.SWEEPS)), threading.Event()
    known = pool.request("a", Lane.SWEEP, ("sweep", "m", 0), lambda job: time.sleep(1.2))
    assert known.wait(10)
    runs = pool.request("a", Lane.SWEEP, ("sweep", "m", 1), lambda job: gate.wait(10))
    while runs.started is None:
        time.sleep(0.01)
    rest = [pool.request(f"b{at}", Lane.SWEEP, ("sweep", "m", at), lambda job: None) for at in (2, 3, 4)]
    assert [waiting.in_line(pool, [job], "Sweep") for job in rest] == ["", "", ""], "it was asked for a moment ago"
    for job in (runs, *rest):
        job.asked -= 2.0
    assert waiting.in_line(pool, [runs], "Sweep") == ""
    # half of what runs, and what is before: 0.6 s, 1.8 s, 3.0 s
    assert [waiting.in_line(pool, [job], "Sweep") for job in rest] == [
        "Sweep: its turn is next", "Sweep: 1 before it, about 2 s until its turn", "Sweep: 2 before it, about 3 s until its turn",
    ]  # fmt: skip
    assert waiting.in_line(pool, [rest[2], runs], "Sweep") == "", "one of the section's jobs runs"
    gate.set()
    assert rest[-1].wait(10)
    assert waiting.in_line(pool, rest, "Sweep") == ""
