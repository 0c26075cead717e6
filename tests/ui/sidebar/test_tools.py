"""The sidebar's tools and presets without a browser."""

from __future__ import annotations

import pytest

from surgery_core.plans.presets import PRESETS
from tests.ui.conftest import Open
from tests.ui.support.reading import errors, plan, submit


def test_delete_tool(open_app: Open) -> None:
    app = open_app()
    app.multiselect(key="delete-which").set_value([1, 2])
    submit(app, "Delete them")
    assert plan(app) == "0,3"
    submit(app, "Delete them")
    assert "at least one layer" in errors(app)
    assert plan(app) == "0,3"


@pytest.mark.parametrize(
    ("order", "result"), [("3,2,1,0", "3-0"), ("0-1 3", "0-1,3"), ("-1,0,0", "3,0x2"), ("3-1", "3-1")]
)
def test_permute_tool(open_app: Open, order: str, result: str) -> None:
    app = open_app()
    app.text_input(key="permute-order").set_value(order)
    submit(app, "Permute")
    assert not app.error
    assert plan(app) == result


@pytest.mark.parametrize("order", ["", "0,9", "a", "0-999999", "0;1", "🙂"])
def test_permute_tool_explains_a_bad_order(open_app: Open, order: str) -> None:
    app = open_app(plan="0-2")
    app.text_input(key="permute-order").set_value(order)
    submit(app, "Permute")
    assert len(app.error) == 1
    assert plan(app) == "0-2"


def test_replace_tool(open_app: Open) -> None:
    app = open_app()
    app.selectbox(key="replace-which").set_value(1)
    app.selectbox(key="replace-by").set_value(3)
    submit(app, "Replace it")
    assert plan(app) == "0,3,2-3"


def test_tools_work_without_layers(open_app: Open) -> None:
    app = open_app(plan="")
    assert not app.exception
    submit(app, "Replace it")
    assert "no layer left" in errors(app)


def test_presets(open_app: Open) -> None:
    app = open_app()
    found = {}
    for preset in PRESETS:
        app.selectbox(key="preset").select(preset.key).run()
        app.button(key="preset-apply").click().run()
        assert not app.error
        found[preset.key] = plan(app)
    assert found.pop("shuffle-middle") != "0-3"
    assert found == {
        "drop-one": "0-1,3",
        "drop-last-quarter": "0-1,3",
        "reverse-middle": "0,2,1,3",
        "swap-neighbours": "0-1,3,2",
        "repeat-middle": "0-2,1-3",
        "loop-middle": "0,[1-2]*0.5x2,3",
        "loop-halfway": "0-2,[1-2]*0.5,3",
    }
