"""What every kind of work gives and takes on the devices there are, beside the CPU in float32.

    python -m benchmarks.devices [MODEL] [device/dtype ...]        e.g. fable cuda/float32 cuda/bfloat16

Figures are the largest difference from the CPU's, over the mean of the CPU's absolute values.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import surgery_core as sc
from surgery_core.lenses.before_after import distances
from surgery_core.lenses.quality import lens_quality
from surgery_core.lenses.reading import LogitLens
from surgery_core.lenses.training import LensTraining
from surgery_core.surgery.anatomy import plan_of

PROMPT = "The king had three sons, and the youngest was called"
TEXTS = sc.bundled_texts()
SETTINGS = sc.GenerationSettings(max_new_tokens=64)


def without(model: Any) -> Any:
    middle = plan_of(model).n_layers // 2
    return sc.operate(model, plan_of(model).delete([middle]))


def compared(model: Any, tokenizer: Any) -> list[float]:
    found = sc.compare(model, without(model), tokenizer, TEXTS)
    return [found.base.perplexity, found.operated.perplexity, found.kl, found.top1, found.top5]


def in_place(model: Any, tokenizer: Any) -> list[float]:
    with sc.ModelSurgery(model).delete_layers([1]):
        return [sc.score(model, tokenizer, TEXTS[:3]).perplexity]


def swept(kind: str, **how: Any) -> Callable[[Any, Any], list[float]]:
    return lambda model, tokenizer: [row.nats for row in sc.sweep(model, tokenizer, TEXTS[:3], kind, **how)]


def removed(model: Any, tokenizer: Any) -> list[float]:
    return [
        step.row.nats for step in sc.remove_greedily(model, tokenizer, TEXTS[:1], least=plan_of(model).n_layers - 2)
    ]


def tuned(model: Any, tokenizer: Any) -> list[float]:
    settings = LensTraining(steps=10, tokens_per_step=128, window=64, fit=0.5, held_out=0.05, checks=1)
    lens = sc.train_lens(model, tokenizer, TEXTS, settings)
    return list(lens_quality(model, tokenizer, lens, TEXTS[:2])["tuned_lens"])


def apart(model: Any, tokenizer: Any) -> list[float]:
    models = (model, without(model))
    found = distances((LogitLens(models[0]), LogitLens(models[1])), models, tokenizer, TEXTS[0])
    return [float(np.nansum(values)) for values in found.values()]


WORK: dict[str, Callable[[Any, Any], Any]] = {
    "figures of an edit, 12 texts": compared,
    "in place, 3 texts": in_place,
    "text, 64 tokens": lambda m, t: sc.complete(without(m), t, PROMPT, SETTINGS).text,
    "prove a plan": lambda m, t: sc.prove(m, t, plan_of(m).reverse()).passed,
    "preflight": lambda m, t: sc.preflight(m, t).reason,
    "sweep: delete each, 3 texts": swept("delete"),
    "sweep: swap neighbours, 3 texts": swept("swap-neighbours"),
    "greedy removal": removed,
    "importance, 12 texts": lambda m, t: sc.importance(m, t, TEXTS).block_influence.tolist(),
    "logit lens": lambda m, t: sc.read_lens(LogitLens(m), m, t, TEXTS[0]).statistics["kl"].mean(1).tolist(),
    "lens distances, two sides": apart,
    "train a tuned lens, 10 steps": tuned,
    "skills, all": lambda m, t: [one.margin for one in sc.score_skills(m, t, sc.load_skills())],
}


def difference(found: Any, expected: Any) -> str:
    if not isinstance(expected, list):
        return "same" if found == expected else f"{expected!r} became {found!r}"
    one, other = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    return f"{np.abs(one - other).max() / np.abs(other).mean():.1e}"


def main(name: str = "fable", *places: str) -> None:
    expected: dict[str, Any] = {}
    for place in ("cpu/float32", *(places or ("cuda/float32", "cuda/bfloat16", "cuda/float16"))):
        device, dtype = place.split("/")
        loaded = sc.load_model(name, device=device, dtype=dtype)
        for what, work in WORK.items():
            began = time.perf_counter()
            try:
                found = work(loaded.model, loaded.tokenizer)
            except Exception as error:  # noqa: BLE001 - one kind of work that fails must not hide the others
                print(f"| {place} | {what} | {type(error).__name__}: {error} |", flush=True)
                continue
            seconds = time.perf_counter() - began
            said = difference(found, expected.setdefault(what, found))
            print(f"| {place} | {what} | {seconds:.2f} s | {said} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(4)
    main(*sys.argv[1:])
