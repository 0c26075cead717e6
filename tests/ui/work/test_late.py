"""Fields that a browser draws late, or whose newest value it has not drawn yet, are never taken for a person's input."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery_ui.parts import examples
from surgery_ui.session import echo
from tests.ui.conftest import Open
from tests.ui.support.late import protos, run_drawn_late, run_unseen, values
from tests.ui.support.reading import errors, plan, type_notation

PAGES = ("surgery", "lens", "sweep", "skills", "gallery", "models", "room", "glossary")
TEXTS = (("surgery", "prompt", "prompt-pick"), ("lens", "lens", "lens-pick"))
EXAMPLES = examples.texts()
LINK = {"plan": "0,2-3", "prompt": "A wolf", "lens": "A fox", "length": "5"}


@pytest.fixture(autouse=True)
def _long_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with much else to do takes longer over two runs than a browser does between two messages."""
    monkeypatch.setattr(echo, "MOMENT", 60.0)


def prepared(open_app: Open, page: str) -> AppTest:
    """Return a page with a plan and texts of its own, and every field changed that a page keeps."""
    app = open_app(page, **LINK)
    for key, value in {
        "sweep-family": "Scale",
        "sweep-texts": "Pick some",
        "sweep-picked": ["The kitchen at the mill"],
        "search-beam": 3,
        "lens-metric": "entropy",
        "preset": "drop-one",
    }.items():
        app.session_state[key] = value
    return app.run()


def picker(app: AppTest, pick: str) -> Any:
    """Return the field with the examples: pills on one page, a list on the other."""
    return app.selectbox(key=pick) if pick == "lens-pick" else app.pills(key=pick)


def pick_example(app: AppTest, pick: str, title: str) -> AppTest:
    picked: AppTest = picker(app, pick).set_value(title).run()
    return picked


def type_text(app: AppTest, field: str, text: str) -> AppTest:
    return app.text_area(key=field).set_value(text).run()


@pytest.mark.parametrize("page", PAGES)
def test_fields_drawn_late_change_nothing(open_app: Open, page: str) -> None:
    app = prepared(open_app, page)
    before = values(app)
    assert before["notation"] == "0,2-3"
    run_unseen(app)
    assert len(protos(app)) >= 4
    run_drawn_late(app)
    assert not app.exception
    assert not app.error
    assert plan(app) == "0,2-3"
    assert values(app) == before
    assert {name: app.query_params[name] for name in LINK} == LINK
    assert app.button(key="undo").disabled is False
    assert app.button(key="redo").disabled is True


@pytest.mark.parametrize(
    ("page", "before"),
    [
        ("lens", {"lens-view": "Difference", "lens-kind": "logit"}),
        (
            "sweep",
            {"sweep-family": "Scale and replace", "sweep-from": "The unchanged model", "sweep-texts": "Pick some"},
        ),
        ("skills", {"skills-kind": "delete-mlp", "skills-show": "Changed"}),
    ],
)
def test_a_choice_that_a_browser_sends_as_none_stays(open_app: Open, page: str, before: dict[str, str]) -> None:
    app = open_app(page, **LINK)
    for key, value in before.items():
        app.session_state[key] = value
    app.run()
    shown = [control.key for control in app.segmented_control if control.key is not None]
    kept = values(app)
    assert len(shown) >= 2
    for key in shown:
        app.segmented_control(key=key).set_value(None)
    app.run()
    assert not app.exception
    assert values(app) == kept


def test_the_helper_sends_what_a_browser_would(open_app: Open) -> None:
    app = open_app(**LINK)
    for proto in protos(app):
        if hasattr(proto, "set_value"):
            proto.set_value = False
        if type(proto).__name__ == "TextInput" and proto.label == "Notation":
            proto.default = "0-1"
    assert plan(run_drawn_late(app)) == "0-1"


@pytest.mark.parametrize("typed", ["", "  "])
def test_an_emptied_notation_is_refused_and_the_plan_stays(open_app: Open, typed: str) -> None:
    app = type_notation(open_app(plan="0,2"), typed)
    assert "stays 0,2" in errors(app)
    assert plan(app) == "0,2"
    assert app.text_input(key="notation").value == "0,2"
    type_notation(app, "0-1")
    assert not app.error
    assert plan(app) == "0-1"


def test_the_plan_without_layers_is_reached_on_purpose(open_app: Open) -> None:
    assert plan(open_app(plan="")) == ""
    app = open_app(plan="0-1")
    app.multiselect(key="delete-which").set_value([0, 1])
    next(button for button in app.button if button.label == "Delete them").click().run()
    assert plan(app) == ""
    assert not app.error


def test_the_notation_of_before_a_quick_edit_is_no_edit(open_app: Open) -> None:
    app = type_notation(type_notation(open_app(), "0-2"), "0-1")
    app.button(key="undo").click().run()
    # The browser did not hear of the undo yet: its next click comes with the notation of before.
    app.text_input(key="notation").set_value("0-1")
    app.button(key="undo").click().run()
    assert plan(app) == "0-3"
    assert app.text_input(key="notation").value == "0-3"
    for _ in range(2):
        app.button(key="redo").click().run()
    assert plan(app) == "0-1"


def test_the_same_notation_a_moment_later_is_a_persons(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    app = type_notation(open_app(), "0-2")
    app.button(key="undo").click().run()
    monkeypatch.setattr(echo, "MOMENT", 0.0)
    assert plan(type_notation(app, "0-2")) == "0-2"


@pytest.mark.parametrize(("page", "field", "pick"), TEXTS)
def test_the_text_of_before_an_example_was_picked_is_no_input(open_app: Open, page: str, field: str, pick: str) -> None:
    app = type_text(open_app(page), field, "Two foxes")
    pick_example(app, pick, "A fable")
    assert app.text_area(key=field).value == EXAMPLES["A fable"]
    # The browser did not hear of the new text yet: its next click comes with the old one.
    app.text_area(key=field).set_value("Two foxes")
    type_notation(app, "0-2")
    assert app.text_area(key=field).value == EXAMPLES["A fable"]
    assert app.query_params[field] == EXAMPLES["A fable"]
    assert plan(app) == "0-2"


@pytest.mark.parametrize(("page", "field", "pick"), TEXTS)
def test_the_pick_of_before_a_text_was_typed_leaves_that_text(open_app: Open, page: str, field: str, pick: str) -> None:
    app = pick_example(open_app(page), pick, "A fable")
    type_text(app, field, "Two foxes")
    assert picker(app, pick).value is None
    picker(app, pick).set_value("A fable")
    type_notation(app, "0-2")
    assert app.text_area(key=field).value == "Two foxes"
    assert picker(app, pick).value is None
    assert plan(app) == "0-2"


@pytest.mark.parametrize(("page", "field", "pick"), TEXTS)
def test_the_same_text_and_example_a_moment_later_are_a_persons(
    open_app: Open, monkeypatch: pytest.MonkeyPatch, page: str, field: str, pick: str
) -> None:
    monkeypatch.setattr(echo, "MOMENT", 0.0)
    app = type_text(open_app(page), field, "Two foxes")
    pick_example(app, pick, "A fable")
    assert app.text_area(key=field).value == EXAMPLES["A fable"]
    type_text(app, field, "Two foxes")
    assert app.query_params[field] == "Two foxes"
    pick_example(app, pick, "A fable")
    assert app.query_params[field] == EXAMPLES["A fable"]


def test_the_picker_of_before_another_model_was_opened_is_no_choice(open_app: Open) -> None:
    app = open_app("models")
    app.button(key="open-other").click().run()
    picker: Any = app.selectbox(key="picker")
    picker.set_value("fable").run()
    assert app.query_params["model"] == "other"
