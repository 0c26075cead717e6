"""Plans whose figures are no numbers or not proved are said wherever measured plans are shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery_core.sweeps.rows import SweepRow
from surgery_ui.work import sweep_jobs
from tests.ui.conftest import Open
from tests.ui.support.reading import said, wait
from tests.ui.support.sweeping import entries, finished, run_sweep

BROKEN, UNPROVED = "Not a number from layer L1 on.", "Plans of this kind differ from a model built anew."


def doubtful(rows: tuple[SweepRow, ...]) -> tuple[SweepRow, ...]:
    """Return rows of which the second is no number and the last two are not proved."""
    changes = {1: {"not_finite": BROKEN}, len(rows) - 2: {"unproved": UNPROVED}, len(rows) - 1: {"unproved": UNPROVED}}
    return tuple(replace(row, **changes.get(at, {})) for at, row in enumerate(rows))


def lists(app: AppTest) -> list[Any]:
    return [frame.value for frame in app.dataframe if list(frame.value) == ["Plan", "Why"]]


def check(app: AppTest) -> None:
    assert not app.exception
    assert f"1 plan no numbers. {BROKEN}" in said(app)
    assert f"2 plans not proved: their figures may be wrong. {UNPROVED}" in said(app)
    assert [list(table["Why"]) for table in lists(app)] == [[BROKEN], [UNPROVED] * 2]


@pytest.mark.parametrize("kind", ["delete", "skip-block"])
def test_a_sweep_says_which_plans_cannot_be_trusted(open_app: Open, kind: str) -> None:
    app = run_sweep(open_app, kind)
    assert not lists(app)
    (entry,) = entries(app)
    entry.rows = doubtful(entry.rows)
    check(app.run())


def test_sweeps_side_by_side_say_it_each(open_app: Open) -> None:
    app = run_sweep(open_app)
    app.session_state["sweep-from"] = "The unchanged model"
    app.session_state["sweep-kind-Delete"] = "delete-mlp"
    app.run()
    app.button(key="sweep-start").click().run()
    wait(app, lambda: finished(app) and len(entries(app)) == 2).run()
    first, second = entries(app)
    first.rows = doubtful(first.rows)
    app.session_state["sweep-others"] = [first.number]
    check(app.run())
    second.rows = doubtful(second.rows)
    assert len(lists(app.run())) == 4


def test_a_removal_says_which_steps_cannot_be_trusted(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sweep_jobs.remove_greedily

    def remove(*given: Any, **more: Any) -> Any:
        steps = list(real(*given, **more))
        rows = doubtful(tuple(step.row for step in steps))
        return [replace(step, row=row) for step, row in zip(steps, rows, strict=True)]

    monkeypatch.setattr(sweep_jobs, "remove_greedily", remove)
    app = open_app("sweep", plan="3,2,1,0")
    app.session_state["sweep-tab"] = "Removal"
    app.run()
    app.button(key="search-start").click().run()
    wait(app, lambda: finished(app))
    check(app.run())


def test_the_map_of_skills_says_it(open_app: Open) -> None:
    app = open_app("skills", plan="1,0,2-3")
    app.button(key="skills-start").click().run()
    wait(app, lambda: finished(app)).run()
    (entry,) = entries(app)
    entry.rows = doubtful(entry.rows)
    check(app.run())
