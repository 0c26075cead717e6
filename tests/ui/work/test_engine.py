"""The same jobs by threads of this process and by workers on Ray: the same results, also where a worker is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from surgery_core.errors import ModelLoadError, RefusedPlanError, Stopped, SurgeryError
from surgery_core.keeping.report.asked import Asked as AskedReport
from surgery_core.lenses.jacobian_fit import JacobianFit
from surgery_core.lenses.training import LensTraining
from surgery_core.models.opening import LoadedModel
from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.recipe import Recipe
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.request import ImportanceRequest, RemovalRequest, SweepRequest
from surgery_core.text import Text
from surgery_ui.work import heal_jobs, keep_jobs, lens_jobs, plan_jobs, study_jobs, sweep_jobs, timing
from surgery_ui.work.asked import Heard
from surgery_ui.work.engine import Engine, hear
from surgery_ui.work.job import Job, Unexpected
from surgery_ui.work.kinds import TABLE, Lane, Workers, kinds_of
from surgery_ui.work.limits import limits
from surgery_ui.work.pool import Pool
from surgery_ui.work.task import Task
from tests.ui.support.elsewhere import broken, dies, steady, told_slowly

pytestmark = pytest.mark.filterwarnings("ignore")
WORDS = "The fox said: how do you do? The wolf came to the door, and the door was open. "
TEXTS = (Text("Fox", WORDS), Text("Long", WORDS * 8))
SETTINGS = GenerationSettings(max_new_tokens=12)
CUT, SWAPPED, DONATED, STITCHED = (LayerPlan.parse(one, 4) for one in ("0-1,3", "0,2,1,3", "0,other:1,2-3", "0,~,2-3"))
READING = lens_jobs.Reading()
JOBS = (plan_jobs, lens_jobs, sweep_jobs, study_jobs, heal_jobs, keep_jobs, timing)


@contextmanager
def engine_of(name: str, folder: Path) -> Iterator[Engine]:
    """Have all jobs done by an engine, with pools of its own."""
    engine = Engine(replace(limits(), engine=name, workers=2))
    engine.models, engine.lens = plan_jobs.open_models, lens_jobs._lenses.find
    pools = {
        one: Pool(2, kinds_of(one), one, elsewhere=engine.sender(one))
        for one in (Workers.WORK, Workers.SWEEPS, Workers.TRAINING)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_SURGERY_MODELS", str(folder))
        patch.setattr(plan_jobs, "MODELS", Pool(1, kinds_of(Workers.MODELS), Workers.MODELS))
        for module in (plan_jobs, lens_jobs):
            patch.setattr(module, "ENGINE", engine)
        for module in JOBS:
            for pool in (Workers.WORK, Workers.SWEEPS, Workers.TRAINING):
                if hasattr(module, pool.name):
                    patch.setattr(module, pool.name, pools[pool])
        yield engine
    engine.end()


@pytest.fixture(scope="module")
def on_ray(models_folder: Path) -> Iterator[Engine]:
    with engine_of("ray", models_folder) as engine:
        yield engine


def ended(job: Job[Any], seconds: float = 300.0) -> Job[Any]:
    end = time.monotonic() + seconds
    while not job.wait(0.1):
        assert time.monotonic() < end, f"{job.key[0]} waited too long"
        job.look()
    return job


def until(job: Job[Any], condition: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert not job.done, job.error
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
        job.look()


def opened(name: str = "fable") -> LoadedModel:
    return ended(plan_jobs.model_job("me", name)).result


def plain(value: Any) -> Any:
    """Return what two results are compared by: their numbers and texts, without times."""
    if isinstance(value, torch.Tensor):
        return plain(value.detach().numpy())
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, pd.DataFrame):
        return value.to_dict()
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "__dataclass_fields__"):
        names = (name for name in value.__dataclass_fields__ if "second" not in name)
        return {name: plain(getattr(value, name)) for name in names}
    return value if isinstance(value, (str, bytes, int, float, bool, type(None))) else str(value)


def swept(loaded: LoadedModel) -> Job[str]:
    request = SweepRequest("delete", SweepOptions(), LayerPlan.identity(4), TEXTS)
    return sweep_jobs.sweep_job("me", loaded, request)


STARTS: dict[str, Callable[[LoadedModel], Job[Any]]] = {
    "text": lambda m: plan_jobs.text_job("me", Lane.TEXT_AFTER, m, CUT, "Once", SETTINGS),
    "table": lambda m: plan_jobs.table_job("me", Lane.TABLE_AHEAD, m, TEXTS),
    "comparison": lambda m: plan_jobs.comparison_job("me", Lane.SCORES, m, CUT, TEXTS),
    "comparison, donor": lambda m: plan_jobs.comparison_job("me", Lane.SCORES, m, DONATED, TEXTS),
    "lens": lambda m: lens_jobs.lens_job("me", Lane.LENS_AFTER, m, CUT, WORDS),
    "distances": lambda m: lens_jobs.distances_job("me", m, CUT, WORDS, READING),
    "averages": lambda m: lens_jobs.averages_job("me", Lane.AVERAGES_AFTER, m, CUT, TEXTS, READING),
    "preflight": lambda m: plan_jobs.preflight_job("me", m),
    "proof": lambda m: plan_jobs.proof_job("me", Lane.PROOF, m, SWAPPED),
    "nearest": lambda m: plan_jobs.nearest_job("me", m, SWAPPED),
    "checkpoint": lambda m: keep_jobs.checkpoint_job("me", m, CUT, False),
    "gguf": lambda m: keep_jobs.gguf_job("me", m, CUT, False),
    "report": lambda m: keep_jobs.report_job(
        "me",
        m,
        CUT,
        Recipe(model="fable", plan="0-1,3", texts=("The lantern in the wood",)),
        AskedReport(("plan", "scores")),
    ),
    "mergekit": lambda m: keep_jobs.mergekit_job("me", m, CUT),
    "counts": lambda m: plan_jobs.count_job("me", m, TEXTS),
    "skills": lambda m: sweep_jobs.skills_job("me", Lane.SKILLS_AFTER, m, CUT),
    "sweep": swept,
    "search": lambda m: sweep_jobs.removal_job(
        "me", m, RemovalRequest(start=LayerPlan.identity(4), texts=TEXTS, least=2)
    ),
    "importance": lambda m: sweep_jobs.importance_job(
        "me", m, ImportanceRequest(start=LayerPlan.identity(4), texts=TEXTS)
    ),
    "lens-training": lambda m: lens_jobs.training_job(
        "me", m, TEXTS, LensTraining(steps=2, tokens_per_step=64, window=32)
    ),
    "lens-training, fit": lambda m: lens_jobs.fitting_job("me", m, CUT, TEXTS, JacobianFit()),
}
TIMED = {"speeds": timing.speeds_job, "costs": lambda owner, m: timing.costs_job(owner, m, TEXTS)}


def outcome(job: Job[Any]) -> Any:
    ended(job)
    pieces = [] if job.key[0] == "lens-training" else plain(job.pieces)
    return type(job.error).__name__, str(job.error or ""), job.text, pieces, plain(job._result)


@pytest.fixture(scope="module")
def by_threads(models_folder: Path) -> dict[str, Any]:
    """Return what comes of every job here."""
    with engine_of("threads", models_folder):
        loaded, _ = opened(), opened("other")
        return {name: outcome(start(loaded)) for name, start in STARTS.items()}


@pytest.mark.parametrize("name", STARTS)
def test_a_worker_elsewhere_comes_to_the_same(name: str, by_threads: dict[str, Any], on_ray: Engine) -> None:
    loaded, _ = opened(), opened("other")
    found, expected = outcome(STARTS[name](loaded)), by_threads[name]
    assert (found[1] == "") == (name != "gguf"), found[1]  # this model was opened from no GGUF file
    if name == "checkpoint":  # a zip has the time at which it was made
        assert len(found[4]) == pytest.approx(len(expected[4]), abs=200)
        return
    assert found[:3] == expected[:3]
    assert str(found[3:]) == str(expected[3:])


@pytest.mark.parametrize("name", TIMED)
def test_a_worker_elsewhere_is_timed(name: str, on_ray: Engine) -> None:
    job = ended(TIMED[name]("me", opened()))
    assert job.error is None


def test_every_kind_of_work_is_tried_here() -> None:
    elsewhere = {kind.key for kind in TABLE if kind.pool in (Workers.WORK, Workers.SWEEPS, Workers.TRAINING)}
    tried = {name.split(",")[0] for name in (*STARTS, *TIMED)}
    # two are only needed by others; the others have tests of their own below
    assert elsewhere - tried == {"base", "stitches", "reading", "study", "healing", "quality"}


def test_this_process_has_no_weights_and_knows_the_form(on_ray: Engine, models_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    from surgery_core.surgery.view import check_plan

    loaded, real = opened(), AutoModelForCausalLM.from_pretrained(models_folder / "fable")
    assert {one.device.type for one in (*loaded.model.parameters(), *loaded.model.buffers())} == {"meta"}
    shapes = {name: (one.shape, one.dtype) for name, one in loaded.model.named_parameters()}
    assert shapes == {name: (one.shape, one.dtype) for name, one in real.named_parameters()}
    check_plan(loaded.model, CUT)
    assert loaded.info.n_parameters == real.num_parameters()


def test_refusals_and_unknown_models_are_said_as_here(on_ray: Engine) -> None:
    loaded = opened()
    refused = ended(plan_jobs.proof_job("me", Lane.PROOF, loaded, STITCHED))
    assert refused.error is None or isinstance(refused.error, RefusedPlanError), refused.error
    closed = LayerPlan.parse("0,nobody:1,2-3", 4)
    assert "nobody" in str(ended(plan_jobs.comparison_job("me", Lane.SCORES, loaded, closed, TEXTS)).error)
    missing = ended(plan_jobs.model_job("me", "missing"))
    assert isinstance(missing.error, ModelLoadError)


def test_what_is_unexpected_has_an_id_that_is_known_here(on_ray: Engine) -> None:
    from surgery_ui.work.diary import faults

    job = ended(plan_jobs.WORK.request("me", Lane.PROOF, ("proof", "odd"), Task(broken, 3)))
    assert isinstance(job.error, Unexpected)
    assert any(fault.id in str(job.error) and fault.kind == "ZeroDivisionError" for fault in faults())


def test_a_person_who_leaves_has_the_work_ended_and_best_so_far_counts(on_ray: Engine) -> None:
    loaded = opened()
    settings = LensTraining(steps=100_000, tokens_per_step=64, window=32, checks=10_000)
    job = lens_jobs.training_job("me", loaded, TEXTS, settings)
    until(job, lambda: job.pieces)
    job.stop.set()
    assert ended(job).error is None
    slow = plan_jobs.WORK.request("me", Lane.PROOF, ("proof", "slow"), Task(steady, 600))
    until(slow, lambda: slow.progress[0])
    plan_jobs.WORK.leave("me", [Lane.PROOF])
    assert isinstance(ended(slow, 20).error, Stopped)


def test_a_lens_of_ones_own_reads_there(on_ray: Engine) -> None:
    loaded = opened()
    made = ended(lens_jobs.training_job("me", loaded, TEXTS, LensTraining(steps=2, tokens_per_step=64, window=32)))
    reading = replace(READING, lens=lens_jobs.keep_lens(loaded, made.result))
    own = ended(lens_jobs.lens_job("me", Lane.LENS_AFTER, loaded, CUT, WORDS, reading))
    other = ended(lens_jobs.lens_job("me", Lane.LENS_BEFORE, loaded, CUT, WORDS, READING))
    assert (own.error, other.error) == (None, None)
    assert not np.array_equal(own.result.statistics["entropy"], other.result.statistics["entropy"])
    assert ended(lens_jobs.quality_job("me", loaded, TEXTS, reading.lens)).error is None


def test_a_study_runs_there_and_a_healed_model_opens_for_its_owner_alone(on_ray: Engine) -> None:
    loaded = opened()
    job = ended(
        study_jobs.study_job(
            "me", loaded, Recipe(model="fable", plan="0-1,3", texts=("The lantern in the wood",), prompts=("Once",))
        )
    )
    assert job.error is None, job.error
    healed = ended(heal_jobs.heal_job("me", loaded, CUT, (Text("Much", WORDS * 30),), 0.02))
    assert healed.error is None, healed.error
    name = healed.result.model.name
    mine = ended(plan_jobs.model_job("me", name))
    assert mine.result.info.n_layers == 3
    found = ended(plan_jobs.table_job("me", Lane.TABLE_AHEAD, mine.result, TEXTS))
    assert found.error is None, found.error
    assert isinstance(ended(plan_jobs.model_job("you", name)).error, ModelLoadError)


@pytest.mark.parametrize("form", ["sweep", "text"])
def test_a_worker_that_is_killed_costs_nothing(form: str, by_threads: dict[str, Any], on_ray: Engine) -> None:
    loaded = opened()
    before = set(on_ray.processes())
    work = Task(told_slowly, form)
    job = plan_jobs.WORK.request("me", Lane.PROOF, ("proof", form), work)
    until(job, lambda: len(job.pieces) + len(job.text) >= 3)
    for process in before:
        os.kill(process, signal.SIGKILL)
    ended(job)
    assert (job.error, job.result) == (None, 12)
    assert job.text == ("abcdefghijkl" if form == "text" else "")
    assert job.pieces == ([] if form == "text" else list(range(12)))
    # and everybody's next work is done by those that came in their place
    again = replace(SETTINGS, max_new_tokens=13)
    after = ended(plan_jobs.text_job("me", Lane.TEXT_AFTER, loaded, CUT, "Once", again))
    assert after.error is None
    assert after.result.text.startswith(by_threads["text"][4]["text"][:8])


def test_workers_that_are_lost_again_and_again_are_a_sentence(on_ray: Engine) -> None:
    job = ended(plan_jobs.WORK.request("me", Lane.PROOF, ("proof", "gone"), Task(dies)))
    assert isinstance(job.error, SurgeryError)
    assert "3 times" in str(job.error)
    assert ended(plan_jobs.text_job("me", Lane.TEXT_AFTER, opened(), SWAPPED, "Once", SETTINGS)).error is None


def test_what_was_told_before_is_not_told_twice() -> None:
    job: Job[int] = Job(("text",), lambda job: 0)
    hear(job, Heard(text="abc", pieces=(1, 2), progress=(1, 4)))
    hear(job, Heard(text="ab", pieces=(1,)))
    hear(job, Heard(before=2, text="cdef", first=1, pieces=(7, 8)))
    assert (job.text, job.pieces, job.progress) == ("abcdef", [1, 7, 8], (1, 4))


def test_engines_are_threads_or_ray() -> None:
    from surgery_core.errors import SettingsError
    from surgery_ui.work.limits import read_limits

    assert read_limits({"MODEL_SURGERY_ENGINE": "ray", "MODEL_SURGERY_WORKERS": "4"}).at_once == 4
    with pytest.raises(SettingsError, match="'magic'.*'threads' or 'ray'"):
        read_limits({"MODEL_SURGERY_ENGINE": "magic"})
