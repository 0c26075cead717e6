"""What a tab gets back after a reload, who does not get it, and undo and redo by keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from surgery_core.plans.plan import LayerPlan
from surgery_ui.components.tab import MAX_STEPS, new_steps
from surgery_ui.session.history import History
from surgery_ui.session.memory import Tabs, is_token
from surgery_ui.sidebar import sidebar as controls
from tests.ui.conftest import Open
from tests.ui.support.reading import plan, type_notation, wait
from tests.ui.support.sweeping import entries, finished, run_sweep, sweep_page

Show = Callable[[AppTest, str], AppTest]


@pytest.fixture
def show_token(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Return the function that shows a session a tab's token; a field stands in for the component in the browser."""

    def tab(known: bool, on_token: Callable[[], None], on_steps: Callable[[], None]) -> None:
        st.text_input("Token", key="shown-token", on_change=on_token)

    monkeypatch.setattr(controls, "browser_tab", tab)
    monkeypatch.setattr(controls, "sent", lambda name: st.session_state["shown-token"])
    return lambda app, token: app.text_input(key="shown-token").set_value(token).run()


def token(number: int) -> str:
    return f"{number:032x}"


def test_a_reload_gets_undo_and_redo_back(open_app: Open, show_token: Show) -> None:
    app = show_token(open_app(), token(1))
    for notation in ("0-2", "0-1", "3-0"):
        type_notation(app, notation)
    app.button(key="undo").click().run()
    again = show_token(open_app(**app.query_params), token(1))
    assert plan(again) == "0-1"
    again.button(key="redo").click().run()
    assert plan(again) == "3-0"
    seen = []
    for _ in range(3):
        again.button(key="undo").click().run()
        seen.append(plan(again))
    assert seen == ["0-1", "0-2", "0-3"]
    assert again.button(key="undo").disabled


def test_a_link_has_nothing_of_the_tab_that_it_was_copied_in(open_app: Open, show_token: Show) -> None:
    app = type_notation(show_token(run_sweep(open_app), token(2)), "0-2")
    for other in (open_app(**app.query_params), show_token(open_app(**app.query_params), token(3))):
        assert plan(other) == "0-2"
        assert "sweeps" not in other.session_state or not entries(other)
        other.button(key="undo").click().run()
        assert plan(other) == "0-3"
        assert other.button(key="undo").disabled


def test_a_reload_gets_its_sweeps_back(open_app: Open, show_token: Show) -> None:
    app = show_token(run_sweep(open_app), token(4))
    first = entries(app)[0]
    again = show_token(open_app("sweep", **app.query_params), token(4))
    assert entries(again) == [first]
    again.session_state["sweep-kind-Delete"] = "delete-mlp"
    again.run().button(key="sweep-start").click().run()
    wait(again, lambda: finished(again)).run()
    assert [entry.number for entry in entries(again)] == [1, 2]


def test_a_sweep_keeps_running_through_a_reload(
    open_app: Open, show_token: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from surgery_core.sweeps.sweep import Sweep

    gate, rows = threading.Event(), Sweep.rows

    def slow(self: Sweep, **given: Any) -> Any:
        for row in rows(self, **given):
            yield row
            assert not threading.current_thread().name.startswith("sweeps-") or gate.wait(30)

    monkeypatch.setattr(Sweep, "rows", slow)
    app = show_token(sweep_page(open_app, plan="2,0,3,1"), token(5))  # a start that no other test has
    app.button(key="sweep-start").click().run()
    job = entries(app)[0].job
    again = show_token(open_app("sweep", **app.query_params), token(5))
    assert entries(again)[0].job is job
    assert not job.done
    gate.set()
    wait(again, lambda: finished(again))
    assert entries(again)[0].done == 4


def test_two_tabs_never_mix(open_app: Open, show_token: Show) -> None:
    first, second = show_token(open_app(), token(6)), show_token(open_app(), token(7))
    type_notation(first, "0-2")
    type_notation(second, "3-0")
    for number, notation in ((6, "0-2"), (7, "3-0"), (6, "0-2")):
        again = show_token(open_app(plan=notation), token(number))
        again.button(key="undo").click().run()
        assert plan(again) == "0-3"
        again.button(key="redo").click().run()
        assert plan(again) == notation


def test_another_link_in_the_same_tab_is_one_step_after_the_old_ones(open_app: Open, show_token: Show) -> None:
    type_notation(show_token(open_app(), token(8)), "0-2")
    again = show_token(open_app(plan="2,3"), token(8))
    assert plan(again) == "2-3"
    again.button(key="undo").click().run()
    assert plan(again) == "0-2"


def test_an_address_without_a_plan_leaves_the_tab_its_plan(open_app: Open, show_token: Show) -> None:
    type_notation(show_token(open_app(), token(9)), "0-2")
    assert plan(show_token(open_app(), token(9))) == "0-2"


def test_plans_that_a_link_puts_side_by_side_are_there_in_a_tab_that_had_none_or_others(
    open_app: Open, show_token: Show
) -> None:
    def kept(app: AppTest) -> list[str]:
        return [str(one.plan) for some in app.session_state["trays"].values() for one in some]

    show_token(open_app("compare"), token(11))
    for link, plans in (("One\t0,2\nTwo\t3,0-2", ["0,2", "3,0-2"]), ("Three\t1-3", ["1-3"])):
        assert kept(show_token(open_app("compare", tray=link), token(11))) == plans
    # an address that names none leaves the tab its own
    assert kept(show_token(open_app("compare"), token(11))) == ["1-3"]


def test_a_session_that_was_replaced_writes_no_more(open_app: Open, show_token: Show) -> None:
    old = type_notation(show_token(open_app(), token(10)), "0-2")
    new = show_token(open_app(plan="0-2"), token(10))
    type_notation(old, "3")
    type_notation(new, "0-1")
    again = show_token(open_app(plan="0-1"), token(10))
    again.button(key="undo").click().run()
    assert plan(again) == "0-2"


@pytest.mark.parametrize("value", [None, 7, "", "0" * 31, "0" * 33, "g" * 32, "A" * 32, ["0" * 32], "../" * 10])
def test_only_tokens_are_taken_for_tokens(value: object) -> None:
    assert not is_token(value)
    assert is_token("0123456789abcdef" * 2)


def test_the_store_is_bounded_and_forgets_the_oldest() -> None:
    tabs = Tabs(most=2)
    for name in ("a", "b"):
        assert tabs.take(name, name) == {}
        tabs.keep(name, name, {"histories": name})
    assert tabs.take("a", "again") == {"histories": "a"}
    tabs.take("c", "c")
    assert tabs.take("b", "b") == {}
    assert tabs.take("a", "a") == {}


def test_a_history_goes_on_after_another() -> None:
    one, two, three = (LayerPlan.parse(text, 4) for text in ("0-2", "0-1", "3"))
    old = History.start(4).edit(one).edit(two)
    assert old.then(History.start(4).edit(two)) == old
    assert old.undo().then(History.start(4).edit(one)) == old.undo()
    assert old.then(History.start(4).edit(three).edit(one)) == old.edit(three).edit(one)


def test_every_press_of_a_log_counts_once() -> None:
    steps, seen = new_steps({"page": "p", "log": "uur"}, ("", 0))
    assert (steps, seen) == (["undo", "undo", "redo"], ("p", 3))
    assert new_steps({"page": "p", "log": "uuru"}, seen) == (["undo"], ("p", 4))
    assert new_steps({"page": "q", "log": "r"}, seen) == (["redo"], ("q", 1))
    assert len(new_steps({"page": "q", "log": "u" * 5_000}, seen)[0]) == MAX_STEPS


@pytest.mark.parametrize(
    "value", [None, 3, {}, {"page": 1, "log": "u"}, {"page": "p", "log": ["u"]}, {"page": "p" * 65, "log": "u"}]
)
def test_a_log_that_is_none_changes_nothing(value: Any) -> None:
    assert new_steps(value, ("p", 2)) == ([], ("p", 2))


def test_a_tab_that_was_not_seen_for_long_is_forgotten() -> None:
    now = [0.0]
    tabs = Tabs(seconds=60.0, clock=lambda: now[0])
    tabs.take("a" * 32, "me")
    tabs.keep("a" * 32, "me", {"plan": "0-3"})
    now[0] = 50.0
    tabs.take("b" * 32, "you")
    tabs.keep("b" * 32, "you", {"plan": "1"})
    now[0] = 61.0
    assert tabs.take("b" * 32, "you") == {"plan": "1"}
    assert tabs.take("a" * 32, "me") == {}
    now[0] = 200.0
    tabs.keep("b" * 32, "you", {"plan": "2"})
    assert tabs.take("b" * 32, "you") == {}, "what comes too late is kept by nobody"
