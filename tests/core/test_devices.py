"""Everything that is measured, on one pretended GPU, on Apple's, and with layers spread over two: the CPU's values."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import surgery_core as sc
from surgery_core.lenses.before_after import distances
from surgery_core.lenses.quality import lens_quality
from surgery_core.lenses.reading import LogitLens
from surgery_core.lenses.training import LensTraining, train_lens
from surgery_core.measure import compare as measure
from surgery_core.measure import readout
from tests.core.support.pretended_device import MixedDevices, Pretended, pretended, put, spread
from tests.tiny import build_model, build_tokenizer

TEXTS = ["It was a dark night and the wolf came.", "Once upon a time."]
PLAN, ORDER = "0,1*0.5,(2|3)", "0,2,1.attn,3.mlp"
SETTINGS = sc.GenerationSettings(max_new_tokens=6)
SAMPLED = sc.GenerationSettings(max_new_tokens=6, temperature=1.0, seed=3)
tokenizer = cache(build_tokenizer)


def in_place(model: Any) -> float:
    with sc.ModelSurgery(model).permute_layers([0, 2, 1, 1]):
        return sc.score(model, tokenizer(), TEXTS).perplexity


def compared(model: Any, plan: str, **given: Any) -> list[float]:
    found = sc.compare(model, sc.operate(model, plan, **given), tokenizer(), TEXTS)
    return [found.kl, found.top1, found.top5, found.operated.perplexity]


def bounded(model: Any) -> list[float]:
    """The same beyond every limit of memory: nothing kept, slices and chunks as small as they get."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "KEPT_BYTES", 0)
        patch.setattr(readout, "CHUNK_ELEMENTS", 1)
        patch.setattr(readout, "NARROWEST_SLICE", 50)
        patch.setattr(readout, "SLICE_ELEMENTS", {"cpu": 1, "cuda": 1})
        return compared(model, PLAN)


def averaged(model: Any) -> list[float]:
    # as a person may have them: made on the CPU, or loaded from a file
    means = sc.mean_contributions(model, tokenizer(), TEXTS)
    assert means.vectors.device.type == "cpu"
    assert sc.prove(model, tokenizer(), "0,mean(1),2,3", means=means).passed
    return compared(model, "0,mean(1),2,3", means=means)


def trained(model: Any) -> list[float]:
    translators = train_lens(model, tokenizer(), TEXTS, LensTraining(steps=4, tokens_per_step=32, window=16))
    quality = lens_quality(model, tokenizer(), translators, TEXTS)
    lens = sc.TunedLens(model, translators)
    read = sc.read_lens(lens, model, tokenizer(), TEXTS[0]).statistics["kl"]
    return [*quality["tuned_lens"], *quality["logit_lens"], float(read.sum())]


def apart(model: Any) -> list[float]:
    models = (model, sc.operate(model, "0,2,1,3"))
    lenses = (LogitLens(models[0]), LogitLens(models[1]))
    return [float(values.sum()) for values in distances(lenses, models, tokenizer(), TEXTS[0]).values()]


def read(model: Any, **how: Any) -> list[float]:
    found = sc.read_lens(LogitLens(model), model, tokenizer(), TEXTS[0], **how)
    return [float(np.nansum(found.statistics[name])) for name in ("kl", "entropy", "rank", "cross_entropy")]


WORK: dict[str, Callable[[Any], Any]] = {
    "score": lambda model: sc.score(model, tokenizer(), TEXTS).perplexity,
    "compare": lambda model: compared(model, PLAN),
    "compare in slices": bounded,
    "parts": lambda model: compared(model, ORDER),
    "no layers": lambda model: compared(model, ""),
    "another model's layer": lambda model: compared(model, "0,d:1,2,3", donors={"d": model}),
    "means": averaged,
    "in place": in_place,
    "prove": lambda model: sc.prove(model, tokenizer(), PLAN).passed,
    "preflight": lambda model: sc.preflight(model, tokenizer()).reason,
    "sweep": lambda model: [row.nats for row in sc.sweep(model, tokenizer(), TEXTS, "delete")],
    "sweep is proved": lambda model: {
        (row.refused, row.unproved) for row in sc.sweep(model, tokenizer(), TEXTS, "swap-neighbours")
    },
    "removal": lambda model: [step.plan.notation for step in sc.remove_greedily(model, tokenizer(), TEXTS)],
    "importance": lambda model: sc.importance(model, tokenizer(), TEXTS).block_influence.tolist(),
    "lens": read,
    "inside layers": lambda model: read(model, sublayers=True),
    "tuned lens": trained,
    "distances": apart,
    "averages": lambda model: sc.lens_averages(LogitLens(model), model, tokenizer(), TEXTS)["kl"].tolist(),
    "text": lambda model: sc.complete(model, tokenizer(), TEXTS[0], SETTINGS).text,
    "sampled text": lambda model: sc.complete(model, tokenizer(), TEXTS[0], SAMPLED).text,
    "skills": lambda model: [result.margin for result in sc.score_skills(model, tokenizer(), sc.load_skills()[:1])],
}
PLACES: dict[str, Callable[[Any], Any]] = {
    "cuda": lambda model: put(model, "cuda:0"),
    "mps": lambda model: put(model, "mps"),
    "two": lambda model: spread(model, "cuda:0", "cuda:1"),
}


@cache
def on_the_cpu(family: str, work: str) -> Any:
    return WORK[work](build_model(family))


TRIED = {"cuda": ["llama"], "mps": ["llama", "gpt2"], "two": ["llama", "gpt2", "gemma2"]}
"""Families by place: a head that is sliced, tied, or has a soft cap behind it matters most where layers are spread."""


LONG = {"removal", "sweep", "sweep is proved", "preflight"}
"""Works of many runs: each device once, and each family."""
LONG_ON = {("cuda", "llama"), ("mps", "gpt2"), ("two", "gemma2")}
CASES = [
    (work, place, family)
    for work in WORK
    for place, found in TRIED.items()
    for family in found
    if work not in LONG or (place, family) in LONG_ON
]


@pytest.mark.parametrize(("work", "place", "family"), CASES)
def test_a_device_gives_what_the_cpu_gives(family: str, place: str, work: str) -> None:
    expected = on_the_cpu(family, work)
    model = build_model(family)
    with pretended():
        found = WORK[work](PLACES[place](model))
    _same(found, expected)


def _same(found: Any, expected: Any) -> None:
    if isinstance(expected, (float, list)) and not (isinstance(expected, list) and isinstance(expected[0], str)):
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4)
    else:
        assert found == expected


if torch.cuda.is_available():  # a test that is not there cannot be taken for one that passed

    @pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "opt", "bloom", "falcon_h1"])
    @pytest.mark.parametrize("work", WORK)
    def test_a_real_gpu_gives_what_the_cpu_gives(family: str, work: str) -> None:
        _same(WORK[work](build_model(family).to("cuda")), on_the_cpu(family, work))


def test_the_device_complains_as_devices_do() -> None:
    with pretended():
        one, two = torch.ones(3, device="cuda:0"), torch.ones(3, device="cuda:1")
        assert isinstance(one, Pretended)
        assert str((one + one).device) == "cuda:0"
        with pytest.raises(MixedDevices):
            _ = one + two
        with pytest.raises(MixedDevices):
            _ = one + torch.ones(3)
        with pytest.raises(MixedDevices):
            _ = torch.ones(3)[one.long()]
        with pytest.raises(TypeError, match="numpy"):
            one.numpy()
        apple = torch.ones(3).to("mps")
        for wrong in (lambda: apple.double(), lambda: torch.ones(3, dtype=torch.float64).to("mps")):
            with pytest.raises(TypeError, match="float64"):
                wrong()
        with pytest.raises(RuntimeError, match="generator"):
            torch.multinomial(one, 1, generator=torch.Generator())
        assert (one * 2 + one.sum()).cpu().tolist() == [5.0, 5.0, 5.0]
