"""Two people who look for the best plans at the same time: each gets what a sweep alone gives."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from surgery_core.errors import Stopped
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.request import SweepRequest
from surgery_core.sweeps.rows import SweepRow
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.text import Text, text_sets
from surgery_ui.work.job import Job
from surgery_ui.work.sweep_jobs import SWEEPS, sweep_job

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def fable() -> LoadedModel:
    return load_model(str(ROOT / "models" / "fable"), allow_paths=True)


def asked(best: int | None, kind: str = "delete") -> SweepRequest:
    stories = text_sets()["stories"].texts[:24]
    texts = tuple(Text(text.title, text.kind, " ".join(text.text.split()[:30])) for text in stories)
    measures = replace(SweepMeasures(agreement=False), best=best)
    return SweepRequest(kind, SweepOptions(), LayerPlan.identity(12), texts, measures)


def rows(job: Job[str]) -> dict[int, SweepRow]:
    assert job.wait(180)
    assert job.error is None
    return {row.number: row for row in job.pieces[1:]}


def best(found: dict[int, SweepRow], count: int) -> list[int]:
    ended = [row for row in found.values() if row.number >= 0 and not row.left]
    return [row.number for row in sorted(ended, key=lambda row: row.nats)[:count]]


def test_two_races_at_once_come_to_the_ends_of_a_whole_sweep(fable: LoadedModel) -> None:
    one, other = sweep_job("one", fable, asked(2)), sweep_job("other", fable, asked(3))
    assert one is not other
    whole = rows(sweep_job("third", fable, asked(None)))
    for found, count in ((rows(one), 2), (rows(other), 3)):
        assert best(found, count) == best(whole, count)
        assert any(row.left for row in found.values()), "nothing was left, so nothing is tested"
        for row in found.values():
            if not row.left:
                assert row.texts == pytest.approx(whole[row.number].texts, abs=1e-5)


def test_the_same_race_is_run_once_and_goes_on_when_one_of_two_leaves(fable: LoadedModel) -> None:
    one, other = sweep_job("one", fable, asked(2, "delete-mlp")), sweep_job("other", fable, asked(2, "delete-mlp"))
    assert one is other
    SWEEPS.leave("one")
    assert best(rows(other), 2) == best(rows(sweep_job("third", fable, asked(None, "delete-mlp"))), 2)


def test_one_of_two_different_races_is_stopped_alone(fable: LoadedModel) -> None:
    gone, stays = sweep_job("one", fable, asked(2, "delete-attention")), sweep_job("other", fable, asked(2, "repeat"))
    end = time.monotonic() + 60
    while not gone.pieces and time.monotonic() < end:
        time.sleep(0.02)
    SWEEPS.leave("one")
    assert gone.wait(20)
    assert isinstance(gone.error, Stopped)
    assert best(rows(stays), 2) == best(rows(sweep_job("third", fable, asked(None, "repeat"))), 2)
