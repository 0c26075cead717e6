"""Removal and importance are paused, gone on with, named, removed, saved, opened and brought back as sweeps are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from surgery_core.errors import Stopped
from surgery_core.sweeps.importance_file import ImportanceResult
from surgery_core.sweeps.rows import SweepRow
from surgery_ui.components.arrival import arrival as shown_arrival
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.sidebar import sidebar as controls
from surgery_ui.sweep_page import view
from surgery_ui.work import sweep_jobs
from tests.ui.conftest import Open
from tests.ui.support.reading import errors, said, wait
from tests.ui.support.sweeping import entries, finished, open_tab

Gate = Callable[[int], threading.Event]
WORK = {"Removal": ("search-start", "remove_greedily"), "Importance": ("importance-start", "read_on")}
"""Of each tab, the key of its button and what its job calls."""


@pytest.fixture
def show_token(monkeypatch: pytest.MonkeyPatch) -> Callable[[AppTest, str], AppTest]:
    """Return the function that shows a session a tab's token; a field stands in for the component in the browser."""

    def tab(known: bool, on_token: Callable[[], None], on_steps: Callable[[], None]) -> None:
        st.text_input("Token", key="shown-token", on_change=on_token)

    monkeypatch.setattr(controls, "browser_tab", tab)
    monkeypatch.setattr(controls, "sent", lambda name: st.session_state["shown-token"])
    return lambda app, token: app.text_input(key="shown-token").set_value(token).run()


def held(monkeypatch: pytest.MonkeyPatch, name: str, after: int) -> threading.Event:
    """Have work wait after so many results until the event is set that is returned, or it is stopped."""
    real, gate = getattr(sweep_jobs, name), threading.Event()

    def slow(*given: Any, **more: Any) -> Iterator[Any]:
        stop = more.get("stop") or given[-1]
        for number, result in enumerate(real(*given, **more), 1):
            yield result
            while number >= after and not gate.wait(0.01):
                if stop.is_set():
                    raise Stopped("Stopped by the test.")

    monkeypatch.setattr(sweep_jobs, name, slow)
    return gate


def started(open_app: Open, tab: str, **address: str) -> AppTest:
    app = open_tab(open_app, tab, **address)
    app.button(key=WORK[tab][0]).click().run()
    assert not app.exception
    return app


def done(open_app: Open, tab: str, **address: str) -> AppTest:
    app = started(open_app, tab, **address)
    return wait(app, lambda: finished(app)).run()


def plain(entry: Entry) -> Any:
    """Return what an entry came to, without how long it took."""
    if entry.importance is not None:
        found = entry.importance
        return [found.labels, found.n_tokens, found.read, found.similarity.tolist(), found.contribution_norm.tolist()]
    return [replace(row, seconds=0.0) for row in entry.rows]


@pytest.mark.parametrize(("tab", "at"), [("Removal", 1), ("Importance", 2)])
def test_it_pauses_outlives_a_reload_and_goes_on_to_the_same_end(
    open_app: Open, show_token: Any, monkeypatch: pytest.MonkeyPatch, tab: str, at: int
) -> None:
    start, name = WORK[tab]
    # of a removal the first result is the plan that it starts from
    gate = held(monkeypatch, name, after=2)
    number = f"{50 + at:032x}"
    app = show_token(open_tab(open_app, tab, plan="3,1,0,2"), number)
    app.button(key=start).click().run()
    wait(app, lambda: entries(app)[0].done == at)
    app.button(key="sweep-pause").click().run()
    (entry,) = entries(app)
    assert entry.state == "paused"
    assert f"Paused at {at} of " in said(app)
    again = show_token(open_app("sweep", **app.query_params), number)
    again.session_state["sweep-tab"] = tab
    again.run()
    assert entries(again) == [entry]
    assert f"Paused at {at} of " in said(again)
    assert entry.done == at
    gate.set()
    results: list[Any] = []
    counted = getattr(sweep_jobs, name)
    monkeypatch.setattr(
        sweep_jobs, name, lambda *given, **more: (results.append(one) or one for one in counted(*given, **more))
    )
    again.button(key="sweep-resume").click().run()
    wait(again, lambda: finished(again)).run()
    assert not again.exception
    assert len(results) == entry.total - at, "what was done is not done again"
    monkeypatch.undo()
    # another texts' set would be another work; the same plan written otherwise is the same work under another key
    sweep_jobs.SWEEPS.forget(lambda key: key[0] in ("search", "importance"))
    whole = done(open_app, tab, plan="3,1,0,2")
    assert plain(entries(whole)[0]) == plain(entry)


@pytest.mark.parametrize("tab", WORK)
def test_one_pauses_and_the_others_goes_on(open_app: Open, monkeypatch: pytest.MonkeyPatch, tab: str) -> None:
    gate = held(monkeypatch, WORK[tab][1], after=2)
    one, other = (started(open_app, tab, plan="3,0,2,1") for _ in range(2))
    wait(one, lambda: entries(one)[0].done)
    wait(other, lambda: entries(other)[0].done)
    assert entries(one)[0].job is entries(other)[0].job
    one.button(key="sweep-pause").click().run()
    assert entries(one)[0].state == "paused"
    before = entries(one)[0].done
    gate.set()
    wait(other, lambda: finished(other))
    assert entries(other)[0].done == entries(other)[0].total
    assert entries(one)[0].done == before
    one.run()
    assert entries(one)[0].state == "paused"


@pytest.mark.parametrize("tab", WORK)
def test_it_is_renamed_and_removed(open_app: Open, tab: str) -> None:
    app = done(open_app, tab)
    app.text_input(key="sweep-name-1").set_value("My first").run()
    assert entries(app)[0].name == "My first"
    app.switch_page("../pages/models.py").run()
    app.switch_page("../pages/sweep.py").run()
    app.session_state["sweep-tab"] = tab
    app.run()
    assert "My first" in [heading.value for heading in app.subheader]
    app.button(key="sweep-remove").click().run()
    assert not entries(app)
    assert "Press Start" in said(app)


@pytest.mark.parametrize("tab", WORK)
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_it_is_saved_and_opened_as_it_was_from_any_tab(open_app: Open, tab: str, kind: str) -> None:
    app = done(open_app, tab, plan="0,2,3")
    (entry,) = entries(app)
    assert entry.result is not None
    text = entry.result.to_csv() if kind == "csv" else entry.result.to_json()
    app.session_state["sweep-tab"] = "Sweep"
    app.run()
    app.file_uploader(key="sweep-file-0").upload(f"mine.{kind}", text.encode()).run()
    assert not app.exception
    assert not app.error
    opened = entries(app)[-1]
    assert app.session_state["sweep-tab"] == tab
    assert (opened.state, opened.name, opened.done, opened.total) == ("opened", "mine", entry.done, entry.total)
    assert "Opened from a file." in said(app)
    assert "read only" not in said(app)
    assert len(app.get("vega_lite_chart")) == (1 if tab == "Removal" else 5)
    if isinstance(result := opened.result, ImportanceResult):
        assert np.array_equal(result.found.similarity, entry.importance.similarity)
    else:
        assert [row.nats for row in opened.rows] == [row.nats for row in entry.rows]


def test_a_removal_of_another_model_is_labelled_and_its_plans_are_checked(open_app: Open) -> None:
    app = done(open_app, "Removal")
    text = entries(app)[0].result.to_csv().replace(entries(app)[0].model, "gpt2 abc float32").replace("0-3", "0-9")
    app.file_uploader(key="sweep-file-0").upload("other.csv", text.encode()).run()
    wait(app, lambda: "Opened to read only" in said(app))
    box = next(box for box in app.selectbox if str(box.key).startswith("adopt-sweep"))
    box.set_value(0).run()
    assert "no layer 9" in errors(app)
    assert app.query_params["plan"] == "0-3"


def test_each_tab_lists_its_own_and_each_has_one_at_work(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = held(monkeypatch, "remove_greedily", after=1)
    app = started(open_app, "Removal", plan="2,3,0,1")
    assert app.button(key="search-start").disabled
    app.session_state["sweep-tab"] = "Sweep"
    app.run()
    assert not app.button(key="sweep-start").disabled
    assert "sweep-list" not in [box.key for box in app.selectbox]
    # what the open tab does not show goes on, and the sidebar says how far it is
    assert [bar.proto.text.replace("\\", "") for bar in app.sidebar.get("progress")] == [
        "Greedy removal: 0 of 3 removals"
    ]
    app.button(key="sweep-start").click().run()
    gate.set()
    wait(app, lambda: len(entries(app)) == 2 and finished(app)).run()
    assert app.selectbox(key="sweep-list").options == ["Delete each layer"]
    app.session_state["sweep-tab"] = "Removal"
    app.run()
    assert app.selectbox(key="sweep-list").options == ["Greedy removal"]
    assert "Done: 3 removals" in said(app)


@pytest.mark.parametrize("tab", WORK)
def test_what_crashes_says_so_and_can_be_gone_on_with(
    open_app: Open, monkeypatch: pytest.MonkeyPatch, tab: str
) -> None:
    real, name = getattr(sweep_jobs, WORK[tab][1]), WORK[tab][1]
    broken = [True]

    def crash(*given: Any, **more: Any) -> Iterator[Any]:
        for result in real(*given, **more):
            yield result
            if broken:
                raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(sweep_jobs, name, crash)
    app = started(open_app, tab, plan="1,3,2,0")
    wait(app, lambda: app.error)
    assert "Something went wrong on the server" in errors(app)
    assert entries(app)[0].state == "failed"
    broken.clear()
    app.button(key="sweep-resume").click().run()
    wait(app, lambda: finished(app)).run()
    assert not app.error
    assert entries(app)[0].done == entries(app)[0].total


def test_cancelled_before_its_first_result_it_is_gone(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    held(monkeypatch, "remove_greedily", after=1)
    app = started(open_app, "Removal", plan="2,1,3,0")
    wait(app, lambda: entries(app)[0].rows)
    app.button(key="sweep-cancel").click().run()
    assert not entries(app)
    assert "No removal yet" in said(app)


@pytest.mark.parametrize("tab", ["Sweep", *WORK])
def test_a_start_brings_what_it_starts_into_view(open_app: Open, monkeypatch: pytest.MonkeyPatch, tab: str) -> None:
    counts: list[int] = []
    assert view.arrival is shown_arrival
    monkeypatch.setattr(view, "arrival", lambda key, count: counts.append(count))
    app = open_tab(open_app, tab)
    assert counts[-1] == 0
    app.button(key=WORK.get(tab, ("sweep-start",))[0]).click().run()
    assert counts[-1] == 1
    wait(app, lambda: finished(app)).run()
    if tab == "Importance":
        app.button(key="importance-measure").click().run()
    assert counts[-1] == 1, "what is started beside its own result moves nothing"


def test_a_search_that_finds_no_plan_says_where_it_ended(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sweep_jobs.remove_greedily
    monkeypatch.setattr(
        sweep_jobs, "remove_greedily", lambda *given, **more: list(real(*given, **more))[: 2 if "before" in more else 0]
    )
    app = done(open_app, "Removal", plan="0,3,2,1")
    assert "Ended at 1 of 3 removals: no plan without one more layer comes to figures." in said(app)


def test_a_line_of_a_file_whose_plan_is_none_is_left_out(open_app: Open) -> None:
    app = done(open_app, "Removal")
    (entry,) = entries(app)
    odd = tuple(replace(row, plan="0,,1") if row.number == 1 else row for row in entry.rows)
    assert all(isinstance(row, SweepRow) for row in odd)
    text = replace(entry.result, rows=odd).to_csv()
    app.file_uploader(key="sweep-file-0").upload("odd.csv", text.encode()).run()
    assert not app.exception
    table = next(frame.value for frame in app.dataframe if "Layers left" in frame.value)
    assert list(table["Layers left"]) == [4, 3, 1]
