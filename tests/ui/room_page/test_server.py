"""What an organiser sees of the server, and nobody else."""

from __future__ import annotations

from surgery_ui.room_page import server
from surgery_ui.rooms.store import Rooms
from surgery_ui.work import diary
from surgery_ui.work.kinds import Workers
from tests.ui.conftest import Open


def test_every_group_of_workers_has_a_line() -> None:
    assert set(server.DOES) == set(Workers)
    assert len(server.workers()) == len(Workers)


def test_the_organiser_sees_sessions_memory_and_what_went_wrong(open_app: Open, rooms: Rooms) -> None:
    code, key = rooms.create("")
    fault = diary.note_fault(ValueError("what a person wrote"), "page")
    app = open_app("room", room=code, key=key)
    assert not app.exception
    shown = {one.label: one.value for one in app.metric}
    assert int(shown["Sessions"]) >= 1
    assert shown["Memory taken"].endswith("MB") or shown["Memory taken"].endswith("GB")
    tables = [frame.value for frame in app.dataframe]
    assert any("Id" in table and fault.id in set(table["Id"]) for table in tables)
    assert not any("what a person wrote" in table.to_csv() for table in tables)


def test_others_do_not(open_app: Open, rooms: Rooms) -> None:
    code, _ = rooms.create("")
    app = open_app("room", room=code)
    assert "Sessions" not in {one.label for one in app.metric}
