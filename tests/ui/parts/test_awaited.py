"""The skeleton of a section: its place is held open, its result is drawn once, and what failed can be done again."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def page() -> None:
    import streamlit as st

    from surgery_core.errors import SurgeryError
    from surgery_ui.parts.awaited import Awaited
    from surgery_ui.work.job import Job

    def fail(job: Job[str]) -> str:
        raise SurgeryError("No luck.")

    def drawn() -> None:
        st.text(job.result)

    given = st.session_state["given"]
    job: Job[str] = Job(("text",), fail if given == "fails" else lambda job: "the result")
    if given == "known":
        job.run()
    section = Awaited("me", [job] if given != "nothing" else [], "mine", drawn, text="Working", height=123)
    section.show()
    if given != "waits":
        job.run()
    for _ in range(2):
        section.show()


def run(given: str) -> AppTest:
    app = AppTest.from_function(page, default_timeout=60)
    app.session_state["given"] = given
    app.run()
    assert not app.exception
    return app


def test_a_result_is_drawn_once_in_place_of_what_held_it_open() -> None:
    for given in ("comes", "known"):
        app = run(given)
        assert [text.value for text in app.text] == ["the result"]
        assert not app.get("skeleton")
        assert not app.get("progress")


def test_the_place_is_held_open_below_a_bar_while_the_work_runs() -> None:
    app = run("waits")
    assert not app.text
    assert len(app.get("skeleton")) == 1
    assert len(app.get("progress")) == 1


def test_what_failed_says_so_and_can_be_done_again() -> None:
    app = run("fails")
    assert not app.text
    assert [error.value for error in app.error] == ["No luck\\."]
    assert [button.key for button in app.button] == ["retry-mine"]


def test_without_work_there_is_nothing_to_see() -> None:
    app = run("nothing")
    assert not app.text
    assert not app.get("skeleton")
    assert not app.error
