"""A room in two browsers: joined by its link, a plan that the organiser shows, and a server that is killed meanwhile."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from surgery_core.workshops.workshop import WORKSHOPS_FOLDER
from surgery_ui.rooms.store import Rooms
from tests.browser.conftest import Server
from tests.browser.driver import await_plan, plan, settle, type_notation

BACK = 60.0
"""Seconds after which everybody is back at the latest, on a machine with much else to do."""


@pytest.fixture
def killable(chromium: Any, models: Path, tmp_path: Path) -> Iterator[Server]:
    server = Server(models, tmp_path)
    server.start()
    yield server
    server.kill()
    said = (tmp_path / "log.txt").read_text(encoding="utf-8", errors="replace")
    assert "Traceback" not in said, said


def _seen(folder: Path) -> list[float]:
    """Return when each person was heard of last, as the file has it."""
    with closing(sqlite3.connect(folder / "rooms.sqlite")) as base:
        return [row[0] for row in base.execute("SELECT seen FROM people")]


def test_a_room_outlives_its_server(visit: Any, killable: Server, tmp_path: Path) -> None:
    rooms = Rooms(tmp_path / "rooms.sqlite")
    text = (WORKSHOPS_FOLDER / "first-cuts.toml").read_text(encoding="utf-8")
    code, key = rooms.create(text)
    organiser = visit(f"{killable.address}/room?room={code}&key={key}")
    guest = visit(f"{killable.address}/room?room={code}")
    assert "key" not in organiser.url
    guest.get_by_label("What shall we call you?").fill("Zelda")
    guest.get_by_role("button", name="Join").click()
    guest.get_by_text("Task 1 of 5").wait_for()
    organiser.get_by_text("1 here now").wait_for()
    assert organiser.get_by_test_id("stMain").get_by_text("Zelda").count() == 0, "who is where is a count"

    type_notation(organiser, "1-11")
    await_plan(organiser, "1-11")
    organiser.get_by_role("button", name="Show my plan to everybody").click()
    guest.get_by_role("button", name="Take it over").click()
    await_plan(guest, "1-11")

    type_notation(guest, "0-2,5-6,9-11")
    await_plan(guest, "0-2,5-6,9-11")
    guest.get_by_role("button", name="Enter the plan in the strip").click()
    guest.get_by_text("On the board: 8 layers").wait_for(timeout=60_000)
    assert [(one.name, one.layers) for one in rooms.board(code)] == [("Zelda", 8)]
    guest.get_by_role("link", name="Lens").click()
    settle(guest)

    killable.kill()
    guest.get_by_text("Task 1 of 5").wait_for()  # what was there stays on the screen meanwhile
    began = time.monotonic()
    killable.start()
    started = time.time()
    while not any(seen > started for seen in _seen(tmp_path)):
        assert time.monotonic() - began < BACK, "nobody came back"
        time.sleep(0.2)
    settle(guest)
    guest.get_by_test_id("stSidebar").get_by_text(f"Room {code} · Zelda").wait_for()
    assert time.monotonic() - began < BACK
    assert plan(guest) == "0-2,5-6,9-11"
    assert re.search(r"/lens\?", guest.url)
    assert [(one.name, one.layers) for one in rooms.board(code)] == [("Zelda", 8)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_has_nothing_cut_off_in_a_room(visit: Any, killable: Server, tmp_path: Path, scheme: str) -> None:
    rooms = Rooms(tmp_path / "rooms.sqlite")
    code, key = rooms.create((WORKSHOPS_FOLDER / "first-cuts.toml").read_text(encoding="utf-8"))
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme}
    for address in (f"/room?room={code}&key={key}", f"/room?room={code}"):
        page = visit(killable.address + address, **phone)
        main = page.get_by_test_id("stMain")
        assert main.evaluate("main => Math.max(main.scrollWidth, document.documentElement.scrollWidth)") <= 390
