"""What the app shows of a plan has been proved for it, and a plan that is refused shows no numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery_core.errors import RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_ui.work import plan_jobs as cached
from tests.ui.conftest import Open

REASON = "This plan cannot be trusted on a LlamaForCausalLM. Exactly the planned layers run: no. 1 of 2 ran."


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let every plan be refused, with L0-1 as the nearest that is allowed; no outcome outlives the test."""
    asked: list[str] = []

    def prove(model: Any, tokenizer: Any, plan: LayerPlan, **ingredients: Any) -> None:
        asked.append(str(plan))
        if str(plan) != "0-1":
            raise RefusedPlanError(REASON)

    monkeypatch.setattr(cached, "prove", prove)
    monkeypatch.setattr(cached, "nearest_plan", lambda *given, **how: LayerPlan.parse("0-1", 4))
    forget()
    yield asked
    forget()


def forget() -> None:
    with cached.WORK._lock:
        for key in [key for key in cached.WORK._jobs if key[0] in ("proof", "nearest")]:
            del cached.WORK._jobs[key]


def words(app: AppTest) -> str:
    return " ".join(one.value for one in app.error).replace("\\", "")


@pytest.mark.parametrize("page", [None, "lens", "skills"])
def test_a_refused_plan_shows_no_numbers_but_the_reason(open_app: Open, refusing: list[str], page: str | None) -> None:
    app = open_app(page, plan="3,1")
    assert not app.exception
    assert f"No numbers are shown for this plan. {REASON}" in words(app)
    assert not app.metric
    assert not app.get("vega_lite_chart")
    assert "3,1" in refusing


def test_the_nearest_plan_that_is_allowed_is_one_click_away(open_app: Open, refusing: list[str]) -> None:
    app = open_app(plan="3,1")
    next(button for button in app.button if button.label == "Use 0-1").click().run()
    assert not app.exception
    assert str(app.session_state["history"].plan) == "0-1"
    assert not app.error
    assert app.metric


def test_who_insists_sees_the_numbers_under_the_reason(open_app: Open, refusing: list[str]) -> None:
    app = open_app(plan="3,1")
    next(button for button in app.button if button.label == "Show the numbers anyway").click().run()
    assert f"Do not trust these numbers. {REASON}" in words(app)
    assert app.metric
    app.text_input(key="notation").set_value("2").run()
    assert "No numbers are shown" in words(app)


def test_every_plan_that_is_shown_has_been_proved(open_app: Open) -> None:
    app = open_app(plan="2,0x2,1")
    assert not app.error
    now = app.session_state["loaded"]
    outcome = cached.WORK.outcome(cached.proof_key(now, LayerPlan.parse("2,0x2,1", 4)))
    assert outcome is not None
    assert outcome.result.passed


def test_checks_are_asked_for_after_what_the_page_shows(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[str] = []
    request = cached.WORK.request
    monkeypatch.setattr(
        cached.WORK,
        "request",
        lambda owner, lane, key, work, needs=None: (kinds.append(str(key[0])), request(owner, lane, key, work, needs))[
            1
        ],
    )
    open_app(plan="1,3,2")
    assert {"text", "comparison", "preflight", "proof"} <= set(kinds)
    last = max(kinds.index(kind) for kind in ("text", "table", "comparison") if kind in kinds)
    assert last < kinds.index("preflight") < kinds.index("proof")


def test_a_check_that_could_not_be_made_is_said(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any, **ingredients: Any) -> None:
        raise RuntimeError("bad")

    monkeypatch.setattr(cached, "prove", broken)
    forget()
    app = open_app(plan="0,3")
    assert any("This plan could not be checked" in one.value for one in app.warning)
    forget()
