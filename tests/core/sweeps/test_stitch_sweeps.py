"""The sweep that skips every block and stitches it: each row against a stitch of that plan alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import surgery_core as sc
from surgery_core.errors import SettingsError
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.description import OpenSweep, SweepJob
from surgery_core.sweeps.kinds import sweep_points
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.sweep import Sweep
from tests.tiny import build_model, build_tokenizer

CALIBRATION = [
    f"{word} ran, and {word} slept; {word * 2} {number}." for number, word in enumerate(["fox", "hen", "ox"] * 4)
]
SCORED = ["The wolf came to the door at night.", "A crow sat in a tree with some cheese."]
tokenizer = build_tokenizer()


def test_the_plans_are_every_block_but_those_at_the_front() -> None:
    points = sweep_points("stitch-block", LayerPlan.identity(5), SweepOptions(max_length=2))
    assert [(point.x, point.y, str(point.plan)) for point in points] == [
        (1, 1, "0,~,2-4"), (1, 2, "0,~,3-4"), (2, 1, "0-1,~,3-4"), (2, 2, "0-1,~,4"), (3, 1, "0-2,~,4"), (3, 2, "0-2,~"),
        (4, 1, "0-3,~"),
    ]  # fmt: skip
    assert [str(point.plan) for point in sweep_points("stitch-block", LayerPlan.parse("0,(1|2),3-4", 5))] == [
        "0,~,3-4", "0,~,4", "0,~", "0,(1|2),3,~",
    ]  # fmt: skip


def test_each_row_is_that_of_the_plan_stitched_alone() -> None:
    model = build_model("llama")
    rows = list(sc.sweep(model, tokenizer, SCORED, "stitch-block", calibration=CALIBRATION))
    kept = 0
    for row, point in zip(rows[1:], sweep_points("stitch-block", LayerPlan.identity(4)), strict=True):
        view = sc.stitch(model, point.plan, tokenizer, CALIBRATION)
        whole = sc.compare(model, view, tokenizer, SCORED)
        assert (row.refused, row.unproved, row.plan) == ("", "", sc.stitch_report(view).plan)
        assert row.nats == pytest.approx(whole.operated.nats / whole.operated.n_tokens, abs=1e-5)
        assert (row.kl, row.top1) == pytest.approx((whole.kl, whole.top1), abs=1e-5)
        kept += "~" in row.plan
    assert kept


def test_a_model_that_cannot_be_stitched_has_rows_that_say_why() -> None:
    rows = list(sc.sweep(build_model("gemma2"), tokenizer, SCORED, "stitch-block", calibration=CALIBRATION))
    assert not rows[0].refused
    assert all("a norm, a gate or experts stand behind it" in row.refused for row in rows[1:])


def test_what_is_scored_is_not_fitted_and_a_start_has_no_stitches() -> None:
    model, points = build_model("llama"), sweep_points("stitch-block", LayerPlan.identity(4))
    with pytest.raises(SettingsError, match="1 of the texts that are scored"):
        Sweep(model, tokenizer, SCORED, points, calibration=[*CALIBRATION, SCORED[0]])
    with pytest.raises(SettingsError, match="cannot start from 0,~,2-3"):
        Sweep(model, tokenizer, SCORED, points, start="0,~,2-3", calibration=CALIBRATION)


def test_a_file_says_what_was_fitted_on(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(tiny_folder))
    scored, fitted = (sc.read_text(text, text[:4]) for text in (SCORED[0], CALIBRATION[0]))
    jobs = [
        SweepJob(str(tiny_folder), "stitch-block", (scored,), calibration=texts)
        for texts in ((fitted,), (fitted, scored))
    ]
    with pytest.raises(SettingsError):
        OpenSweep(jobs[1])
    other = SweepJob(str(tiny_folder), "stitch-block", (scored,), calibration=(sc.read_text(CALIBRATION[1], "x"),))
    names = [OpenSweep(job).description.identity.options for job in (jobs[0], other)]
    assert names[0] != names[1]
    assert "calibration" in names[0]
