"""Sweeps as jobs without a page: cancel, pause, sharing, growth, saving."""

from __future__ import annotations

import ctypes
import gc
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from surgery_core.errors import Stopped
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.file import SweepResult
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.request import SweepRequest
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.text import Text, bundled_texts
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work.sweep_jobs import SWEEPS, sweep_job

ROOT = Path(__file__).resolve().parents[3]
ByHand = Callable[[list[int]], Any]


@pytest.fixture(scope="module")
def fable() -> LoadedModel:
    return load_model(str(ROOT / "models" / "fable"), allow_paths=True)


def request(kind: str = "skip-block", **more: Any) -> SweepRequest:
    return SweepRequest(kind, SweepOptions(), LayerPlan.identity(12), bundled_texts(), **more)


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def tensor_bytes() -> int:
    import torch

    return sum(one.nbytes for one in gc.get_objects() if issubclass(type(one), torch.Tensor))


def cancelled(fable: LoadedModel, owner: str) -> float:
    """Start a sweep, cancel it in its middle, and return how long it took to end."""
    job = sweep_job(owner, fable, request())
    until(lambda: len(job.pieces) > 3)
    began = time.monotonic()
    SWEEPS.leave(owner)
    assert job.wait(10)
    assert isinstance(job.error, Stopped)
    return time.monotonic() - began


def test_a_cancel_answers_at_once_and_frees_every_tensor(fable: LoadedModel) -> None:
    cancelled(fable, "warm")
    gc.collect()
    gc.disable()
    try:
        time.sleep(0.1)
        tensors = tensor_bytes()
        times = [cancelled(fable, f"person-{number}") for number in range(10)]
        time.sleep(0.1)
        # reference counts alone must free them: the collector is off
        assert tensor_bytes() <= tensors
    finally:
        gc.enable()
    assert max(times) < 0.5


def give_back_free_memory() -> None:
    """Let the C library hand back what is free; how much of that it holds varies by a hundred megabytes."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def test_ten_cancelled_sweeps_leave_no_growth(fable: LoadedModel) -> None:
    process = psutil.Process()
    sizes = []
    for turn in range(2):
        for number in range(10):
            cancelled(fable, f"person-{turn}-{number}")
        give_back_free_memory()
        sizes.append(process.memory_info().rss)
    assert sizes[1] - sizes[0] < 20 * 2**20


def test_a_paused_sweep_goes_on_from_the_rows_that_are_there(fable: LoadedModel) -> None:
    whole = sweep_job("whole", fable, request("delete"))
    first = sweep_job("first", fable, request("delete", measures=SweepMeasures(agreement=False)))
    until(lambda: len(first.pieces) > 5)
    SWEEPS.leave("first")
    assert first.wait(10)
    done = [row.number for row in first.pieces[1:] if row.number >= 0]
    rest = sweep_job("first", fable, request("delete", measures=SweepMeasures(agreement=False)), done)
    assert rest.wait(60)
    assert whole.wait(60)
    found = {row.number: row.perplexity for row in (*first.pieces[1:], *rest.pieces[1:])}
    assert sorted(found) == list(range(-1, 12))
    assert not set(done) & {row.number for row in rest.pieces[1:] if row.number >= 0}
    assert found == pytest.approx({row.number: row.perplexity for row in whole.pieces[1:]}, rel=1e-5)


def test_two_people_who_ask_for_the_same_sweep_share_it(fable: LoadedModel) -> None:
    text = (Text("Mine", "Once upon a time there was a little old woman who lived in a shoe."),)
    asked = SweepRequest("delete", SweepOptions(), LayerPlan.identity(12), text)
    one, other = sweep_job("one", fable, asked), sweep_job("other", fable, asked)
    assert one is other
    SWEEPS.leave("one")
    assert other.wait(60)
    assert other.error is None


def test_the_first_layer_is_the_most_important_one(fable: LoadedModel) -> None:
    job = sweep_job("importance", fable, request("delete"))
    assert job.wait(60)
    rows = [row for row in job.pieces[1:] if row.number >= 0]
    assert max(rows, key=lambda row: row.nats).x == 0
    names = {row.number: f"L{row.x}" for row in rows}
    said = sweep_words.seen(job.pieces[1:], names, 0.02)
    assert re.fullmatch(
        r"Of 12 plans: \d+ worse.*\. L0 costs most \(perplexity ×[\d.]+\), L\d+ least \(×[\d.]+\)\.", said
    )


def test_a_result_can_be_saved_and_read_again(fable: LoadedModel) -> None:
    job = sweep_job("saved", fable, request("delete"))
    assert job.wait(60)
    result = SweepResult(job.pieces[0], tuple(job.pieces[1:]))
    again = SweepResult.read(result.to_csv())
    assert again.identity == result.identity
    assert [row.nats for row in again.rows] == [row.nats for row in result.rows]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (41, "41 s"),
        (200, "3 min"),
        (3600 * 2.5, "2 h 30 min"),
        (math.inf, "a while"),
        (math.nan, "a while"),
    ],
)
def test_times_in_words(seconds: float, text: str) -> None:
    assert sweep_words.duration(seconds) == text
