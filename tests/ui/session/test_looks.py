"""What was looked at: each plan on each page once, with its figure, and one click back."""

from __future__ import annotations

from typing import Any

from surgery_ui.session.looks import MOST, Look
from tests.ui.conftest import Open


def listed(app: Any) -> list[str]:
    """Return what the popover lists."""
    app.session_state["looked-at"] = True
    app.run()
    return [button.label.replace("\\", "") for button in app.button if str(button.key).startswith("look-")]


def test_plans_and_pages_are_listed_the_newest_first(open_app: Open) -> None:
    app = open_app()
    app.text_input(key="notation").set_value("0,2,3").run()
    app.switch_page("../pages/lens.py").run()
    app.text_input(key="notation").set_value("3-0").run()
    looks = app.session_state["looks"]
    assert [(one.plan, one.page) for one in looks] == [("0-3", ""), ("0,2-3", ""), ("0,2-3", "lens"), ("3-0", "lens")]
    # what the page said of a plan is what the list says of it, on every page
    metric = next(one for one in looks if one.plan == "0,2-3").figure
    assert metric.startswith("perplexity ×")
    assert looks[2].figure == metric
    assert looks[0].figure == ""
    assert listed(app) == [
        f"Without L1, {metric}, on Lens",
        f"Without L1, {metric}, on Surgery",
        "Unchanged model, on Surgery",
    ]


def test_a_click_goes_back_to_the_plan_and_its_page(open_app: Open) -> None:
    app = open_app()
    app.text_input(key="notation").set_value("0,2,3").run()
    app.switch_page("../pages/skills.py").run()
    app.text_input(key="notation").set_value("3-0").run()
    assert app.header[0].value == "Which skills survive"
    listed(app)
    app.button(key="look-1").click().run()
    assert not app.exception
    assert app.query_params["plan"] == "0,2-3"
    assert app.header[0].value.endswith("after surgery")
    assert app.session_state["looks"][-1].page == ""
    # the way back can be undone like any edit
    app.button(key="undo").click().run()
    assert app.query_params["plan"] == "3-0"


def test_no_more_are_remembered_than_fit(open_app: Open) -> None:
    app = open_app()
    app.session_state["looks"] = tuple(Look(("m",), str(at), "") for at in range(MOST))
    app.text_input(key="notation").set_value("0,2,3").run()
    assert len(app.session_state["looks"]) == MOST
    assert app.session_state["looks"][0].plan == "1"


def test_a_run_without_a_change_is_no_new_look(open_app: Open) -> None:
    app = open_app()
    for _ in range(3):
        app.run()
    assert len(app.session_state["looks"]) == 1
