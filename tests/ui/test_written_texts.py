"""What people write into every field of every page: nobody else has it, and no mark in it becomes an element."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery_ui.session import room
from surgery_ui.work import limits as organised
from surgery_ui.work import plan_jobs, sweep_jobs
from tests.ui.conftest import ROOT, Open
from tests.ui.room_page.test_room_page import WORKSHOP, person

PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
MARKS = "<img src=x onerror=alert(1)> [mark](javascript:alert(1)) :red[mark] $\\mark$ <b>`**mark**"
IN_LINKS = ("prompt", "lens", "comment", "system", "tray", "recipe")
"""What a link may say of one's own texts, names and choices."""
FIRST, SECOND = "a" * 32, "b" * 32


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Open a room that two people have joined, with a diary."""
    monkeypatch.setenv("MODEL_SURGERY_STATE", str(tmp_path))
    monkeypatch.setenv("MODEL_SURGERY_LOG", str(tmp_path / "diary.jsonl"))
    organised.limits.cache_clear()
    room.store.cache_clear()
    made, _ = room.store().create(WORKSHOP)
    yield made
    monkeypatch.undo()
    organised.limits.cache_clear()
    room.store.cache_clear()


def come(open_app: Open, page: str, code: str, token: str, **address: str) -> AppTest:
    app = open_app(page, room=code, **address)
    app.session_state["tab-token"] = token
    room.store().join(code, person(token), room.store().name(code, person(token)) or "")
    app.run()
    assert not app.exception
    return app


def fill(app: AppTest, text: str) -> list[str]:
    """Write a text into every field, and press what takes it; return the keys of the fields."""
    keys = [field.key for kind in ("text_input", "text_area") for field in app.get(kind) if not field.disabled]
    for at, key in enumerate(keys):
        for kind in ("text_input", "text_area"):
            for field in [one for one in app.get(kind) if one.key == key]:
                field.set_value(f"{text}{at}"[: field.proto.max_chars or None]).run()
                assert not app.exception, key
    for key in ("own-score", "set-use"):
        for button in [one for one in app.button if one.key == key]:
            button.click().run()
            assert not app.exception, key
    return keys


def drawn(app: AppTest) -> list[Any]:
    """Return the messages of everything on the page."""
    return [node.proto for node in app._tree if getattr(node, "proto", None) is not None]


def test_nobody_else_has_what_somebody_writes(open_app: Open, code: str, tmp_path: Path) -> None:
    filled: set[str] = set()
    for page in PAGES:
        said = {name: f"qanary {name} of {page}" for name in IN_LINKS}
        writer = come(open_app, page, code, FIRST, **said)
        filled |= set(fill(writer, f"qanary {page} "))
        assert "qanary" in repr(writer.query_params), page
    assert filled >= {"notation", "prompt", "lens", "own-typed", "permute-order", f"room-answer-{code}-0"}
    mine = room.store().name(code, person(FIRST))
    for page in PAGES:
        reader = come(open_app, page, code, SECOND)
        assert "qanary" not in "".join(map(str, drawn(reader))), page
        held = repr(vars(reader.session_state))
        assert SECOND in held, "that is all of it"
        assert "qanary" not in held, page
        assert "qanary" not in str(reader.query_params)
        owner = reader.session_state["owner"]
        for pool in (plan_jobs.WORK, plan_jobs.MODELS, sweep_jobs.SWEEPS):
            assert not [job.key for (who, _), job in pool._lanes.items() if who == owner and "qanary" in repr(job.key)]
    diary = (tmp_path / "diary.jsonl").read_text(encoding="utf-8")
    assert "qanary" not in diary
    assert [json.loads(line)["event"] for line in diary.splitlines()]
    # names are for the board, and answers for the organiser
    assert mine != room.store().name(code, person(SECOND))


def test_no_mark_in_what_is_written_becomes_an_element(open_app: Open, code: str) -> None:
    for page in PAGES:
        app = come(open_app, page, code, FIRST)
        for name in IN_LINKS:
            app.query_params[name] = MARKS
        app.run()
        fill(app, MARKS)
        room.store().join(code, person(FIRST), MARKS)
        app.run()
        for proto in drawn(app):
            check(proto, page)


def check(proto: Any, page: str) -> None:
    """Refuse marks that a browser would make elements of: raw HTML, and Markdown that is not escaped."""
    kind = type(proto).__name__
    if kind == "Html" or (kind == "Markdown" and proto.allow_html):
        assert not re.search(r"<(img|b>)", proto.body), page
    said = [getattr(proto, name, "") for name in ("label", "help")]
    said += [proto.body] if kind in ("Markdown", "Alert", "Heading", "Metric") else []
    said += [proto.text] if kind == "Progress" else []
    for text in filter(None, said):
        outside = re.sub(r"(`+).+?\1", "", str(text), flags=re.DOTALL)
        assert not re.search(r"(?<!\\)\[mark\\?\]\(|(?<!\\):red\[mark|(?<!\\)\$\\+mark|(?<!\\)\*\*mark", outside), (
            page,
            text,
        )
