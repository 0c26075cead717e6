"""One click finds the least important layer and removes it; another click goes on."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery_core.statistics.verdict import losses_said
from surgery_core.sweeps.rows import SweepRow
from surgery_core.sweeps.sweep import Sweep
from surgery_core.text import bundled_texts
from surgery_ui.words import sweeps as sweep_words
from tests.ui.conftest import Open
from tests.ui.support.reading import errors, plan, said, type_notation, wait
from tests.ui.support.sweeping import entries, run_sweep

ByHand = Callable[[list[int]], Any]


@pytest.fixture(scope="module")
def loss(by_hand: ByHand, tiny_tokenizer: Any) -> Callable[[list[int]], float]:
    """Return the function from layers to the mean loss over the bundled texts, by plain transformers."""
    import torch

    def measure(layers: list[int]) -> float:
        model, sums, count = by_hand(layers), 0.0, 0
        for text in bundled_texts():
            ids = tiny_tokenizer(text.text, add_special_tokens=False)["input_ids"]
            context = model.config.max_position_embeddings
            seen = 1
            for begin in range(0, len(ids), context // 2):
                window = torch.tensor([ids[begin : begin + context]])
                if begin + window.shape[1] <= seen:
                    break
                with torch.no_grad():
                    logp = model(window).logits[0].double().log_softmax(-1)
                for at in range(max(1, seen - begin), window.shape[1]):
                    sums -= float(logp[at - 1, window[0, at]])
                    count += 1
                seen = begin + window.shape[1]
        return sums / count

    return measure


def click(app: AppTest) -> AppTest:
    """Click the button and wait until the plan has changed."""
    before = plan(app)
    app.button(key="least-start").click().run()
    return wait(app, lambda: plan(app) != before)


def test_the_layer_goes_that_hurts_least_and_what_it_cost_is_said(
    open_app: Open, loss: Callable[[list[int]], float]
) -> None:
    app = open_app()
    losses = {gone: loss([layer for layer in range(4) if layer != gone]) for gone in range(4)}
    least = min(losses, key=losses.__getitem__)
    click(app)
    assert app.query_params["plan"] == {0: "1-3", 1: "0,2-3", 2: "0-1,3", 3: "0-2"}[least]
    sentence = next(one.value for one in app.markdown if "hurt least" in one.value)
    assert sentence.startswith(f"L{least} hurt least and was removed")
    change = losses[least] - loss([0, 1, 2, 3])
    row = next(row for row in entries(app)[0].rows if row.number == least)
    assert row.loss_change == pytest.approx(change, rel=1e-3, abs=1e-5)
    number = re.search(r"removed: ([\d.]+) % (more|less) surprised", sentence.replace("\\", ""))
    assert number is not None
    assert float(number[1]) == pytest.approx(100 * abs(math.expm1(change)), rel=0.1, abs=0.06)
    assert (number[2] == "more") == (change > 0)
    app.button(key="undo").click().run()
    assert plan(app) == "0-3"
    assert "hurt least" not in said(app)
    app.button(key="redo").click().run()
    assert "hurt least" in said(app)


def test_repeated_clicks_walk_on_as_greedy_removal_does(open_app: Open, loss: Callable[[list[int]], float]) -> None:
    app, left = open_app(plan="3,1,0,2"), [3, 1, 0, 2]
    for _ in range(3):
        left = min(([*left[:at], *left[at + 1 :]] for at in range(len(left))), key=loss)
        click(app)
        wait(app, lambda: "hurt least" in said(app))
        text = app.session_state["history"].plan
        assert [slot.layers[0].index for slot in text] == left
    assert len(entries(app)) == 3
    assert app.button(key="least-start").disabled
    assert "One layer is left" in said(app)


@pytest.mark.parametrize(("notation", "reason"), [("", "No layer is left to remove."), ("2", "One layer is left.")])
def test_where_nothing_can_be_removed_the_button_says_why(open_app: Open, notation: str, reason: str) -> None:
    app = open_app(plan=notation)
    assert app.button(key="least-start").disabled
    assert reason in said(app)


def test_a_sweep_that_was_run_is_not_run_again(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run_sweep(open_app)
    monkeypatch.setattr(Sweep, "rows", lambda *given, **more: pytest.fail("measured again"))
    app.switch_page("../pages/surgery.py").run()
    app.button(key="least-start").click().run()
    assert not app.exception
    assert plan(app) != "0-3"
    assert "hurt least and was removed" in said(app)
    assert len(entries(app)) == 1
    # three plans of three layers, from how long four of four took: 5 rows of 100 s, times (3 / 4) squared, 281 s, as a span
    # from 281 / √2 to 281 x √2; or some milliseconds
    for seconds, expected in ((100.0, "3 plans: 3 to 7 min."), (0.005, "3 plans: about 1 s.")):
        entries(app)[0].rows = tuple(replace(row, seconds=seconds) for row in entries(app)[0].rows)
        assert expected in said(app.run())
    app.button(key="undo").click().run()
    assert "4 plans, measured before." in said(app)


def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Have sweeps wait after their third row until the event is set that is returned."""
    from surgery_core.errors import Stopped

    gate, rows = threading.Event(), Sweep.rows

    def held(self: Sweep, **given: Any) -> Any:
        for number, row in enumerate(rows(self, **given)):
            yield row
            while number == 2 and not gate.wait(0.01):
                if self.setup.stop is not None and self.setup.stop.is_set():
                    raise Stopped("Stopped by the test.")

    monkeypatch.setattr(Sweep, "rows", held)
    return gate


def test_meanwhile_it_says_how_far_it_is_and_pauses_and_goes_on(
    open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = slow(monkeypatch)
    app = open_app(plan="1,3,0")
    app.button(key="least-start").click().run()
    wait(app, lambda: any("2 of 3" in bar.proto.text for bar in app.main.get("progress")))
    app.button(key="sweep-pause").click().run()
    assert plan(app) == "1,3,0"
    gate.set()
    app.button(key="sweep-resume").click().run()
    wait(app, lambda: "hurt least and was removed" in said(app))
    assert len(app.session_state["history"].plan) == 2


def test_cancelled_it_removes_nothing(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch)
    app = open_app(plan="1,3,2,0")
    app.button(key="least-start").click().run()
    wait(app, lambda: any("2 of 4" in bar.proto.text for bar in app.main.get("progress")))
    app.button(key="sweep-cancel").click().run()
    assert plan(app) == "1,3,2,0"
    assert not app.button(key="least-start").disabled
    app.run()
    assert "hurt least" not in said(app)


def test_a_plan_that_was_changed_meanwhile_stays_as_it_is(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = slow(monkeypatch)
    app = open_app(plan="2,3,1,0")
    app.button(key="least-start").click().run()
    type_notation(app, "0-1")
    gate.set()
    wait(app, lambda: "but the plan was changed meanwhile, so nothing was removed" in said(app))
    assert plan(app) == "0-1"
    assert not app.exception


def test_while_another_sweep_runs_it_says_so(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = slow(monkeypatch)
    app = open_app("sweep", plan="3,2,1")
    app.button(key="sweep-start").click().run()
    app.switch_page("../pages/surgery.py").run()
    # it is the sweep that this plan needs
    assert not app.button(key="least-start").disabled
    type_notation(app, "0,2,1")
    assert app.button(key="least-start").disabled
    assert "“Delete each layer” is running" in said(app)
    gate.set()
    wait(app, lambda: not app.button(key="least-start").disabled)


def test_plans_without_figures_remove_nothing(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Sweep.rows

    def refused(self: Sweep, **given: Any) -> Any:
        for row in rows(self, **given):
            yield row if row.number < 0 else SweepRow(row.number, row.x, None, row.plan, refused="not on this model")

    monkeypatch.setattr(Sweep, "rows", refused)
    app = open_app(plan="0,3,1")
    app.button(key="least-start").click().run()
    wait(app, lambda: "this plan has no figures" in said(app))
    assert plan(app) == "0,3,1"
    assert not errors(app)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        # e^0.0119 = 1.01197, e^0.004 = 1.0040, e^0.0198 = 1.0200
        (
            {"loss_change": 0.0119, "change_low": 0.004, "change_high": 0.0198, "verdict": "worse"},
            "L7 hurt least and was removed: 1.2 % more surprised by each token; between 0.4 and 2.0 % on texts like these.",
        ),
        (
            {"loss_change": 0.001, "change_low": -0.002, "change_high": 0.004, "verdict": "the same"},
            "L7 hurt least and was removed: 0.1 % more surprised by each token (the same within 2 %: between 0.2 % less and "
            "0.4 % more surprised on texts like these).",
        ),
        (
            {"loss_change": -0.05, "change_low": -0.08, "change_high": -0.02, "verdict": "better"},
            "L7 hurt least and was removed: 4.9 % less surprised by each token; between 2.0 and 7.7 % on texts like these.",
        ),
    ],
)
def test_what_is_said_by_hand(row: dict[str, Any], sentence: str) -> None:
    texts = {f"Text {number}": 1.0 for number in range(12)}
    assert sweep_words.least_said("L7", SweepRow(7, 7, None, "", texts=texts, **row), 0.02) == sentence


def test_too_few_texts_say_no_more_than_they_can() -> None:
    said_of_two = losses_said("too few to say", 0.0119, math.nan, math.nan, 2)
    assert said_of_two == "1.2 % more surprised by each token; too few texts to say whether that is so on others."
