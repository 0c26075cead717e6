"""Clicks at random, against a session that fits on a page: a list of plans and a place in it.

Plans are orders of different layers, so that what the address says is read here without the library's parser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from streamlit.testing.v1 import AppTest

from surgery_ui.session import echo, session
from tests.ui.conftest import Open
from tests.ui.support.reading import errors, submit, type_notation

LAYERS = [0, 1, 2, 3]
PLANS = st.permutations(LAYERS).flatmap(lambda order: st.integers(1, 4).map(lambda length: list(order[:length])))
BROKEN = ("", "4", "0,,1", "(0", "x", "0-9", "~", "other:9", "0\u202e1", "<b>0</b>", "(" * 3_000)
PAGES = ("glossary", "models", "glossary")


def layers(notation: str) -> list[int]:
    """Read an order of layers: numbers and runs of them, upwards or downwards."""
    found: list[int] = []
    for item in notation.split(","):
        first, _, last = item.partition("-")
        begin, end = int(first), int(last or first)
        found += range(begin, end + 1) if end >= begin else range(begin, end - 1, -1)
    return found


class Clicks(RuleBasedStateMachine):
    """A person, and what their session should be: the plans they went through, and which of them they see."""

    open_app: Open

    @initialize()
    def come(self) -> None:
        self.app = self.open_app("glossary")
        self.steps, self.at = [LAYERS], 0

    def seen(self, plan: list[int]) -> None:
        """Go on from here with another plan; the same again is no step."""
        if plan != self.steps[self.at]:
            self.steps[self.at + 1 :] = [plan]
            self.at += 1

    @rule(plan=PLANS)
    def type_a_plan(self, plan: list[int]) -> None:
        type_notation(self.app, ",".join(map(str, plan)))
        self.seen(plan)

    @rule(text=st.sampled_from(BROKEN))
    def type_something_else(self, text: str) -> None:
        type_notation(self.app, text)
        assert errors(self.app)
        assert len(errors(self.app)) < 1_000

    @precondition(lambda self: len(self.steps[self.at]) > 1)
    @rule(data=st.data())
    def delete_a_layer(self, data: Any) -> None:
        plan = self.steps[self.at]
        gone = data.draw(st.integers(0, len(plan) - 1))
        self.app.multiselect(key="delete-which").set_value([gone])
        submit(self.app, "Delete them")
        self.seen(plan[:gone] + plan[gone + 1 :])

    @precondition(lambda self: self.at > 0)
    @rule()
    def undo(self) -> None:
        self.app.button(key="undo").click().run()
        self.at -= 1

    @precondition(lambda self: self.at + 1 < len(self.steps))
    @rule()
    def redo(self) -> None:
        self.app.button(key="redo").click().run()
        self.at += 1

    @precondition(lambda self: self.steps[self.at] != LAYERS)
    @rule()
    def reset(self) -> None:
        self.app.button(key="reset").click().run()
        self.seen(LAYERS)

    @rule(page=st.sampled_from(PAGES))
    def go_elsewhere(self, page: str) -> None:
        self.app.switch_page(f"../pages/{page}.py").run()

    @rule(plan=PLANS)
    def follow_a_link(self, plan: list[int]) -> None:
        self.app.query_params["plan"] = ",".join(map(str, plan))
        self.app.run()
        self.seen(plan)

    @rule()
    def send_the_link_to_somebody(self) -> None:
        self.app = self.open_app("glossary", **{name: str(*value) for name, value in parameters(self.app).items()})
        self.steps = [LAYERS] if self.steps[self.at] == LAYERS else [LAYERS, self.steps[self.at]]
        self.at = len(self.steps) - 1

    @invariant()
    def the_page_shows_the_plan(self) -> None:
        if not hasattr(self, "app"):
            return
        assert not self.app.exception
        (said,) = parameters(self.app)["plan"]
        assert layers(said) == self.steps[self.at]
        assert self.app.button(key="undo").disabled is (self.at == 0)
        assert self.app.button(key="redo").disabled is (self.at + 1 == len(self.steps))


def parameters(app: AppTest) -> dict[str, list[str]]:
    return {name: [value] if isinstance(value, str) else list(value) for name, value in app.query_params.items()}


def test_random_clicks_come_to_what_a_list_of_plans_says(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    # what arrives within a moment after the page changed something may be of before; people are slower than this test
    monkeypatch.setattr(session, "ADDRESS_DELAY", 0.0)
    monkeypatch.setattr(echo, "MOMENT", 0.0)
    make: Callable[[], Clicks] = type("Clicks", (Clicks,), {"open_app": staticmethod(open_app)})
    run_state_machine_as_test(
        make,
        settings=settings(
            max_examples=6, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
