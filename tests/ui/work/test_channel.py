"""A session's own way to its browser: what is sent, to whom, and what is never sent."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from surgery_core.errors import TextError
from surgery_ui.work import channel
from surgery_ui.work.channel import UNKNOWN, Channel, find
from surgery_ui.work.job import Job


def writing(text: str = "") -> Job[Any]:
    """Return a job that is writing and has come so far."""
    job = Job[Any](("text",), lambda job: None)
    job.text = text
    return job


def failed(text: str) -> Job[Any]:
    def fail(job: Job[Any]) -> None:
        raise TextError("Too long.")

    job = Job[Any](("text",), fail)
    job.text = text
    job.run()
    return job


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(Starlette(routes=[channel.ROUTE])) as found:
        yield found


def test_a_turn_begins_where_a_job_or_the_prompt_changes_and_only_there() -> None:
    one, before, after, other = Channel(), writing(), writing(), writing()
    asked = [
        ("Once", {"before": before}),
        ("Once", {"before": before}),
        ("Once", {"after": after, "before": before}),
        ("Once", {"after": other, "before": before}),
        ("Twice", {"after": other, "before": before}),
        ("Twice", {"after": other, "before": before}),
    ]
    assert [one.follow(prompt, jobs) for prompt, jobs in asked] == [1, 1, 2, 3, 4, 4]


def test_a_message_has_the_newest_turn_divided_where_the_texts_part() -> None:
    one, before = Channel(), writing(" there was a king")
    assert one.message() is None
    one.follow("Once", {"after": writing(" there was a kitten"), "before": before})
    assert one.message() == {
        "turn": 1,
        "sides": {"after": ("Once", " there was a ", "kitten"), "before": ("Once", " there was a ", "king")},
    }
    one.follow("Once", {"after": writing(), "before": before})
    assert one.message() == {"turn": 2, "sides": {"before": ("Once", " there was a king", "")}}


def test_of_three_texts_the_cut_and_the_stitched_one_are_divided_where_they_part_from_that_before() -> None:
    one, jobs = (
        Channel(),
        {"after": writing(" in a sea"), "before": writing(" in a land"), "cut": writing(" on a land")},
    )
    one.follow("Once", jobs)
    assert (one.message() or {})["sides"] == {
        "after": ("Once", " in a ", "sea"), "before": ("Once", " in a ", "land"), "cut": ("Once", " ", "on a land"),
    }  # fmt: skip


def test_a_side_that_was_there_before_is_not_sent_ahead_of_the_first_new_words() -> None:
    one, before, after = Channel(), writing(" upon"), writing()
    before.run()
    one.follow("Once", {"after": after, "before": before})
    assert one.message() is None
    after.write(" upon")
    assert set((one.message() or {})["sides"]) == {"after", "before"}


def test_what_went_wrong_is_for_the_page_to_say() -> None:
    one = Channel()
    one.follow("Once", {"after": failed(" upon"), "before": writing(" upon a time")})
    assert one.message() == {"turn": 1, "sides": {"before": ("Once", " ", "upon a time")}}


def test_a_browser_gets_the_words_of_the_channel_that_it_names_and_of_no_other(client: TestClient) -> None:
    mine, theirs = Channel(), Channel()
    theirs.follow("Hers", {"after": writing(" alone")})
    job = writing(" upon")
    mine.follow("Once", {"after": job})
    with client.websocket_connect("/" + channel.PATH) as socket:
        socket.send_text(mine.token)
        assert socket.receive_json() == {"turn": 1, "sides": {"after": ["Once", " upon", ""]}}
        assert (mine.connected, theirs.connected) == (True, False)
        job.write(" a time")
        assert socket.receive_json() == {"turn": 1, "sides": {"after": ["Once", " upon a time", ""]}}
        newer = writing(" more")
        mine.follow("Once", {"after": newer})
        assert socket.receive_json()["turn"] == 2
        job.write(" and on")  # nobody follows it any more
        newer.write("!")
        assert socket.receive_json() == {"turn": 2, "sides": {"after": ["Once", " more!", ""]}}
    _until(lambda: not mine.connected)


def test_it_is_served_under_whatever_path_the_app_is(client: TestClient) -> None:
    one = Channel()
    one.follow("Once", {"after": writing(" upon")})
    with client.websocket_connect(f"/deep/down/{channel.PATH}") as socket:
        socket.send_text(one.token)
        assert socket.receive_json()["turn"] == 1


@pytest.mark.parametrize("token", ["", "x", "0" * 100_000])
def test_whoever_names_no_channel_gets_nothing(client: TestClient, token: str) -> None:
    kept = Channel()
    kept.follow("Once", {"after": writing(" upon")})
    with client.websocket_connect("/" + channel.PATH) as socket:
        socket.send_text(token)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
    assert closed.value.code == UNKNOWN


def test_whoever_says_nothing_is_not_waited_for(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PATIENCE", 0.05)
    with client.websocket_connect("/" + channel.PATH) as socket, pytest.raises(WebSocketDisconnect):
        socket.receive_json()


@pytest.mark.parametrize(
    ("origin", "is_let_in"),
    [("http://testserver", True), ("https://testserver", True), ("http://elsewhere.example", False), ("null", False)],
)
def test_pages_of_other_sites_are_not_let_in(client: TestClient, origin: str, is_let_in: bool) -> None:
    one = Channel()
    one.follow("Once", {"after": writing(" upon")})
    try:
        with client.websocket_connect("/" + channel.PATH, headers={"origin": origin}) as socket:
            socket.send_text(one.token)
            got = socket.receive_json()["turn"] == 1
    except WebSocketDisconnect:
        got = False
    assert got == is_let_in


def test_a_channel_lives_as_long_as_its_session() -> None:
    one = Channel()
    token = one.token
    assert find(token) is one
    del one
    gc.collect()
    assert find(token) is None


def test_an_edit_waits_for_its_first_words_and_not_longer() -> None:
    one, job = Channel(), writing()
    one.follow("Once", {"after": job})
    began = time.monotonic()
    assert not one.wait_for_words("after", 0.05)
    assert time.monotonic() - began >= 0.05
    threading.Timer(0.05, job.write, (" upon",)).start()
    assert one.wait_for_words("after", 20)
    assert time.monotonic() - began < 10
    assert not one.wait_for_words("after", 20)  # they were there before
    one.follow("Once", {"after": failed("")})
    assert not one.wait_for_words("after", 20)


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
