"""The Skills page without a browser: before and after, every prompt, skill by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery_core.measure.skills import load_skills, score_skills
from tests.ui.conftest import Open
from tests.ui.support.reading import metrics, said, wait

ByHand = Callable[[list[int]], Any]


def table(app: AppTest) -> Any:
    return next(frame.value for frame in app.dataframe if "prefers_before" in frame.value)


def test_the_unchanged_model_has_one_side(open_app: Open) -> None:
    app = open_app("skills")
    assert not app.exception
    assert "Nothing is changed yet" in said(app)
    assert "prefers_after" not in table(app)
    assert app.segmented_control(key="skills-show").options == ["All", "Wrong before"]


def test_both_sides_are_those_of_models_built_by_hand(open_app: Open, by_hand: ByHand, tiny_tokenizer: Any) -> None:
    app = open_app("skills", plan="0,2-3")
    before, after = (score_skills(by_hand(layers), tiny_tokenizer) for layers in ([0, 1, 2, 3], [0, 2, 3]))
    mean = sum(result.accuracy for result in after) / len(after)
    assert metrics(app)["Mean accuracy"] == f"{mean:.1%}"
    frame = table(app)
    assert len(frame) == sum(len(skill.items) for skill in load_skills())
    for column, results in (("margin_before", before), ("margin_after", after)):
        margins = [item.margin for result in results for item in result.items]
        assert list(frame[column]) == pytest.approx(margins, abs=1e-4)


def test_the_list_is_filtered_by_skill_and_by_what_became_of_an_answer(open_app: Open) -> None:
    app = open_app("skills", plan="3,2,1,0")
    everything = table(app)
    app.multiselect(key="skills-which").set_value(["Opposites"]).run()
    assert set(table(app)["skill"]) == {"Opposites"}
    app.multiselect(key="skills-which").set_value([]).run()
    app.session_state["skills-show"] = "Lost"
    app.run()
    lost = everything[everything["change"] == "lost"]
    assert len(table(app)) == len(lost) > 0
    app.session_state["skills-show"] = "Wrong after"
    app.run()
    assert (table(app)["margin_after"] <= 0).all()


def test_a_filter_that_leaves_nothing_says_so(open_app: Open) -> None:
    app = open_app("skills", plan="0-3,3*0")
    app.session_state["skills-show"] = "Changed"
    app.run()
    assert "No prompt is left" in said(app)


def test_skill_by_layer_fills_and_is_kept(open_app: Open, by_hand: ByHand, tiny_tokenizer: Any) -> None:
    app = open_app("skills", plan="0,2,1,3")
    wait(app, lambda: "tokens: **" in said(app))
    app.button(key="skills-start").click().run()
    (entry,) = app.session_state["sweeps"]
    wait(app, lambda: entry.state == "finished").run()
    assert "With nothing more taken out" in said(app)
    assert not app.get("progress")
    expected = score_skills(by_hand([0, 2, 3]), tiny_tokenizer)
    row = next(row for row in entry.rows if row.plan == "0,2-3")
    assert row.skills == pytest.approx({result.skill.title: result.accuracy for result in expected})
    app.switch_page("../pages/sweep.py").run()
    assert app.selectbox(key="sweep-list").options == ["Skills: delete each layer"]
    app.switch_page("../pages/skills.py").run()
    assert not [button for button in app.button if button.key == "skills-start"]
    app.session_state["skills-kind"] = "delete-mlp"
    app.run()
    assert app.button(key="skills-start")


def test_a_plan_without_layers_is_scored_but_has_no_layer_to_delete(open_app: Open) -> None:
    app = open_app("skills", plan="")
    assert not app.exception
    assert "there is none to delete" in said(app)
    assert "Mean accuracy" in metrics(app)


def test_bad_notation_loses_nothing(open_app: Open) -> None:
    app = open_app("skills", plan="0,2-3")
    before = metrics(app)
    app.text_input(key="notation").set_value("0-9").run()
    assert len(app.error) == 1
    assert metrics(app) == before
