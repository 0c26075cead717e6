"""An edit's text is begun before anything is sent to the browser, once a run, and only where it is shown."""

from __future__ import annotations

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from surgery_ui.session import session
from surgery_ui.surgery_page import writing
from tests.ui.conftest import Open
from tests.ui.support.reading import type_notation

DRAWN, BEGUN = "page", "text"


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is written down: when a page's first element is sent, and what text is begun."""
    found: list[str] = []
    page, begin = st.set_page_config, writing.begin_writing

    def sent(*arguments: object, **options: object) -> None:
        found.append(DRAWN)
        page(*arguments, **options)  # type: ignore[arg-type]

    def begun() -> None:
        now = session.experiment()
        assert now is not None
        found.append(f"{BEGUN} {now.loaded.info.name} {now.plan}")
        begin()

    monkeypatch.setattr(st, "set_page_config", sent)
    monkeypatch.setattr(writing, "begin_writing", begun)
    return found


def test_an_edit_is_written_before_the_page_is_sent(open_app: Open, order: list[str]) -> None:
    app = open_app()
    assert order == [DRAWN, f"{BEGUN} fable 0-3"]
    order.clear()
    type_notation(app, "0,2-3")
    assert order == [f"{BEGUN} fable 0,2-3", DRAWN]
    order.clear()
    app.button(key="undo").click().run()
    assert order == [f"{BEGUN} fable 0-3", DRAWN]


def test_other_pages_write_no_text(open_app: Open, order: list[str]) -> None:
    app = open_app("lens")
    order.clear()
    type_notation(app, "0,2-3")
    assert order == [DRAWN]
    order.clear()
    app.switch_page("../pages/surgery.py").run()
    assert order == [DRAWN, f"{BEGUN} fable 0,2-3"]


def test_another_model_is_opened_before_its_text_is_begun(open_app: Open, order: list[str]) -> None:
    app: AppTest = open_app(plan="0,2-3")
    order.clear()
    app.selectbox(key="picker").set_value("other").run()
    assert order == [DRAWN, f"{BEGUN} other 0-3"]
