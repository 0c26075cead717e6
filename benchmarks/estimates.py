"""How good the estimates of time are that pages show, beside what the work took then.

The model is timed as a page does it, with one thread as the app gives a job; then each piece of work is counted and done.
A span that a page shows reaches from 0.71 to 1.41 of the estimate; the bar is a factor of two.

    python -m benchmarks.estimates [fable | smollm2 [words of what is measured ...]]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

import surgery_core as sc
from benchmarks.record import Result, keep
from benchmarks.subjects import subject
from surgery_core.lenses.averages import lens_averages
from surgery_core.lenses.jacobian_fit import JacobianFit, fit_jacobians
from surgery_core.lenses.reading import LogitLens, read_lens
from surgery_core.lenses.training import LensTraining, train_lens
from surgery_core.measure.importance import importance
from surgery_core.measure.skills import load_skills
from surgery_core.sweeps import estimate
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.request import ImportanceRequest, SweepRequest
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.text import text_sets

Work = tuple[float, Callable[[], object]]


def main(name: str, words: Sequence[str] = ()) -> None:
    """Time a model, then count and do each piece of work that is asked for; print and keep how the two compare."""
    chosen = subject(name)
    torch.set_num_threads(1)
    loaded = sc.load_model(str(chosen.folder / chosen.name), allow_paths=True)
    for what, (expected, run) in pieces_of_work(loaded).items():
        if words and not any(word in what for word in words):
            continue
        began = time.perf_counter()
        run()
        took = time.perf_counter() - began
        how = f"estimated {expected:.2f} s; took {took / expected:.2f} of that"
        keep(Result(f"estimate, {chosen.name}: {what}", how, (took,), 0))


def pieces_of_work(loaded: Any) -> dict[str, Work]:
    """Return by name what is done, how long that should take in seconds, and how it is done."""
    model, tokenizer, texts = loaded.model, loaded.tokenizer, sc.bundled_texts()
    some, start = texts[:3], sc.LayerPlan.identity(loaded.info.n_layers)
    skills = load_skills()[:2]
    few, all_of_them = (estimate.measure_costs(model, tokenizer, of, skills) for of in (some, texts))
    speeds = all_of_them.speeds
    window = len(tokenizer(texts[0].text)["input_ids"])
    training = LensTraining(steps=4, tokens_per_step=256)
    fit = JacobianFit(tokens=64, least=1, tolerance=0.0)

    def swept(kind: str, measures: SweepMeasures) -> Work:
        asked = SweepRequest(kind, SweepOptions(), start, tuple(some), measures)
        return asked.seconds(few), lambda: list(sc.sweep(model, tokenizer, some, kind, measures=measures))

    return {
        "the twelve texts scored on both sides": (
            estimate.reading_seconds(all_of_them, 2),
            lambda: sc.compare(model, sc.operate(model, start.delete([3])), tokenizer, texts),
        ),
        "delete each layer, 3 texts": swept("delete", SweepMeasures()),
        "neighbours swapped, 3 texts, loss alone": swept("swap-neighbours", SweepMeasures(agreement=False)),
        "delete each layer, 3 texts, two skills": swept("delete", SweepMeasures(skills=skills)),
        "importance, twelve texts": (
            ImportanceRequest(start, tuple(texts)).seconds(all_of_them),
            lambda: importance(model, tokenizer, texts),
        ),
        f"logit lens, {window} tokens": (
            estimate.lens_seconds(speeds, window, window, loaded.info.n_layers + 1),
            lambda: read_lens(LogitLens(model), model, tokenizer, texts[0]),
        ),
        "logit lens, averages over 3 texts": (
            estimate.lens_texts_seconds(few), lambda: lens_averages(LogitLens(model), model, tokenizer, some),
        ),
        "four steps of a tuned lens, 256 tokens each": (
            estimate.training_seconds(speeds, training.steps, training.tokens_per_step, training.window, training.checks),
            lambda: train_lens(model, tokenizer, text_sets()["stories"].texts[:4], training),
        ),
        "a Jacobian lens, one text of 64 tokens": (
            estimate.jacobian_seconds(speeds, model.config.hidden_size, 1, fit.tokens),
            lambda: fit_jacobians(model, tokenizer, texts[:1], fit),
        ),
    }  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["fable"], sys.argv[2:])
