"""Texts, prompts and files that people give: usable, unusual and wrong ones."""

from __future__ import annotations

import pytest

from surgery_core.text import Text, bundled_prompts, bundled_texts
from surgery_ui.work import plan_jobs as cached
from tests.ui.conftest import Open
from tests.ui.support.reading import errors, metrics, plan, table, written


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "empty"), ("   \n", "empty"), ("a", "at least 2"), ("a\0b", "NUL"), ("x" * 1_000_001, "1,000,000")],
)
def test_an_unusable_own_text_is_explained_and_the_table_stays(open_app: Open, text: str, said: str) -> None:
    app = open_app(plan="0-2")
    before = table(app)
    app.text_area(key="own-typed").set_value(text)
    app.button(key="own-score").click().run()
    assert not app.exception
    assert len(app.error) == 1
    assert said in errors(app)
    assert table(app).equals(before)


@pytest.mark.parametrize("text", ["A dragon 🐉 and a fox", "Zwölf Boxkämpfer jagen Viktor", "x" * 3_000])
def test_unusual_own_texts_are_scored(open_app: Open, text: str) -> None:
    app = open_app(plan="0-2")
    app.text_area(key="own-typed").set_value(text)
    app.button(key="own-score").click().run()
    assert not app.error
    assert table(app).iloc[0]["title"] == "Your text"
    assert table(app).iloc[0]["tokens"] == len(text.encode()) - 1


def test_an_uploaded_file_is_scored_survives_a_reload_and_can_be_taken_out(open_app: Open) -> None:
    app = open_app(plan="0-2")
    app.file_uploader(key="own-file").set_value(("tale.txt", "Es war einmal ein König.".encode(), "text/plain")).run()
    assert not app.error
    row = table(app).iloc[0]
    assert row["title"] == "tale.txt"
    again = open_app(**app.query_params)
    assert table(again).iloc[0].equals(row)
    again.button(key="own-remove").click().run()
    assert len(table(again)) == len(bundled_texts())
    assert "own" not in again.query_params


def test_an_upload_that_is_not_utf8_is_explained(open_app: Open) -> None:
    app = open_app()
    app.file_uploader(key="own-file").set_value(("tale.txt", b"caf\xe9 \xff", "text/plain")).run()
    assert "UTF-8" in errors(app)
    assert len(table(app)) == len(bundled_texts())


@pytest.mark.parametrize(("prompt", "said"), [("word " * 200, "at most 128"), ("a\0b", "NUL")])
def test_an_unusable_prompt_is_explained_and_the_scores_stay(open_app: Open, prompt: str, said: str) -> None:
    app = open_app(plan="0-2")
    before = metrics(app), table(app)
    app.text_area(key="prompt").set_value(prompt).run()
    assert not app.exception
    assert len(app.error) == 1
    assert said in errors(app)
    assert metrics(app) == before[0]
    assert table(app).equals(before[1])


@pytest.mark.parametrize("prompt", ["A dragon 🐉", ""])
def test_unusual_prompts_work_and_survive_a_reload(open_app: Open, prompt: str) -> None:
    app = open_app(plan="0-2", length="4")
    app.text_area(key="prompt").set_value(prompt).run()
    assert not app.error
    assert len(written(app)) == 2
    again = open_app(**app.query_params)
    assert again.text_area(key="prompt").value == prompt
    assert written(again) == written(app)


def test_a_prompt_is_picked_by_its_title(open_app: Open) -> None:
    app = open_app()
    last = bundled_prompts()[-1]
    app.pills(key="prompt-pick").select(last.title).run()
    assert app.text_area(key="prompt").value == last.text


@pytest.mark.parametrize("text", ["a\0b", " ", ""])
def test_an_unusable_lens_text_is_explained(open_app: Open, text: str) -> None:
    app = open_app("lens", plan="0-2")
    app.text_area(key="lens").set_value(text).run()
    assert not app.exception
    assert len(app.error) == 1
    assert plan(app) == "0-2"


def test_a_long_lens_text_is_read_in_part_and_says_so(open_app: Open) -> None:
    app = open_app("lens")
    app.text_area(key="lens").set_value("word " * 100).run()
    assert not app.error
    assert "0 to 127 of 500" in app.info[0].value.replace("\\", "")
    app.select_slider(key="lens-start").set_value(100).run()
    assert not app.exception


def test_text_that_looks_like_html_is_shown_as_text(open_app: Open) -> None:
    app = open_app(prompt="<img src=x onerror=alert(1)>", length="2")
    body = app.get("html")[0].body
    assert "<img" not in body
    assert "&lt;img src=x onerror=alert(1)&gt;" in body


def test_a_text_of_ones_own_that_is_called_like_a_bundled_one_has_a_label_of_its_own(open_app: Open) -> None:
    title = bundled_texts()[0].title
    app = open_app(plan="0-2")
    app.session_state["own"] = cached.keep_own_text(Text(title, "The little mouse ran up the clock."))
    app.run()
    assert not app.exception
    choice = app.selectbox(key="detail")
    assert choice.options[:2] == [f"{title} (yours)", title]
    assert len(set(choice.options)) == len(choice.options)
    choice.set_value(0).run()
    assert not app.exception
    assert app.selectbox(key="detail").value == 0
