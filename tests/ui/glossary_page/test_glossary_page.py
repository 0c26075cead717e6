"""The Glossary page without a browser: all words, a search, and the way there from every page."""

from __future__ import annotations

import pytest

from surgery_ui.glossary_page.view import SEARCH
from surgery_ui.sidebar.foot import WORDS
from tests.ui.conftest import Open
from tests.ui.support.reading import said


def test_all_words_are_there_and_a_search_leaves_those_that_have_it(open_app: Open) -> None:
    app = open_app("glossary")
    assert not app.exception
    everything = said(app)
    assert "##### Perplexity" in everything
    assert "##### Residual stream" in everything
    assert "**Range:** 0 to 100 %" in everything
    app.text_input(key=SEARCH).set_value("cosine similarity").run()
    left = said(app)
    assert "##### Block Influence" in left
    assert "##### Perplexity" not in left
    app.text_input(key=SEARCH).set_value("elephant").run()
    assert "No word here has that in it" in said(app)
    assert not app.subheader


def test_the_page_leaves_the_plan_alone(open_app: Open) -> None:
    app = open_app("glossary", plan="0,2-3")
    assert app.query_params["plan"] in ("0,2-3", ["0,2-3"])
    assert app.text_input(key="notation").value == "0,2-3"


@pytest.mark.parametrize("page", [None, "lens", "sweep", "skills", "gallery", "compare", "models"])
def test_every_page_leads_there(open_app: Open, page: str | None) -> None:
    app = open_app(page)
    assert [link.proto.page for link in app.get("page_link") if link.proto.label == WORDS] == ["glossary"]
