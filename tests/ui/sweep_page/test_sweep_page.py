"""The Sweep page without a browser: sweeps start, fill, pause, go on, are cancelled."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import streamlit as st

from surgery_ui.components.pictured import Choice
from surgery_ui.parts import files as saved
from surgery_ui.parts.asked_sweep import OWN, PICK
from surgery_ui.sweep_page import questions, removal_view
from surgery_ui.sweep_page.controls import read_factors
from surgery_ui.sweep_page.questions import QUESTIONS
from surgery_ui.words import sweeps as sweep_words
from tests.ui.conftest import Open
from tests.ui.support.reading import errors, said, wait
from tests.ui.support.sweeping import click, entries, finished, open_tab, run_sweep, sweep_page

ByHand = Callable[[list[int]], Any]


@pytest.mark.parametrize("kind", [kind for kinds in sweep_words.families(adapter=False).values() for kind in kinds])
def test_every_kind_runs_to_its_end(open_app: Open, kind: str) -> None:
    app = run_sweep(open_app, kind)
    (entry,) = entries(app)
    assert not app.exception
    assert not app.error
    assert entry.done == len(entry.planned)
    assert f"All {len(entry.planned)} plans measured." in said(app)
    assert len(app.get("vega_lite_chart")) == (3 if kind == "atlas" else 1)


def test_every_kind_of_the_library_is_offered_once() -> None:
    from surgery_core.sweeps.kinds import KINDS

    offered = [kind for kinds in sweep_words.FAMILIES.values() for kind in kinds]
    assert sorted(offered) == sorted(kind.key for kind in KINDS)


def test_rows_are_those_of_models_built_by_hand(open_app: Open, by_hand: ByHand, tiny_tokenizer: Any) -> None:
    import torch

    text = "A short text of my own, for one window."
    app = sweep_page(open_app)
    app.session_state["sweep-texts"] = OWN
    app.run()
    app.text_area(key="own-typed").set_value(text).run()
    app.button(key="own-score").click().run()
    app.button(key="sweep-start").click().run()
    wait(app, lambda: finished(app))

    def perplexity(layers: list[int]) -> float:
        ids = torch.tensor([tiny_tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            logits = by_hand(layers)(ids).logits.double()
        return math.exp(torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]))

    found = {row.number: row.perplexity for row in entries(app)[0].rows}
    plans = {-1: [0, 1, 2, 3], 0: [1, 2, 3], 1: [0, 2, 3], 2: [0, 1, 3], 3: [0, 1, 2]}
    assert found == pytest.approx({number: perplexity(layers) for number, layers in plans.items()}, rel=1e-5)


def test_it_starts_from_the_strip_or_from_the_unchanged_model(open_app: Open) -> None:
    app = run_sweep(open_app, plan="0,2,1,3")
    assert str(entries(app)[0].request.start) == "0,2,1,3"
    app.session_state["sweep-from"] = "The unchanged model"
    app.run()
    app.button(key="sweep-start").click().run()
    wait(app, lambda: finished(app))
    assert str(entries(app)[1].request.start) == "0-3"


def test_an_estimate_stands_there_before_the_start(open_app: Open) -> None:
    app = sweep_page(open_app, "skip-block")
    wait(app, lambda: "tokens: **" in said(app))
    assert re.search(r"9 plans over [\d,]+ tokens: \*\*(\d+ to |about )\d+ s\*\*", said(app))
    assert not entries(app)


def test_only_the_best_are_looked_for_where_that_saves_something(open_app: Open) -> None:
    app = sweep_page(open_app, "scale")
    app.text_input(key="sweep-factors").set_value(", ".join(map(str, (0, *range(2, 13), 100)))).run()
    toggle = app.toggle(key="sweep-best-scale")
    assert toggle.label == "Only the best 10"
    assert not toggle.value, "thirteen plans are measured whole unless a person wants it otherwise"
    toggle.set_value(True).run()
    app.button(key="sweep-start").click().run()
    wait(app, lambda: finished(app))
    (entry,) = entries(app)
    assert entry.request.measures.best == 10
    assert entry.done == len(entry.planned) == 13
    assert not app.exception
    left = sum(row.left != "" for row in entry.rows)
    assert ("left early: surely not among the best" in said(app)) == (left > 0)


def test_of_few_plans_or_texts_there_is_no_best_to_look_for(open_app: Open) -> None:
    app = sweep_page(open_app, "delete")
    assert "sweep-best-delete" not in [toggle.key for toggle in app.toggle]
    app = sweep_page(open_app, "scale")
    app.session_state["sweep-texts"] = PICK
    app.run()
    assert "sweep-best-scale" not in [toggle.key for toggle in app.toggle], (
        "three texts are no sample to leave plans by"
    )


def test_the_same_sweep_is_not_run_twice(open_app: Open) -> None:
    app = run_sweep(open_app)
    app.button(key="sweep-start").click().run()
    assert len(entries(app)) == 1


def test_a_layer_is_offered_to_run_only_as_often_as_a_plan_may_be_long(open_app: Open) -> None:
    app = sweep_page(open_app, "repeat")
    assert app.number_input(key="sweep-times").max == 64


def test_loops_have_their_block_their_runs_and_their_parts(open_app: Open) -> None:
    app = sweep_page(open_app, "loop-block")
    app.selectbox(key="sweep-layer-4").set_value(1).run()
    assert app.number_input(key="sweep-block").max == 3
    app.number_input(key="sweep-block").set_value(2).run()
    app.number_input(key="sweep-loops").set_value(3).run()
    app.text_input(key="sweep-parts").set_value("0.5, 1").run()
    app.button(key="sweep-start").click().run()
    wait(app, lambda: finished(app))
    assert [str(point.plan) for point in entries(app)[0].planned] == [
        "0,[1-2]*0.5x2,3", "0-2,1-3", "0,[1-2]*0.5x3,3", "0,(1-2)x3,3",
    ]  # fmt: skip


def test_a_damped_repeat_keeps_the_sum_unless_a_part_is_chosen(open_app: Open) -> None:
    app = sweep_page(open_app, "damped-repeat")
    app.number_input(key="sweep-times").set_value(4).run()
    app.button(key="sweep-start").click().run()
    wait(app, lambda: finished(app))
    app.session_state["sweep-damping"] = "0.5"
    app.run()
    app.button(key="sweep-start").click().run()
    wait(app, lambda: finished(app))
    assert [str(entry.planned[1].plan) for entry in entries(app)] == ["0,1*0.25x4,2-3", "0,1*0.5x4,2-3"]


def test_a_plan_is_taken_over_by_a_field_as_by_a_click(open_app: Open) -> None:
    app = run_sweep(open_app)
    box = next(box for box in app.selectbox if str(box.key).startswith("adopt-sweep"))
    assert [option.split(":")[0] for option in box.options] == ["L0", "L1", "L2", "L3"]
    box.set_value(1).run()
    assert app.query_params["plan"] == "0,2-3"
    box = next(box for box in app.selectbox if str(box.key).startswith("adopt-sweep"))
    assert box.value is None
    app.button(key="undo").click().run()
    assert app.query_params["plan"] == "0-3"


def test_a_person_chooses_the_scale_of_an_axis(open_app: Open) -> None:
    app = run_sweep(open_app)
    assert app.toggle(key="sweep-log").value
    app.toggle(key="sweep-log").set_value(False).run()
    (chart,) = app.get("vega_lite_chart")
    assert "log scale" not in chart.proto.spec
    app.selectbox(key="sweep-metric").set_value("top1").run()
    assert not [one for one in app.toggle if one.key == "sweep-log"]
    app.selectbox(key="sweep-metric").set_value("perplexity").run()
    assert not app.toggle(key="sweep-log").value


def test_a_person_chooses_the_scale_of_colours(open_app: Open) -> None:
    app = run_sweep(open_app, "skip-block", plan="1,0,2-3")
    assert app.toggle(key="sweep-log").value
    app.selectbox(key="sweep-metric").set_value("kl").run()
    assert app.toggle(key="sweep-log").value, "colours begin logarithmic whatever the figures are"
    app.toggle(key="sweep-log").set_value(False).run()
    assert not app.exception
    assert not app.toggle(key="sweep-log").value
    app.selectbox(key="sweep-metric").set_value("top1").run()
    assert not [one for one in app.toggle if one.key == "sweep-log"]


@pytest.mark.usefixtures("clickable")
def test_adopting_a_plan_changes_the_strip_and_can_be_undone(open_app: Open) -> None:
    app = run_sweep(open_app)
    click(app, 1)
    assert app.query_params["plan"] == "0,2-3"
    assert len(entries(app)) == 1
    app.button(key="undo").click().run()
    assert app.query_params["plan"] == "0-3"


def test_options_out_of_range_and_mistyped_factors_are_explained(open_app: Open) -> None:
    app = sweep_page(open_app, "scale")
    app.text_input(key="sweep-factors").set_value("0, half, 2").run()
    assert "'half' is not a number" in errors(app)
    assert app.button(key="sweep-start").disabled
    app.text_input(key="sweep-factors").set_value("0; 0.5").run()
    assert not app.error
    app.button(key="sweep-start").click().run()
    wait(app, lambda: finished(app))
    assert [point.x for point in entries(app)[0].planned] == [0.0, 0.5]


@pytest.mark.parametrize("typed", ["", "nan", "inf", "1e999", "0,,1", "a" * 10_000])
def test_no_factor_that_is_no_number_reaches_a_model(open_app: Open, typed: str) -> None:
    app = sweep_page(open_app, "scale")
    app.text_input(key="sweep-factors").set_value(typed).run()
    assert app.error
    assert not app.exception
    assert app.button(key="sweep-start").disabled


def test_factors_are_read_as_typed() -> None:
    assert read_factors("-1, 0,2.5") == (-1.0, 0.0, 2.5)


def test_no_texts_and_no_text_of_ones_own_are_said_beside_the_choice(open_app: Open) -> None:
    app = sweep_page(open_app)
    app.session_state["sweep-texts"] = PICK
    app.run()
    assert not app.button(key="sweep-start").disabled
    app.multiselect(key="sweep-picked").set_value([]).run()
    assert "No text is chosen" in errors(app)
    assert app.button(key="sweep-start").disabled
    app.session_state["sweep-texts"] = OWN
    app.run()
    assert "no text of your own yet" in said(app)
    assert app.button(key="sweep-start").disabled


def test_a_text_of_ones_own_is_swept_and_one_that_is_too_short_explained(open_app: Open) -> None:
    app = sweep_page(open_app)
    app.session_state["sweep-texts"] = OWN
    app.run()
    app.text_area(key="own-typed").set_value("x").run()
    app.button(key="own-score").click().run()
    wait(app, lambda: "at least 2 are needed" in errors(app))
    app.text_area(key="own-typed").set_value("The little mouse ran up the clock.").run()
    app.button(key="own-score").click().run()
    app.button(key="sweep-start").click().run()
    wait(app, lambda: finished(app))
    assert entries(app)[0].identity.texts.startswith("1 text")


def test_a_block_is_never_longer_than_the_plan(open_app: Open) -> None:
    app = sweep_page(open_app, "skip-block")
    field = app.number_input(key="sweep-length-4")
    assert (field.min, field.max) == (1, 4)
    field.set_value(5).run()
    assert not app.exception
    assert not app.error
    assert 1 <= app.number_input(key="sweep-length-4").value <= 4
    app = sweep_page(open_app, "skip-block", plan="0")
    assert "needs 2 layers or more, and this plan has 1" in said(app)
    assert app.button(key="sweep-start").disabled


def test_a_plan_without_layers_is_explained(open_app: Open) -> None:
    app = sweep_page(open_app, "delete", plan="")
    assert not app.exception
    assert "needs 1 layer or more" in said(app)
    assert app.button(key="sweep-start").disabled


def test_skills_and_written_text_are_measured_when_asked_for(open_app: Open) -> None:
    app = sweep_page(open_app)
    app.session_state["sweep-skills"] = True
    app.session_state["sweep-writes"] = True
    app.run()
    app.button(key="sweep-start").click().run()
    wait(app, lambda: finished(app))
    app.run()
    row = entries(app)[0].rows[0]
    assert len(row.skills) == 9
    assert len(row.distinct) == 3
    app.selectbox(key="sweep-metric").set_value("skill_accuracy").run()
    assert not app.exception
    rows = entries(app)[0].rows
    assert [sum(map(len, row.answers.values())) for row in rows] == [300] * 5
    assert "95 % intervals on prompts like these" in said(app)
    assert re.search(r"(Best of|No winner among) 4 plans? by skills|Best of 4 by skills", said(app))
    assert "Chosen on every second prompt" in said(app)
    (shown,) = [one.value for one in app.dataframe if "Answers" in one.value]
    low, high = (float(end.removesuffix("%")) / 100 for end in shown["Skills, 95 %"].iloc[1].split(" to "))
    right = [given.count("r") / len(given) for given in rows[1].answers.values()]
    assert low < sum(right) / len(right) < high
    assert shown["Answers"].iloc[1] == rows[1].skill_verdict


@pytest.mark.parametrize(
    ("kind", "paper"),
    [
        ("damped-repeat", "2605.23872"),
        ("damped-block", "2605.23872"),
        ("atlas", "2605.23872"),
        ("loop-block", "2602.14759"),
    ],
)
def test_what_the_paper_saw_stands_beside_damped_sweeps(open_app: Open, kind: str, paper: str) -> None:
    app = sweep_page(open_app, kind)
    assert not app.exception
    assert "What a paper saw." in said(app)
    assert f"arXiv {paper}" in said(app)


def plain_buttons(choices: Sequence[Choice], key: str, on_click: Callable[[str], None]) -> None:
    """Stand in for the pictured buttons, which only a browser can click."""
    for choice in choices:
        st.button(choice.label, key=f"{key}-{choice.name}", on_click=on_click, args=(choice.name,))


@pytest.mark.parametrize("title", list(QUESTIONS))
def test_a_question_is_answered_with_one_click(open_app: Open, monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    monkeypatch.setattr(questions, "pictured_buttons", plain_buttons)
    kind, tab = QUESTIONS[title].kind, QUESTIONS[title].tab
    app = open_app("sweep", plan="0,2-3")
    app.button(key=f"sweep-questions-{title}").click().run()
    assert not app.exception
    wait(app, lambda: finished(app))
    wait(app, lambda: not app.get("progress"))
    assert ("arXiv" in said(app)) == (kind in sweep_words.PAPERS and kind != "repeat")
    assert entries(app)[0].request.start.is_identity
    assert app.session_state["sweep-tab"] == tab
    if tab == "Importance":
        wait(app, lambda: len(app.metric) == 3)
        assert all(re.fullmatch(r"ρ = -?\d\.\d\d|–", metric.value) for metric in app.metric)
        assert all(not metric.delta or re.fullmatch(r"-?\d\.\d\d to -?\d\.\d\d", metric.delta) for metric in app.metric)
        assert "costs most" in said(app)
    else:
        assert "What this model shows." in said(app) or kind in ("painters", "repeat")


def test_an_empty_chart_shows_what_will_be_measured(open_app: Open) -> None:
    app = sweep_page(open_app, "skip-block")
    assert "Press Start and each cell fills in as soon as it is measured." in said(app)
    assert not {"Skill accuracy", "Distinct 2-grams of its text"} & set(app.selectbox(key="sweep-metric").options)
    (chart,) = app.get("vega_lite_chart")
    planned = json.loads(chart.proto.spec)
    app.button(key="sweep-start").click().run()
    (chart,) = app.get("vega_lite_chart")
    assert json.loads(chart.proto.spec)["layer"] == planned["layer"]
    wait(app, lambda: finished(app)).run()
    assert len(entries(app)) == 1


def test_without_texts_there_is_no_empty_chart(open_app: Open) -> None:
    app = sweep_page(open_app)
    app.segmented_control(key="sweep-texts").set_value(PICK).run()
    app.multiselect(key="sweep-picked").set_value([]).run()
    assert "No sweep yet" in said(app)
    assert not app.get("vega_lite_chart")


def test_removal_is_started_drawn_and_adopted(open_app: Open) -> None:
    app = open_tab(open_app, "Removal")
    assert "No removal yet" in said(app)
    app.button(key="search-start").click().run()
    wait(app, lambda: finished(app)).run()
    assert "Done: 3 removals, one layer at a time." in said(app)
    (entry,) = entries(app)
    assert [row.x for row in entry.rows] == [4, 3, 2, 1]
    table = next(frame.value for frame in app.dataframe if "Layers left" in frame.value)
    assert list(table["Layers left"]) == [4, 3, 2, 1]
    assert not [column for column in table if "_" in column]
    losses = table["Perplexity"]
    for kind, begins in (("svg", b"<svg"), ("png", b"\x89PNG"), ("html", b"<!doctype html>")):
        data = removal_view.curve_file(removal_view.steps_frame(entry), ["perplexity"], kind, saved.palette())
        assert data.startswith(begins)
        assert kind == "png" or b"Layers left" in data
    box = next(box for box in app.selectbox if str(box.key).startswith("adopt-sweep"))
    box.set_value(2).run()
    assert app.query_params["plan"] == entry.rows[2].plan
    candidates = run_sweep(open_app).session_state["sweeps"][0].rows
    assert losses[1] == pytest.approx(min(row.perplexity for row in candidates if row.number >= 0), rel=1e-5)


def test_a_removal_says_beforehand_how_long_it_takes(open_app: Open) -> None:
    app = open_tab(open_app, "Removal")
    assert "9 plans over" in said(app)  # of 4 layers, then of 3, then of 2
    app.number_input(key="search-least-4").set_value(3).run()
    assert "4 plans over" in said(app)
    app.number_input(key="search-beam").set_value(2).run()
    app.number_input(key="search-least-4").set_value(2).run()
    assert "10 plans over" in said(app)


def test_importance_is_there_without_a_sweep(open_app: Open) -> None:
    app = open_tab(open_app, "Importance", plan="0,1,1,3")
    assert "Nothing read yet" in said(app)
    app.button(key="importance-start").click().run()
    wait(app, lambda: finished(app)).run()
    assert len(app.get("vega_lite_chart")) == 5
    assert not app.metric
    app.button(key="importance-measure").click().run()
    wait(app, lambda: len(app.metric) == 3)
    app = open_tab(open_app, "Importance", plan="")
    assert "nothing to rank" in said(app)
    assert app.button(key="importance-start").disabled


# What needs a model that is not done at once: the bundled one.
