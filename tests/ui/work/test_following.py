"""What a page is told of jobs that it follows, and when."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import pytest

from surgery_ui.work import following
from surgery_ui.work.job import Job


def started(work: Any) -> Job[Any]:
    job = Job[Any](("text",), work)
    threading.Thread(target=job.run, daemon=True).start()
    return job


def test_a_listener_hears_of_every_piece_and_of_the_end() -> None:
    job, news, heard = Job[Any](("text",), lambda job: "done"), threading.Event(), []
    job.tell(news)
    for act in (lambda: job.write("Once"), lambda: job.put(1), job.run):
        act()
        heard.append(news.is_set())
        news.clear()
    assert heard == [True, True, True]


def test_a_job_that_is_dropped_says_so_and_forgets_who_no_longer_listens() -> None:
    job, gone, news = Job[Any](("text",), lambda job: None), threading.Event(), threading.Event()
    job.tell(gone)
    del gone
    gc.collect()
    job.tell(news)
    assert len(job._listeners) == 1
    job.drop()
    assert news.is_set()


def test_the_first_words_are_shown_when_they_are_there_and_a_stream_of_them_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wait between two looks is made long, so that only news can end it."""
    monkeypatch.setattr(following, "TICK", 2.0)
    monkeypatch.setattr(following, "give_way", lambda: None)
    wrote: list[float] = []
    shown: list[tuple[float, str]] = []
    go = threading.Event()

    def work(job: Job[Any]) -> None:
        go.wait()
        time.sleep(0.1)
        for piece in range(60):
            wrote.append(time.monotonic())
            job.write(str(piece % 10))
            time.sleep(0.01)

    job = started(work)
    go.set()
    following.follow([job], lambda: shown.append((time.monotonic(), job.text)))
    first = next(when for when, text in shown if text)
    assert first - wrote[0] < 1.0
    assert shown[-1][1] == "0123456789" * 6
    assert len(shown) < 6
