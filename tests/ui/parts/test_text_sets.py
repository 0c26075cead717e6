"""One choice of texts for the whole session: on both pages, in the link, and in what is measured."""

from __future__ import annotations

from pathlib import Path

from surgery_core import load_model, sweep
from surgery_core.text import bundled_texts, text_sets
from surgery_ui.session.address import Address
from tests.ui.conftest import Open


def test_the_sets_that_come_along() -> None:
    """By hand: twelve short texts; sixty passages of 150 to 250 words, no two of one title."""
    sets = text_sets()
    assert list(sets) == ["short", "stories"]
    assert sets["short"].texts == bundled_texts()
    stories = sets["stories"].texts
    assert len(stories) == len({text.title for text in stories}) == 60
    assert all(150 <= len(text.text.split()) <= 250 for text in stories)
    assert sets["stories"].about.startswith("60 passages of 3 children's books")


def test_a_set_is_chosen_once_for_all_pages(open_app: Open) -> None:
    app = open_app()
    app.segmented_control(key="surgery-texts").set_value("Stories").run()
    assert not app.exception
    assert app.query_params["texts"] == "stories"
    assert len(app.dataframe[0].value) == 60
    app.switch_page("../pages/sweep.py").run()
    assert app.segmented_control(key="sweep-texts").value == "Stories"
    app.segmented_control(key="sweep-texts").set_value("Short texts").run()
    app.switch_page("../pages/surgery.py").run()
    assert app.segmented_control(key="surgery-texts").value == "Short texts"
    assert len(app.dataframe[0].value) == 12


def test_what_is_picked_stays_when_the_set_does_not_have_it(open_app: Open) -> None:
    app = open_app("sweep")
    app.segmented_control(key="sweep-texts").set_value("Pick some").run()
    picked = app.multiselect(key="sweep-picked")
    assert picked.value == [text.title for text in bundled_texts()[:3]]
    picked.set_value([text.title for text in bundled_texts()]).run()
    assert len(app.multiselect(key="sweep-picked").value) == 12
    app.multiselect(key="sweep-picked").set_value([]).run()
    assert app.multiselect(key="sweep-picked").value == []


def test_a_link_names_the_set_and_a_wrong_name_is_said(open_app: Open) -> None:
    app = open_app(texts="stories")
    assert app.segmented_control(key="surgery-texts").value == "Stories"
    found = Address.read({"texts": "poems"})
    assert found.texts is None
    assert found.problems == ("The address has texts='poems'; there are short, stories. It was left out.",)


def test_what_counts_as_the_same_is_chosen_once_and_kept_in_the_link(open_app: Open) -> None:
    app = open_app(same="7", plan="0,2,3")
    choice = app.segmented_control(key="surgery-texts-margin")
    assert list(choice.options) == ["1 %", "2 %", "5 %", "7 %", "10 %"]
    assert choice.value == "7 %"
    choice.set_value("10 %").run()
    assert app.query_params["same"] == "10"
    app.switch_page("../pages/sweep.py").run()
    assert app.segmented_control(key="sweep-texts-margin").value == "10 %"
    app.segmented_control(key="sweep-texts-margin").set_value("2 %").run()
    assert "same" not in app.query_params


def test_a_wider_margin_makes_the_same_of_no_difference(open_app: Open, models_folder: Path) -> None:
    """Of a plan that sweeps cannot decide."""
    loaded = load_model(str(models_folder / "fable"))
    rows = [
        row
        for kind in ("delete", "swap-pairs", "skip-block", "repeat")
        for row in sweep(loaded.model, loaded.tokenizer, bundled_texts(), kind)
    ]
    plan = next(row.plan for row in rows if row.verdict in ("the same", "no difference seen"))
    words = {}
    for same in ("0.001", "50"):
        app = open_app(same=same, plan=plan)
        app.run()
        words[same] = next(one.value for one in app.markdown if "surprised" in one.value)
    assert "within 50" in words["50"]
    assert "within 0.001" not in words["0.001"]
    assert words["50"] != words["0.001"]
