"""Rooms in their file: who may do what, what counts once, what outlives a server that is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import RecipeError
from surgery_ui.rooms.names import LETTERS, clean_name, new_code, new_key, opens, read_code, sealed
from surgery_ui.rooms.records import Progress, RoomError
from surgery_ui.rooms.store import HERE, MAX_ANSWER, Rooms

ROOT = Path(__file__).resolve().parents[3]
WORKSHOP = 'version = 1\ntitle = "T"\nminutes = 5\nmodel = "fable"\n[[steps]]\ntitle = "One"\ntext = "Do it."\n'


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rooms(tmp_path: Path, clock: Clock) -> Rooms:
    return Rooms(tmp_path / "state" / "rooms.sqlite", clock)


def test_a_room_is_made_joined_and_ended(rooms: Rooms) -> None:
    assert rooms.room("BCDF") is None
    code, key = rooms.create(WORKSHOP, pages=("lens",), texts="stories")
    found = rooms.room(code)
    assert found is not None
    assert found.workshop is not None
    assert (found.model, found.pages, found.texts, found.workshop.title) == ("fable", ("lens",), "stories", "T")
    assert rooms.newest() == found
    assert rooms.join(code, "ann", "Ann") == "Ann"
    assert rooms.join(code, "bob", "  Ann ") == "Ann (2)"
    assert rooms.join(code, "eve") == "Guest 3"
    assert rooms.join(code, "ann") == "Ann", "who comes back keeps the name"
    assert rooms.join(code, "ann", "Anna") == "Anna"
    assert rooms.name(code, "bob") == "Ann (2)"
    assert rooms.name(code, "nobody") is None
    assert rooms.count(code) == 3
    rooms.end(code, key)
    assert rooms.newest() is None
    for late in (lambda: rooms.join(code, "new"), lambda: rooms.finish(code, "ann", 0)):
        with pytest.raises(RoomError, match=f"The room {code} is over"):
            late()
    with pytest.raises(RoomError, match="There is no room BBBB"):
        rooms.join("BBBB", "ann")


def test_only_the_organiser_pushes_pins_clears_and_ends(rooms: Rooms) -> None:
    code, key = rooms.create()
    other, _ = rooms.create()
    for wrong in ("", "x", key[:-1], new_key()):
        for change in (
            lambda wrong=wrong: rooms.push(code, wrong, "0-3"), lambda wrong=wrong: rooms.pin(code, wrong),
            lambda wrong=wrong: rooms.clear_board(code, wrong), lambda wrong=wrong: rooms.end(code, wrong),
            lambda wrong=wrong: rooms.table(code, wrong),
        ):  # fmt: skip
            with pytest.raises(RoomError, match=f"This key does not open the room {code}"):
                change()
    with pytest.raises(RoomError):
        rooms.push(other, key, "0-3")
    rooms.push(code, key, "0-3")
    rooms.push(code, key, "0-2")
    rooms.pin(code, key, model="fable", pages=("", "lens"))
    found = rooms.room(code)
    assert found is not None
    assert (found.pushed, found.plan, found.model, found.pages) == (2, "0-2", "fable", ("", "lens"))


def test_who_is_where_is_a_count_and_fades(rooms: Rooms, clock: Clock) -> None:
    code, _ = rooms.create()
    for person, page in (("a", "lens"), ("b", "lens"), ("c", "")):
        rooms.join(code, person)
        rooms.see(code, person, page)
    assert rooms.where(code) == {"": 1, "lens": 2}
    clock.now += HERE
    rooms.see(code, "a", "sweep")
    assert rooms.where(code) == {"sweep": 1}


def test_steps_are_kept_for_each_person(rooms: Rooms, clock: Clock) -> None:
    code, key = rooms.create(WORKSHOP)
    rooms.join(code, "a", "Ann")
    rooms.join(code, "b", "Bob")
    rooms.open_hint(code, "a", 0, 2)
    rooms.open_hint(code, "a", 0, 1)
    rooms.answer(code, "a", 0, "because")
    rooms.finish(code, "a", 0)
    first = rooms.progress(code, "a")[0].done
    rooms.finish(code, "a", 0)
    assert rooms.progress(code, "a") == {0: Progress(2, "because", first)}
    assert rooms.progress(code, "b") == {}
    rooms.open_hint(code, "b", 0, 1)
    assert rooms.overview(code) == {0: (1, 2)}
    with pytest.raises(RoomError, match=f"{MAX_ANSWER + 1:,} characters"):
        rooms.answer(code, "a", 0, "x" * (MAX_ANSWER + 1))
    rows = rooms.table(code, key)
    assert [(row["name"], row["step"], row["done"], row["hints"], row["answer"]) for row in rows] == [
        ("Ann", 1, True, 2, "because"), ("Bob", 1, False, 1, ""),
    ]  # fmt: skip


def test_the_board_has_the_best_of_each_and_counts_a_plan_once(rooms: Rooms) -> None:
    code, key = rooms.create(WORKSHOP)
    for person in "abc":
        rooms.join(code, person, person.upper())
    assert rooms.score(code, "a", "0-8", 9, 1.1, 0.8)
    assert not rooms.score(code, "a", "0-8", 9, 1.0, 0.9), "the same plan counts once"
    assert rooms.score(code, "b", "0-8", 9, 1.1, 0.8), "another person may have it too"
    assert rooms.score(code, "c", "0-7", 8, 1.2, 0.7)
    assert rooms.score(code, "b", "1-8", 8, 1.15, 0.7)
    assert rooms.score(code, "c", "0-11", 12, 1.0, 1.0)
    board = [(one.name, one.plan, one.layers, one.ratio) for one in rooms.board(code)]
    assert board == [("B", "1-8", 8, 1.15), ("C", "0-7", 8, 1.2), ("A", "0-8", 9, 1.1)]
    rooms.clear_board(code, key)
    assert rooms.board(code) == []


def test_many_people_at_once_lose_nothing(rooms: Rooms) -> None:
    code, _ = rooms.create(WORKSHOP)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            person = f"p{number}"
            rooms.join(code, person, "Same name")
            for at in range(10):
                rooms.score(code, person, f"plan {at}", 12 - at, 1.0, 1.0)
                rooms.see(code, person, "lens")
                rooms.board(code)
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(rooms.board(code)) == 20
    assert {one.layers for one in rooms.board(code)} == {3}
    assert len({one.name for one in rooms.board(code)}) == 20


WRITER = """
import sys
from surgery_ui.rooms.store import Rooms
rooms = Rooms(sys.argv[1])
for number in range(100_000):
    rooms.score(sys.argv[2], "p", f"plan {number}", 5, 1.0, 1.0)
    print(number, flush=True)
"""


def test_a_server_that_is_killed_loses_no_score_that_was_accepted(tmp_path: Path) -> None:
    path = tmp_path / "rooms.sqlite"
    rooms = Rooms(path)
    code, _ = rooms.create()
    rooms.join(code, "p")
    accepted = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), code], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline()
        time.sleep(0.15)
        os.kill(process.pid, signal.SIGKILL)
        said = [int(line) for line in process.stdout.read().splitlines() if line.strip()]
        process.wait()
        process.stdout.close()
        accepted = max([accepted, *said])
        with sqlite3.connect(path) as base:
            kept = {row[0] for row in base.execute("SELECT plan FROM scores")}
            assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        base.close()
        assert {f"plan {number}" for number in range(accepted + 1)} <= kept
        assert rooms.join(code, "p"), "the next server goes on"
    assert accepted > 5


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RoomError, match=r"The rooms cannot be kept in .*rooms\.sqlite"):
        Rooms(tmp_path / "file" / "rooms.sqlite").create()
    (tmp_path / "broken.sqlite").write_bytes(b"no database" * 200)
    with pytest.raises(RoomError, match="not a database"):
        Rooms(tmp_path / "broken.sqlite").room("BCDF")
    with pytest.raises(RecipeError, match="not valid TOML"):
        Rooms(tmp_path / "rooms.sqlite").create("= =")


@given(st.text(max_size=60))
def test_a_name_is_one_short_line_of_letters_that_are_seen(text: str) -> None:
    found = clean_name(text)
    assert len(found) <= 24
    assert found == found.strip() == clean_name(found)
    assert not any(ord(letter) < 32 or letter in "\u200b\u202e\u2066\ufeff\u00ad" for letter in found)


def test_names_and_codes() -> None:
    assert clean_name("\u202eAnn\u200b\n Lee ") == "Ann Lee"
    assert clean_name("<b>x</b>") == "<b>x</b>", "markup stays text; pages escape it"
    assert clean_name(7) == clean_name(None) == ""
    assert read_code(" bc-df ") == "BCDF"
    assert [read_code(text) for text in ("", "BCDE", "BCD", "BCDFG", None, 7, "B" * 99)] == [None] * 7
    codes = {new_code() for _ in range(200)}
    assert len(codes) > 190
    assert all(len(code) == 4 and set(code) <= set(LETTERS) for code in codes)
    key = new_key()
    assert opens(key, sealed(key))
    assert not opens(key + "x", sealed(key))
    assert key not in sealed(key)
