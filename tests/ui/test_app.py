"""The app without a browser: every page, plans, addresses, models, two people at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from surgery_core.text import bundled_texts
from tests.ui.conftest import Open
from tests.ui.support.reading import (
    charts,
    errors,
    greedy_by_hand,
    metrics,
    perplexity_by_hand,
    plan,
    table,
    type_notation,
    written,
)

ByHand = Callable[[list[int]], Any]
PAGES = ("surgery", "lens", "sweep", "skills", "gallery", "models", "room", "glossary")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("notation", ["0-3", "0,2,1,3", "", "1.attn*0.5,2x3"])
def test_every_page_opens_under_every_kind_of_plan(open_app: Open, page: str, notation: str) -> None:
    app = open_app(page, plan=notation)
    assert not app.exception
    assert not app.error
    assert plan(app) == notation


def test_the_unchanged_model_says_what_to_do_next(open_app: Open) -> None:
    app = open_app()
    assert "unchanged" in app.header[0].value
    assert any("Drag a layer" in caption.value for caption in app.caption)
    assert len(table(app)) == len(bundled_texts())
    assert metrics(app)["Top-1 agreement"] == "100.0%"


def test_scores_are_those_of_a_model_built_by_hand(open_app: Open, by_hand: ByHand, tiny_tokenizer: Any) -> None:
    app = open_app(plan="0,2,1,3")
    text = "A short text of my own, for one window."
    app.text_area(key="own-typed").set_value(text).run()
    app.button(key="own-score").click().run()
    row = table(app).iloc[0]
    assert row["title"] == "Your text"
    assert row["perplexity_before"] == pytest.approx(
        perplexity_by_hand(by_hand([0, 1, 2, 3]), tiny_tokenizer, text), rel=1e-5
    )
    assert row["perplexity_after"] == pytest.approx(
        perplexity_by_hand(by_hand([0, 2, 1, 3]), tiny_tokenizer, text), rel=1e-5
    )
    assert row["ratio"] == pytest.approx(row["perplexity_after"] / row["perplexity_before"])


def test_text_is_that_of_a_model_built_by_hand(open_app: Open, by_hand: ByHand, tiny_tokenizer: Any) -> None:
    app = open_app(plan="0,1,3", length="12", prompt="Once upon a time")
    ids = greedy_by_hand(by_hand([0, 1, 3]), tiny_tokenizer, "Once upon a time", 12)
    start = len(tiny_tokenizer("Once upon a time", add_special_tokens=False)["input_ids"])
    expected = tiny_tokenizer.decode(ids[start:], skip_special_tokens=True)
    shown = written(app)[1]
    # control characters are shown as pictures
    assert "".join(chr(ord(c) - 0x2400) if 0x2400 <= ord(c) < 0x2420 else c for c in shown) == expected


def test_notation_changes_the_plan_the_strip_and_the_address(open_app: Open) -> None:
    app = type_notation(open_app(), "0,1,2,3,3")
    assert plan(app) == "0-3,3"
    assert app.text_input(key="notation").value == "0-3,3"
    assert any("L3 2 times" in c.value for c in app.caption)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("0-3,9", "no layer 9"),
        ("0,,1", ""),
        ("0 1", ""),
        ("hello", ""),
        ("5x99999999", ""),
        ("0-3\0", ""),
        ("0,🙂", ""),
        ("nobody:1", "nobody"),
        ("0" + ",0" * 30_000, "characters long"),
    ],
)
def test_bad_notation_is_explained_beside_the_field_and_loses_nothing(open_app: Open, typed: str, said: str) -> None:
    app = open_app(plan="0,2,1,3")
    before = metrics(app), written(app), table(app)
    type_notation(app, typed)
    assert not app.exception
    assert len(app.error) == 1
    assert said in errors(app)
    assert app.text_input(key="notation").value == typed
    assert plan(app) == "0,2,1,3"
    assert (metrics(app), written(app)) == before[:2]
    assert table(app).equals(before[2])


@pytest.mark.parametrize("notation", ["0,mean(1),2-3", "0,(1|2),3", "0-2,other:3"])
def test_means_parallel_layers_and_layers_of_an_open_model_run(open_app: Open, notation: str) -> None:
    open_app(model="other")
    app = type_notation(open_app(), notation)
    assert not app.error
    assert plan(app) == notation
    assert len(written(app)) == 2


def test_the_error_points_at_the_character(open_app: Open) -> None:
    app = type_notation(open_app(), "0-2,?")
    assert app.code[0].value == "0-2,?\n    ^"
    type_notation(app, "0-2")
    assert not app.error
    assert not app.code


def test_undo_redo_and_reset(open_app: Open) -> None:
    app = open_app()
    for notation in ("0-2", "0,2,1"):
        type_notation(app, notation)
    seen = []
    for key in ("undo", "undo", "redo", "redo", "reset", "undo"):
        app.button(key=key).click().run()
        seen.append(plan(app))
    assert seen == ["0-2", "0-3", "0-2", "0,2,1", "0-3", "0,2,1"]
    assert app.button(key="redo").disabled is False


def test_undo_is_off_where_there_is_nothing_to_undo(open_app: Open) -> None:
    app = open_app()
    assert [app.button(key=key).disabled for key in ("undo", "redo", "reset")] == [True, True, True]


def test_an_address_restores_model_plan_prompt_and_settings(open_app: Open) -> None:
    app = open_app(model="other", plan="3-0", prompt="A wolf", length="5", temperature="0.5", seed="3")
    assert not app.error
    assert app.selectbox(key="picker").value == "other"
    assert app.text_input(key="notation").value == "3-0"
    assert app.text_area(key="prompt").value == "A wolf"
    assert app.slider(key="set-length").value == 5
    again = open_app(**app.query_params)
    assert written(again) == written(app)
    assert metrics(again) == metrics(app)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"plan": "0-99"}, "no layer 99"),
        ({"plan": "<script>alert(1)</script>"}, ""),
        ({"plan": "0-3", "length": "many"}, "length"),
        ({"plan": "0-3", "temperature": "nan"}, "temperature"),
        ({"plan": "0-3", "top_p": "7"}, "top_p"),
        ({"plan": "0-3", "seed": "1e99"}, "seed"),
        ({"plan": "0-3", "length": "100000"}, "length"),
        ({"plan": "0-3", "own": "../../etc/passwd"}, "own text"),
        ({"plan": "0-3", "own": "0" * 32}, "no longer on the server"),
        ({"plan": "0-3", "model": "no-such-model"}, "no-such-model"),
        ({"plan": "0-3", "model": "/etc"}, "/etc"),
    ],
)
def test_a_hand_edited_address_is_explained_and_the_page_works(
    open_app: Open, parameters: dict[str, str], said: str
) -> None:
    app = open_app(**parameters)
    assert not app.exception
    assert said in errors(app)
    assert app.error
    assert plan(app) == "0-3"
    assert app.selectbox(key="picker").value == "fable"
    assert len(table(app)) == len(bundled_texts())


def test_a_plan_that_an_address_gets_wrong_can_be_mended(open_app: Open) -> None:
    app = open_app(plan="0-3,oops")
    assert app.text_input(key="notation").value == "0-3,oops"
    type_notation(app, "0-2")
    assert not app.error
    assert plan(app) == "0-2"


def test_a_link_followed_in_an_open_session_is_one_step_that_can_be_undone(
    open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surgery_ui.session.session.ADDRESS_DELAY", 0.0)
    app = open_app(plan="0-2")
    app.query_params["plan"] = "3,0-2"
    app.run()
    assert app.text_input(key="notation").value == "3,0-2"
    app.button(key="undo").click().run()
    assert plan(app) == "0-2"


def test_an_address_that_arrives_late_is_no_news(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery_ui.session.session.ADDRESS_DELAY", 60.0)
    app = type_notation(open_app(plan="0-2"), "0-1")
    app.query_params["plan"] = "0-2"
    app.run()
    assert plan(app) == "0-1"


def test_an_edit_that_arrives_with_the_address_of_before_the_last_one_counts(open_app: Open) -> None:
    app = type_notation(open_app(plan="0-2"), "0-1")
    app.query_params["plan"] = "0-2"
    type_notation(app, "3,0")
    assert plan(app) == "3,0"
    app.query_params["plan"] = "0-1"
    app.text_area(key="prompt").set_value("A wolf").run()
    assert plan(app) == "3,0"


def test_a_page_switch_keeps_plan_prompt_and_results(open_app: Open) -> None:
    app = open_app(plan="0,2-3")
    app.text_area(key="prompt").set_value("The fox said").run()
    before = metrics(app), written(app)
    app.switch_page("../pages/lens.py").run()
    assert plan(app) == "0,2-3"
    app.switch_page("../pages/surgery.py").run()
    assert app.text_area(key="prompt").value == "The fox said"
    assert (metrics(app), written(app)) == before


def test_two_people_never_see_each_others_results(open_app: Open) -> None:
    alone = {notation: open_app(plan=notation) for notation in ("0-2", "3-0")}
    expected = {notation: (metrics(app), written(app)) for notation, app in alone.items()}
    first, second = open_app(), open_app()
    for one, other in (("0-2", "3-0"), ("3-0", "0-2")):
        type_notation(first, one)
        type_notation(second, other)
        assert (metrics(first), written(first)) == expected[one]
        assert (metrics(second), written(second)) == expected[other]


@pytest.mark.parametrize("name", ["nobody/nothing", "no-such", "<b>x</b>", "a\0b", "🙂", "../secret"])
def test_a_model_that_cannot_be_opened_leaves_the_one_that_is(open_app: Open, name: str) -> None:
    app = open_app(plan="0-2")
    before = metrics(app), written(app)
    picker = app.selectbox(key="picker")
    picker.options.append(name)  # what a person types is a new option
    picker.set_value(name).run()
    assert not app.exception
    assert len(app.error) == 1
    assert plan(app) == "0-2"
    assert (metrics(app), written(app)) == before


def test_settings_change_the_text_and_the_address(open_app: Open) -> None:
    app = open_app(plan="0-2")
    app.slider(key="set-length").set_value(7).run()
    assert any(caption.value.startswith("7 tokens") for caption in app.caption)
    greedy = written(app)
    app.slider(key="set-temperature").set_value(1.5).run()
    app.number_input(key="set-seed").set_value(11).run()
    assert written(app) != greedy
    linked = {name: app.query_params[name] for name in ("length", "temperature", "seed")}
    assert linked == {"length": "7", "temperature": "1.5", "seed": "11"}


def test_the_lens_shows_one_map_or_two(open_app: Open) -> None:
    for notation, count in (("0-3", 1), ("0-2", 2)):
        shown = charts(open_app("lens", plan=notation))
        maps = [json.loads(chart.proto.spec) for chart in shown if "hconcat" in chart.proto.spec]
        assert [len(one["hconcat"]) for one in maps] == [count]
        # besides the maps: the ten likeliest of each side, and the lines over the layers
        assert len(shown) == 1 + count + 1


def test_a_model_without_a_tuned_lens_offers_none(open_app: Open) -> None:
    app = open_app("lens", plan="0-2")
    assert not [control for control in app.get("button_group") if "lens-kind" in str(control.proto)]


def test_the_tuned_lens_reads_by_layer_or_by_position(open_app: Open, models_folder: Path) -> None:
    from surgery_core.lenses.files import save_lens
    from surgery_core.lenses.tuned import untrained
    from surgery_core.models.opening import load_model

    loaded = load_model(str(models_folder / "other"))
    save_lens(untrained(loaded.model, "other"), models_folder / "other" / "lens", pickled=False)
    app = open_app("lens", model="other", plan="0,2")
    assert len(charts(app)) == 4
    app.session_state["lens-kind"] = "tuned"
    app.run()
    assert any("translator" in caption.value for caption in app.caption)
    app.session_state["lens-follow"] = "Their position"
    app.run()
    assert not app.exception
    assert len(charts(app)) == 4


def test_the_models_page_shows_the_checks_and_every_page_warns_where_one_failed(
    open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from surgery_core.proof.checks import Check
    from surgery_core.proof.preflight import PreflightReport
    from surgery_ui.work import plan_jobs as cached
    from surgery_ui.work.job import Job

    app = open_app("models")
    assert any("All 12 checks passed" in one.value for one in app.success)
    failed = PreflightReport("0", (Check("layers", "Exactly the planned layers run", False, "10 of 11 ran."),), 0.1)
    job: Job[PreflightReport] = Job(("preflight",), lambda job: failed)
    job.run()
    monkeypatch.setattr(cached, "preflight_job", lambda owner, loaded: job)
    app = open_app("models")
    assert any("cannot be trusted" in one.value for one in app.warning)
    for page in ("surgery", "lens"):
        shown = open_app(page).warning
        assert any("Exactly the planned layers run: no. 10 of 11 ran" in one.value.replace("\\", "") for one in shown)


def test_the_models_page_lists_what_can_be_opened(open_app: Open) -> None:
    app = open_app("models")
    assert app.button(key="open-fable").disabled
    app.button(key="open-other").click().run()
    assert not app.error
    assert app.selectbox(key="picker").value == "other"


def test_no_button_is_always_in_the_first_colour() -> None:
    """White on it cannot be read in the dark theme; `sections.emphasis` chooses."""
    found = [
        path.name
        for path in (Path(__file__).resolve().parents[2] / "surgery_ui").rglob("*.py")
        if 'type="primary"' in path.read_text("utf-8")
    ]
    assert found == []
