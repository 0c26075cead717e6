"""A room in the app: joining, tasks that are checked on the person's own run, what the organiser shows and pins, the board."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery_ui.room_page.organising import as_csv
from surgery_ui.rooms.store import Rooms
from surgery_ui.session import room
from tests.ui.conftest import Open

Enter = Callable[..., AppTest]
WORKSHOP = """
version = 1
title = "A test"
minutes = 5
model = "fable"
[[steps]]
title = "Take one out"
text = "Delete **L2**."
hints = ["Look left.", "Click it.", "The plan is 0-1,3."]
show = "0-1,3"
question = "Why?"
[steps.goal]
gone = [2]
[[steps]]
title = "Say something"
text = "Think."
question = "What did you think?"
[challenge]
title = "The board"
ratio_at_most = 1000
"""


@pytest.fixture
def enter(open_app: Open, rooms: Rooms) -> Enter:
    """Return the function that opens a page in a room as somebody: by the token of a tab."""

    def go_in(
        code: str, token: str = "a" * 32, name: str | None = "Ann", page: str | None = None, **address: str
    ) -> AppTest:
        app = open_app(page, room=code, **address)
        app.session_state["tab-token"] = token
        app.run()
        if name is not None:
            me = app.session_state["tab-token"]
            assert me == token
            rooms.join(code, person(token), name)
            app.run()
        assert not app.exception
        return app

    return go_in


def person(token: str) -> str:
    import hashlib

    return hashlib.sha256(f"room {token}".encode()).hexdigest()[:32]


def said(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.info, *app.error, *app.success]
    return "\n".join(str(one.value).replace("\\", "") for one in parts)


def button(app: AppTest, label: str) -> Any:
    (found,) = [one for one in app.button if one.label == label]
    return found


def test_a_code_that_is_none_is_a_sentence_and_a_room_is_joined_with_a_name(open_app: Open, rooms: Rooms) -> None:
    code, _ = rooms.create(WORKSHOP)
    app = open_app("room")
    app.text_input(key="room-code").set_value("zzzz")
    button(app, "Go in").click().run()
    assert "There is no room 'zzzz'" in said(app)
    app.text_input(key="room-code").set_value(code.lower())
    button(app, "Go in").click().run()
    assert app.query_params["room"] in (code, [code])
    app.session_state["tab-token"] = "b" * 32
    app.run()
    app.text_input(key="room-name").set_value(" <b>Bob</b>\u202e ")
    button(app, "Join").click().run()
    assert not app.exception
    assert rooms.name(code, person("b" * 32)) == "<b>Bob</b>"
    assert "<b>" not in said(app).replace("<b>Bob</b>", ""), "names stand as text"
    assert "There is no room BCDF" in said(open_app(room="BCDF"))


def test_a_goal_is_seen_as_soon_as_the_plan_is_there(enter: Enter, rooms: Rooms) -> None:
    code, _ = rooms.create(WORKSHOP)
    app = enter(code)
    assert "Task 1 of 2" in said(app)
    assert "No layer is gone; that is not what is asked for." in said(app)
    assert rooms.progress(code, person("a" * 32)) == {}
    for label, hint in (("A nudge", "Look left."), ("A suggestion", "Click it."), ("Show me", "The plan is 0-1,3.")):
        assert hint not in said(app)
        button(app, label).click().run()
        assert hint in said(app)
    button(app, "Put 0-1,3 into the strip").click().run()
    app.run()
    assert ":material/check: done" in said(app)
    progress = rooms.progress(code, person("a" * 32))[0]
    assert progress.hints == 3
    assert progress.done is not None
    app.text_area(key=f"room-answer-{code}-0").set_value("because").run()
    button(app, "Next").click().run()
    assert "Task 2 of 2" in said(app)
    app.text_area(key=f"room-answer-{code}-1").set_value("a thought").run()
    found = rooms.progress(code, person("a" * 32))
    assert (found[0].answer, found[1].answer, found[1].done is not None) == ("because", "a thought", True)


def test_what_the_organiser_pins_holds_for_everybody_else(enter: Enter, rooms: Rooms) -> None:
    code, key = rooms.create(WORKSHOP)
    rooms.pin(code, key, model="other", pages=("", "lens"), texts="stories")
    app = enter(code, model="fable")
    assert app.query_params["model"] in ("other", ["other"])
    assert app.session_state["text-set"] == "stories"
    shown = room.pages  # as the bar asks
    assert shown is not None
    organiser = enter(code, token="c" * 32, name=None, model="fable", key=key)
    assert organiser.query_params["model"] in ("fable", ["fable"])
    assert "key" not in organiser.query_params


def test_a_plan_that_is_shown_is_taken_over_with_a_click_or_by_itself(enter: Enter, rooms: Rooms) -> None:
    code, key = rooms.create()
    app = enter(code, plan="0-2")
    rooms.push(code, key, "3,0")
    app.run()
    assert app.query_params["plan"] in ("0-2", ["0-2"])
    button(app, "Take it over").click().run()
    app.run()
    assert app.query_params["plan"] in ("3,0", ["3,0"])
    assert not [one for one in app.button if one.label == "Take it over"]
    app.button(key="undo").click().run()
    assert app.query_params["plan"] in ("0-2", ["0-2"])
    next(one for one in app.toggle if one.key == "room-follow").set_value(True).run()
    rooms.push(code, key, "1")
    app.run()
    app.run()
    assert app.query_params["plan"] in ("1", ["1"])
    rooms.push(code, key, "0-99")
    app.run()
    assert not app.exception
    assert "no layer 99" in said(app)


def test_the_board_takes_what_was_computed_and_proved_here(enter: Enter, rooms: Rooms) -> None:
    code, _ = rooms.create(WORKSHOP)
    app = enter(code, page="room", plan="0-1,3")
    button(app, "Enter the plan in the strip").click().run()
    for _ in range(200):
        if rooms.board(code):
            break
        app.run()
    (standing,) = rooms.board(code)
    assert (standing.name, standing.plan, standing.layers) == ("Ann", "0-1,3", 3)
    assert standing.ratio > 0
    app.run()
    assert "On the board: 3 layers" in said(app)
    button(app, "Enter the plan in the strip").click().run()
    for _ in range(50):
        app.run()
        if "there already" in said(app):
            break
    assert "This plan of yours is there already." in said(app)
    assert len(rooms.board(code)) == 1


def test_a_plan_beyond_the_bound_or_with_a_mean_is_not_on_the_board(enter: Enter, rooms: Rooms) -> None:
    code, _ = rooms.create(WORKSHOP.replace("ratio_at_most = 1000", "ratio_at_most = 0.0001"))
    app = enter(code, page="room", plan="0")
    button(app, "Enter the plan in the strip").click().run()
    for _ in range(200):
        app.run()
        if "Not on the board" in said(app):
            break
    assert "at most 0.0001 is asked for" in said(app)
    means = enter(code, page="room", plan="0,mean(1)")
    button(means, "Enter the plan in the strip").click().run()
    means.run()
    assert "no means, no other models" in said(means)
    assert rooms.board(code) == []


def test_an_organiser_steers_and_a_wrong_key_does_not(enter: Enter, rooms: Rooms) -> None:
    code, key = rooms.create(WORKSHOP)
    stranger = enter(code, name=None, page="room", key="wrong")
    assert "This key opens no room" in said(stranger)
    assert not [one for one in stranger.button if one.label == "Show my plan to everybody"]
    app = enter(code, token="d" * 32, name=None, page="room", key=key, plan="0-2")
    button(app, "Show my plan to everybody").click().run()
    found = rooms.room(code)
    assert found is not None
    assert (found.pushed, found.plan) == (1, "0-2")
    assert app.session_state["room-key"] == key
    assert key not in str(dict(app.query_params))
    button(app, "End it").click().run()
    ended = rooms.room(code)
    assert ended is not None
    assert ended.ended is not None
    late = enter(code, token="e" * 32, name=None, page="room")
    assert "This room is over" in said(late)


def test_a_link_for_somebody_else_has_neither_room_nor_key(enter: Enter, rooms: Rooms) -> None:
    from surgery_ui.session.address import Address

    code, _ = rooms.create()
    assert Address(room=code).parameters() == {"room": code}
    assert Address.read({"room": code.lower()}).room == code
    assert Address.read({"room": "../x"}).room is None


def test_cells_that_a_spreadsheet_would_compute_begin_with_an_apostrophe() -> None:
    rows = [{"name": "=1+1", "step": 1, "done": True, "hints": 0, "minutes": None, "answer": '-2, "said" he\nand left'}]
    (found,) = csv.DictReader(io.StringIO(as_csv(rows)))
    assert found["name"] == "'=1+1"
    assert found["answer"] == '\'-2, "said" he\nand left'
    assert found["minutes"] == ""


def test_a_file_that_breaks_while_people_are_in_a_room_is_a_sentence(
    enter: Enter, rooms: Rooms, tmp_path: Path
) -> None:
    code, _ = rooms.create(WORKSHOP)
    app = enter(code, page="room", plan="0-2")
    for path in tmp_path.glob("rooms.sqlite*"):
        path.write_bytes(b"no database" * 400)
    for _ in range(2):
        app.run()
        assert not app.exception
        assert "cannot be read" in said(app)
    assert app.query_params["plan"] in ("0-2", ["0-2"])


def test_another_model_than_the_rooms_is_refused_with_a_word(enter: Enter, rooms: Rooms) -> None:
    code, _ = rooms.create(WORKSHOP)
    app = enter(code)
    (picker,) = [one for one in app.selectbox if one.label == "Model"]
    picker.set_value("other").run()
    assert app.query_params["model"] in ("fable", ["fable"])
    assert "The organiser of this room has chosen fable for everybody" in said(app)


def test_noting_where_somebody_is_does_not_count_as_a_click(enter: Enter, rooms: Rooms) -> None:
    code, _ = rooms.create(WORKSHOP)
    app = enter(code)
    app.session_state["room-noted"] = ("", -1e9)
    app.run()
    assert rooms.where(code) == {"": 1}
    assert app.session_state["edited"] is False
