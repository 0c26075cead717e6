"""The end of the sidebar without a browser: larger type, and what the tour is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery_ui.parts.chart_specs import PRESENTED
from surgery_ui.session.address import Address
from tests.ui.conftest import Open
from tests.ui.support.reading import charts, errors, type_notation


def present(app: AppTest) -> Any:
    return app.toggle(key="present-switch")


def mounted(app: AppTest, name: str) -> dict[str, Any]:
    """Return what a component of ours was given last."""
    found = [one.proto for one in app.get("bidi_component") if one.proto.component_name.endswith(name)]
    (proto,) = found
    return dict(json.loads(proto.json or proto.mixed.json))


def label_size(app: AppTest) -> float | None:
    config = json.loads(charts(app)[0].proto.spec)["config"]["axis"]
    size = config.get("labelFontSize")
    return None if size is None else float(size)


def test_present_goes_into_the_address_and_over_all_pages(open_app: Open) -> None:
    app = open_app(plan="0,2-3")
    assert not present(app).value
    assert "present" not in app.query_params
    assert mounted(app, "type_size") == {"times": 1.0}
    present(app).set_value(True).run()
    assert app.query_params["present"] in ("1", ["1"])
    assert mounted(app, "type_size") == {"times": PRESENTED}
    for page in ("lens", "skills", "models", "surgery"):
        app.switch_page(f"../pages/{page}.py").run()
        assert not app.exception
        assert present(app).value
        assert mounted(app, "type_size") == {"times": PRESENTED}
    present(app).set_value(False).run()
    assert "present" not in app.query_params


def test_charts_have_larger_labels_then(open_app: Open) -> None:
    app = open_app(plan="0,2-3")
    assert label_size(app) is None, "the theme's"
    present(app).set_value(True).run()
    assert label_size(app) == 12 * PRESENTED
    present(app).set_value(False).run()
    assert label_size(app) is None


@pytest.mark.parametrize("page", [None, "lens", "sweep", "skills", "gallery", "compare", "models", "glossary"])
def test_a_page_opens_with_large_type(open_app: Open, page: str | None) -> None:
    app = open_app(page, plan="0,2-3", present="1")
    assert not app.exception
    assert not app.error
    assert present(app).value


def test_what_is_no_switch_is_named_and_a_link_for_others_says_nothing_of_the_screen(open_app: Open) -> None:
    app = open_app(plan="0-2", present="huge")
    assert "present='huge'; allowed is 0 or 1" in errors(app)
    assert not present(app).value
    assert Address.read({"present": "1"}).parameters() == {"present": "1"}
    assert Address.read({"present": "0"}).parameters() == {}


def test_the_tour_begins_by_itself_only_where_the_address_says_nothing(open_app: Open) -> None:
    assert mounted(open_app(), "tour")["invited"] is True
    assert mounted(open_app(plan="0-2"), "tour")["invited"] is False
    assert mounted(open_app(present="1"), "tour")["invited"] is False


def test_the_tour_is_told_what_was_done(open_app: Open) -> None:
    app = open_app()
    facts = mounted(app, "tour")["facts"]
    assert (facts["page"], facts["changed"], facts["sweeps"]) == ("", False, 0)
    type_notation(app, "0-2")
    assert mounted(app, "tour")["facts"]["changed"] is True
    app.button(key="undo").click().run()
    assert mounted(app, "tour")["facts"]["changed"] is False


@pytest.mark.parametrize(("page", "chapter"), [("lens", "lens"), ("sweep", "sweep"), ("models", ""), ("glossary", "")])
def test_the_button_asks_for_the_pages_chapter_or_the_whole_tour(open_app: Open, page: str, chapter: str) -> None:
    app = open_app(page)
    for count in (1, 2):
        app.button(key="tour-start").click().run()
        told = mounted(app, "tour")
        assert (told["asked"], told["chapter"], told["facts"]["page"]) == (count, chapter, page)


def test_going_to_another_page_by_a_button_keeps_the_type(open_app: Open) -> None:
    app = open_app("gallery", present="1", recipe="delete-each")
    app.button(key="gallery-do").click().run()
    assert not app.exception
    assert mounted(app, "tour")["facts"]["page"] == "sweep"
    assert present(app).value
