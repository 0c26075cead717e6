"""A stitched plan stands beside the unchanged model and the plain cut: texts, figures, what is said of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery_core.plans.plan import LayerPlan
from surgery_core.suture.stitch import _Work
from surgery_core.text import read_text
from surgery_ui.components.strip import _seam
from surgery_ui.parts import waiting
from surgery_ui.session import session
from surgery_ui.sidebar import sidebar
from surgery_ui.work import plan_jobs
from surgery_ui.work.job import Job
from tests.ui.conftest import Open
from tests.ui.support.reading import greedy_by_hand, perplexity_by_hand, plan, said, table, wait, written

ByHand = Callable[[list[int]], Any]
PROMPT = "Once upon a time"


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fit on few texts, and let every stitch count as better: a random model predicts none, so its loss says nothing."""
    few = tuple(read_text(f"{one} ran to the sea, and {one} slept.", one) for one in ("fox", "hen", "ox"))
    falling = itertools.count(0, -1)
    monkeypatch.setattr(plan_jobs, "calibration_texts", lambda: few)
    monkeypatch.setattr(_Work, "nats", lambda work, view, told: float(next(falling)))
    plan_jobs._stitches.clear()
    yield
    plan_jobs._stitches.clear()


def bold(app: AppTest) -> list[str]:
    return [one.value.strip("*") for one in app.markdown if one.value.startswith("**")]


def done(app: AppTest) -> AppTest:
    return wait(app, lambda: app.table and "perplexity_cut" in table(app))


def test_three_columns_and_the_one_in_the_middle_is_the_plain_cut(
    open_app: Open, by_hand: ByHand, tiny_tokenizer: Any
) -> None:
    app = done(open_app(plan="0,~,3", length="12", prompt=PROMPT))
    assert [one for one in bold(app) if one in ("Before", "Cut", "Stitched", "After")] == ["Before", "Cut", "Stitched"]
    start = len(tiny_tokenizer(PROMPT, add_special_tokens=False)["input_ids"])
    for shown, layers in zip(written(app)[:2], ([0, 1, 2, 3], [0, 3]), strict=True):
        ids = greedy_by_hand(by_hand(layers), tiny_tokenizer, PROMPT, 12)[start:]
        plain = "".join(chr(ord(c) - 0x2400) if 0x2400 <= ord(c) < 0x2420 else c for c in shown)
        assert plain == tiny_tokenizer.decode(ids, skip_special_tokens=True)
    assert len(written(app)) == 3


def test_the_tables_have_the_plain_cut_beside_the_stitched_plan(
    open_app: Open, by_hand: ByHand, tiny_tokenizer: Any
) -> None:
    text = "A short text of my own, for one window."
    app = open_app(plan="0,~,3")
    app.text_area(key="own-typed").set_value(text).run()
    app.button(key="own-score").click().run()
    wait(done(app), lambda: table(app)["perplexity_cut"].notna().all())
    row = table(app).iloc[0]
    cut, base = (perplexity_by_hand(by_hand(layers), tiny_tokenizer, text) for layers in ([0, 3], [0, 1, 2, 3]))
    assert row["title"] == "Your text"
    assert row["perplexity_cut"] == pytest.approx(cut, rel=1e-5)
    assert row["ratio_cut"] == pytest.approx(cut / base, rel=1e-5)
    assert row["perplexity_after"] != pytest.approx(cut, rel=1e-3)
    sides = app.table[0].value
    assert list(sides.index) == ["Base", "Cut", "Stitched"]
    assert sides["Top-1 kept"]["Base"] == "100.0%"
    assert {"Cut", "Stitched"} <= set(sides.index[sides["Verdict"] != ""])
    assert "Stitched, against cut: " in said(app)


def test_a_plan_without_a_stitch_has_two_columns(open_app: Open) -> None:
    app = open_app(plan="0,3")
    assert [one for one in bold(app) if one in ("Before", "Cut", "Stitched", "After")] == ["Before", "After"]
    assert not app.table
    assert "perplexity_cut" not in table(app)


def test_a_stitch_that_makes_nothing_better_is_said_and_the_plain_cut_is_offered(
    open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Work, "nats", lambda work, view, told: 1.0)
    app = open_app(plan="0-1,~,3")
    wait(app, lambda: "the loss on the texts held out is no lower" in said(app))
    wait(app, lambda: any(button.label == "Use 0-1,3" for button in app.button))


def test_the_switch_in_the_tray_stitches_and_takes_out(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: where no layer is missing between others there is no switch."""
    assert _seam(LayerPlan.identity(4)) is None
    assert _seam(LayerPlan.parse("1-3", 4)) is None
    assert [(_seam(LayerPlan.parse(one, 4)) or {})["on"] for one in ("0,3", "0,~,3", "0.attn,1-3")] == [
        False,
        True,
        False,
    ]
    found: list[LayerPlan] = []
    monkeypatch.setattr(
        session, "change", lambda name, edit: found.append(edit(LayerPlan.parse("0,~,3", 4).unstitched))
    )
    for wanted in (True, False, None):
        monkeypatch.setattr(sidebar, "wants_stitches", lambda wanted=wanted: wanted)
        sidebar._take_seam()
    assert [str(one) for one in found] == ["0,~,3", "0,3"]


@pytest.mark.parametrize("sent", [None, {}, {"stitched": "yes"}, {"stitched": 1}, [True]])
def test_what_the_switch_sends_is_checked(monkeypatch: pytest.MonkeyPatch, sent: Any) -> None:
    from surgery_ui.components import strip

    monkeypatch.setattr(strip.st, "session_state", {strip.KEY: {"seam": sent}})
    assert strip.wants_stitches() is None


def test_meanwhile_it_is_said_that_the_cut_is_stitched_and_how_far_that_is() -> None:
    need = Job[Any](("stitches", "m", "0,~,3"), lambda job: None)
    text = Job[Any](("text", "m"), lambda job: None, needs=[need])
    other = Job[Any](("text", "m"), lambda job: None)
    assert waiting.writing(text) == "Stitching the cut …"
    need.report(1, 4)
    assert waiting.writing(text) == waiting.stitching(text) == "Stitching the cut … 25%"
    assert waiting.doing([text], "Scoring texts") == "Stitching the cut"
    assert waiting.doing([text, other], "Scoring texts") == "Scoring texts"
    need.run()
    assert waiting.stitching(text) == ""
    assert waiting.doing([text], "Scoring texts") == "Scoring texts"
    assert waiting.writing(text) == "Writing …"


def test_stitches_are_fitted_by_one_job_that_all_that_is_shown_waits_for(open_app: Open) -> None:
    app = open_app(plan="0,~,3")
    done(app)
    assert plan(app) == "0,~,3"
    (job,) = [one for one in plan_jobs.WORK.finished("stitches") if one.key[2] == "0,~,3"]
    assert str(job.result.plan) == "0,~,3"
