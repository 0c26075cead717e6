"""Which model is open: every model keeps its plans, a link's plan is for the link's model, labels tell models apart."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.plans import presets
from surgery_ui.session import echo, switching
from surgery_ui.session.plans import PLAN_LANES
from surgery_ui.words import labels
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work import timing
from tests.ui.conftest import Open
from tests.ui.support.reading import errors, plan, said, submit, type_notation
from tests.ui.support.sweeping import entries, run_sweep

CARD = "---\ntitle: X\n---\n\n# Fable, operated\n"


@pytest.fixture
def twins(models_folder: Path, tiny_folder: Path) -> Any:
    """Offer two more models, whose cards have the same title."""
    names = ("twin one", "twin two")
    for name in names:
        shutil.copytree(tiny_folder, models_folder / name)
        (models_folder / name / "README.md").write_text(CARD, encoding="utf-8")
    yield names
    for name in names:
        shutil.rmtree(models_folder / name)


def test_a_model_comes_back_with_its_plan_and_its_steps(open_app: Open) -> None:
    app = type_notation(open_app(plan="0-2"), "0-1")
    app.selectbox(key="picker").set_value("other").run()
    assert (plan(app), app.query_params["model"]) == ("0-3", "other")
    assert app.button(key="undo").disabled
    assert "The plan and undo steps of fable are kept" in said(app)
    type_notation(app, "3-0")
    assert "are kept" not in said(app)
    app.selectbox(key="picker").set_value("fable").run()
    assert plan(app) == "0-1"
    app.button(key="undo").click().run()
    assert plan(app) == "0-2"
    app.selectbox(key="picker").set_value("other").run()
    assert plan(app) == "3-0"


def test_one_click_goes_back_and_one_takes_the_plan_along(open_app: Open) -> None:
    app = open_app(plan="0-2")
    app.selectbox(key="picker").set_value("other").run()
    app.button(key="take-along").click().run()
    assert (plan(app), app.query_params["model"]) == ("0-2", "other")
    app.button(key="undo").click().run()
    assert plan(app) == "0-3"
    app.selectbox(key="picker").set_value("fable").run()
    app.button(key="back-to-model").click().run()
    assert app.query_params["model"] == "other"


def test_leaving_an_unchanged_model_needs_no_word(open_app: Open) -> None:
    app = open_app()
    app.selectbox(key="picker").set_value("other").run()
    assert "are kept" not in said(app)


def test_a_links_plan_is_not_applied_to_another_model(open_app: Open) -> None:
    app = open_app(model="no-such-model", plan="3,1")
    assert (plan(app), app.query_params["model"]) == ("0-3", "fable")
    assert "no-such-model" in errors(app)
    assert "was not applied to fable" in said(app)
    assert [code.value for code in app.code] == ["3,1"]
    app.button(key="use-refused").click().run()
    assert plan(app) == "3,1"
    assert not app.code
    app.button(key="undo").click().run()
    assert plan(app) == "0-3"


def test_a_links_plan_that_was_refused_can_be_too_deep_and_can_be_dismissed(open_app: Open) -> None:
    app = open_app(model="no-such-model", plan="0-29")
    app.button(key="use-refused").click().run()
    assert "no layer 29" in errors(app)
    assert app.code[0].value == "0-29"
    app.button(key="dismiss-refused").click().run()
    assert not app.code
    assert plan(app) == "0-3"


def test_a_link_to_a_model_that_is_gone_keeps_the_plan_of_an_open_session(
    open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surgery_ui.session.session.ADDRESS_DELAY", 0.0)
    app = open_app(plan="0-2")
    app.query_params["model"], app.query_params["plan"] = "no-such-model", "3"
    app.run()
    assert plan(app) == "0-2"
    assert app.code[0].value == "3"


def test_models_of_one_title_are_told_apart_and_the_right_one_opens(open_app: Open, twins: tuple[str, str]) -> None:
    app = open_app()
    options = app.selectbox(key="picker").options
    assert [f"Fable, operated ({name})" in options for name in twins] == [True, True]
    for name in twins:
        app.selectbox(key="picker").set_value(name).run()
        assert app.query_params["model"] == name
    app.switch_page("../pages/models.py").run()
    titles = [one.value.replace("\\", "") for one in app.markdown]
    assert [f"**Fable, operated ({name})**" in titles for name in twins] == [True, True]
    app.button(key="open-twin one").click().run()
    assert app.query_params["model"] == "twin one"


def test_no_two_options_of_a_choice_are_alike(open_app: Open, twins: tuple[str, str]) -> None:
    app = run_sweep(open_app, plan="0,1,1,1.attn,mean(2)")
    for page in ("sweep", "surgery", "lens", "skills", "models"):
        app.switch_page(f"../pages/{page}.py").run()
        for kind in ("selectbox", "multiselect", "button_group"):
            for field in app.get(kind):
                options = [one if isinstance(one, str) else one.content for one in field.proto.options]
                assert len(set(options)) == len(options), (page, field.label, options)


@given(st.dictionaries(st.integers(0, 9), st.sampled_from(["a", "a ", "a (2)", "a (x)", "b", "a  b", "a b"])))
def test_labels_are_unique_and_say_what_they_are_of(titles: dict[int, str]) -> None:
    for details in (None, dict.fromkeys(titles, "x")):
        found = labels.unique(titles, details)
        assert list(found) and set(found) == set(titles) if titles else not found
        assert len(set(found.values())) == len(titles)
        for key, label in found.items():
            assert label.startswith(" ".join(titles[key].split()))


def test_a_renamed_sweep_never_gets_the_name_of_another(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo, "MOMENT", 0.0)
    app = run_sweep(open_app)
    app.session_state["sweep-kind-Delete"] = "delete-mlp"
    app.run().button(key="sweep-start").click().run()
    first, second = entries(app)
    app.text_input(key="sweep-name-2").set_value(first.name).run()
    assert (first.name, second.name) == ("Delete each layer", "Delete each layer (2)")
    app.text_input(key="sweep-name-2").set_value("  ").run()
    assert second.name == "Delete each layer (2)"
    app.selectbox(key="sweep-list").set_value(1).run()
    app.text_input(key="sweep-name-1").set_value("Mine").run()
    assert [entry.name for entry in entries(app)] == ["Mine", "Delete each layer (2)"]


def popovers(block: Any) -> Iterator[Any]:
    """Return the open and closed popovers in a part of the page."""
    for child in getattr(block, "children", {}).values():
        if child.type == "popover":
            yield child
        yield from popovers(child)


@pytest.mark.parametrize(
    ("tool", "button", "said"),
    [
        ("Delete", "Delete them", "at least one layer"),
        ("Permute", "Permute", "new order"),
        ("Replace", "Replace it", "no layer left"),
        ("Presets", "Apply", "at least 2 layers"),
    ],
)
def test_errors_of_tools_stand_in_their_popovers(
    open_app: Open, monkeypatch: pytest.MonkeyPatch, tool: str, button: str, said: str
) -> None:
    shallow = lambda self, n_layers, **given: presets.Preset.apply(self, 1, **given)  # noqa: E731
    monkeypatch.setattr("surgery_ui.sidebar.tools._preset", lambda preset, plan: shallow(preset, plan.n_layers))
    app = open_app(plan="" if tool == "Replace" else "0-3")
    submit(app, button)
    assert said in errors(app)
    holding = [one for one in popovers(app.sidebar) if one.error]
    assert [one.proto.popover.label for one in holding] == [tool]
    assert len(app.error) == 1


def test_a_plan_is_checked_without_running_the_model(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    main, seen = threading.get_ident(), []
    measured = cached.mean_contributions

    def spy(*given: Any) -> Any:
        seen.append(threading.current_thread().name)
        return measured(*given)

    monkeypatch.setattr(cached, "mean_contributions", spy)
    cached._means.clear()
    app = type_notation(open_app(), "0,mean(1),2-3")
    assert plan(app) == "0,mean(1),2-3"
    assert seen
    assert all(name.startswith("work-") for name in seen), (seen, main)


def test_every_lane_of_work_that_depends_on_the_plan_is_let_go(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: dict[str, set[Any]] = {}
    request = cached.WORK.request

    def spy(owner: str, lane: str, key: Any, *rest: Any) -> Any:
        keys.setdefault(lane, set()).add(key)
        return request(owner, lane, key, *rest)

    monkeypatch.setattr(cached.WORK, "request", spy)
    app = open_app()
    app.session_state["sweep-tab"] = "Importance"
    app.session_state["lens-metric"] = "kl"
    for notation in ("0-2", "0,2-3"):
        type_notation(app, notation)
        for page in ("surgery", "lens", "sweep", "skills"):
            app.switch_page(f"../pages/{page}.py").run()
    moving = {lane for lane, found in keys.items() if len(found) > 1}
    assert moving <= set(PLAN_LANES)
    assert {"after", "scores", "layers-after", "lens-after", "skills-after", "proof"} <= moving


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (None, "Opening org/name"),
        ((30_000_000, False), "Opening org/name"),
        ((1_200_000_000, False), "Opening org/name, which takes 3 to 6 s"),
        ((98_000_000, True), "Opening org/name, which takes 5 to 10 s"),
    ],
)
def test_how_long_opening_takes_is_said_where_it_is_no_instant(
    monkeypatch: pytest.MonkeyPatch, found: Any, sentence: str
) -> None:
    monkeypatch.setattr(timing, "weight_bytes", lambda name: found)
    assert switching._opening("org/name") == sentence
