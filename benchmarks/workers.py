"""Edits by 1, 2 and 4 workers on Ray, beside the plain loop in as many processes: what the engine costs.

Each edit is a plan that nobody had: its text of 64 tokens, its figures over the bundled texts, its proof. The engine is
the app's own, with its pools; the plain loop calls the library in processes that share the plans. Models are open and the
base is scored before the clock starts, with a thread for each process. The same plans, in turns, in one run.

    python -m benchmarks.workers            # 1, 2 and 4; 40 edits each
    python -m benchmarks.workers 2 --edits 20
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

from benchmarks.record import Result, keep
from benchmarks.room_load import plans
from benchmarks.subjects import ROOT

TURNS = 3
PLAIN = """
import json, sys, time, torch
torch.set_num_threads(1)
import surgery_core as sc
from surgery_ui.session.first import default_prompt
loaded, texts = sc.load_model("fable"), sc.bundled_texts()
base = sc.reference(loaded.model, loaded.tokenizer, texts)
def one(plan):
    view = sc.operate(loaded.model, plan)
    sc.complete(view, loaded.tokenizer, default_prompt(), sc.GenerationSettings())
    sc.compare(base, view, loaded.tokenizer, texts)
    sc.prove(loaded.model, loaded.tokenizer, plan)
one("0-3,5-11")
print("ready", flush=True)
for line in sys.stdin:
    for plan in json.loads(line):
        one(plan)
    print("done", flush=True)
"""


def plainly(every: list[list[str]], processes: int) -> list[float]:
    """Return the seconds that each turn takes the plain loop."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PLAIN],
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(processes)
    ]
    try:
        for one in running:
            assert one.stdout is not None
            one.stdout.readline()
        found = []
        for turn in every:
            began = time.monotonic()
            for number, one in enumerate(running):
                assert one.stdin is not None
                one.stdin.write(json.dumps(turn[number::processes]) + "\n")
                one.stdin.flush()
            for one in running:
                assert one.stdout is not None
                one.stdout.readline()
            found.append(time.monotonic() - began)
        return found
    finally:
        for one in running:
            one.kill()
            one.wait()


def by_engine(every: list[list[str]], workers: int) -> tuple[list[float], list[float]]:
    """Return the seconds that each turn takes the engine, and those from there and back with a job that does nothing."""
    from surgery_core.plans.generation_settings import GenerationSettings
    from surgery_core.plans.plan import LayerPlan
    from surgery_core.text import bundled_texts
    from surgery_ui.session.first import default_prompt
    from surgery_ui.work import plan_jobs
    from surgery_ui.work.engine import Engine
    from surgery_ui.work.kinds import Workers, kinds_of, tray_lanes
    from surgery_ui.work.limits import limits
    from surgery_ui.work.pool import Pool

    engine = Engine(replace(limits(), engine="ray", workers=workers))
    engine.models = plan_jobs.open_models
    plan_jobs.ENGINE = engine
    plan_jobs.MODELS = Pool(1, kinds_of(Workers.MODELS), Workers.MODELS)
    plan_jobs.WORK = Pool(2 * workers, kinds_of(Workers.WORK), Workers.WORK, elsewhere=engine.sender(Workers.WORK))
    opening = plan_jobs.model_job("all", "fable")
    opening.wait()
    loaded, texts, settings = opening.result, bundled_texts(), GenerationSettings()

    def asked(plan: str, owner: str) -> list[object]:
        parsed = LayerPlan.parse(plan, loaded.info.n_layers)
        return [
            plan_jobs.text_job(owner, tray_lanes("text")[0], loaded, parsed, default_prompt(), settings),
            plan_jobs.comparison_job(owner, tray_lanes("scores")[0], loaded, parsed, texts),
            plan_jobs.proof_job(owner, tray_lanes("proof")[0], loaded, parsed),
        ]

    def waited(jobs: list[object]) -> None:
        for job in jobs:
            while not job.wait(1.0):  # type: ignore[attr-defined]
                for one in jobs:
                    one.look()  # type: ignore[attr-defined]
            assert job.error is None, job.error  # type: ignore[attr-defined]

    # each worker has scored the base
    for number in range(4 * workers):
        waited(asked(f"{number // 12},{number % 12},0-11", f"warm {number}"))
    found = []
    for number, turn in enumerate(every):
        began = time.monotonic()
        waited([job for at, plan in enumerate(turn) for job in asked(plan, f"{number} {at}")])
        found.append(time.monotonic() - began)
    trips = []
    for at in range(20):
        began = time.monotonic()
        waited([plan_jobs.count_job(f"trip {at}", loaded, texts[: 1 + at % 12])])
        trips.append(time.monotonic() - began)
    engine.end()
    return found, trips


def main() -> None:
    """Measure, and keep the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--edits", type=int, default=40)
    given = parser.parse_args()
    every = plans(12, TURNS * given.edits)
    turns = [every[at::TURNS] for at in range(TURNS)]
    for workers in given.workers:
        plain = plainly(turns, workers)
        ray, trips = by_engine(turns, workers)
        share = sorted(ray)[TURNS // 2] / sorted(plain)[TURNS // 2]
        rate = given.edits / sorted(ray)[TURNS // 2]
        what = f"{given.edits} edits by {workers} workers, fable"
        keep(
            Result(what, "the plain loop in as many processes", tuple(plain), 0),
            Result(what, f"Ray: {share:.2f} of it, {rate:.2f} edits a second", tuple(ray), 0),
            Result(what, "there and back with a job of a few milliseconds", tuple(trips), 0),
        )


if __name__ == "__main__":
    main()
