"""The Models page: what is in memory, and closing what is not used here."""

from __future__ import annotations

import re
from typing import Any

import pytest

from surgery_ui.work import closing
from tests.ui.conftest import Open
from tests.ui.support.reading import said


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the sessions of other tests."""
    monkeypatch.setattr(closing, "_used", {})


def in_memory(app: Any) -> int:
    """Return how many models the page says are open; other tests may have left some."""
    (found,) = re.findall(r"(\d+) models? (?:is|are) in memory and takes?", said(app))
    return int(found)


def test_another_model_is_closed_and_opens_again(open_app: Open) -> None:
    app = open_app("models")
    opened = [button.key for button in app.button if str(button.key).startswith("close-")]
    assert "close-fable" not in opened
    app.button(key="open-other").click().run()
    before = in_memory(app)
    assert before >= 2
    # this person's own use of the one that was left does not count
    assert not app.button(key="close-fable").disabled
    app.button(key="close-fable").click().run()
    assert in_memory(app) == before - 1
    assert "close-fable" not in [button.key for button in app.button]
    app.button(key="open-fable").click().run()
    assert not app.exception
    assert in_memory(app) == before


def test_a_model_that_somebody_else_works_with_is_not_closed(open_app: Open) -> None:
    mine, hers = open_app("models"), open_app("models", model="other")
    mine.run()
    button = mine.button(key="close-other")
    assert button.disabled
    assert "1 other person works with it" in button.help
    hers.button(key="open-fable").click().run()
    mine.run()
    assert not mine.button(key="close-other").disabled


def test_a_model_that_a_plan_takes_layers_from_is_not_closed(open_app: Open) -> None:
    open_app("models", model="other")
    mine = open_app("models", plan="0-2,other:3")
    mine.run()
    button = mine.button(key="close-other")
    assert button.disabled
    closing._used.pop("other")
    closing.note_use(str(mine.session_state["owner"]), ["fable", "other"])
    mine.run()
    assert "A plan of yours takes layers from it" in mine.button(key="close-other").help
