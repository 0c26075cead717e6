"""Sweeps on every causal LM class that can be built from a tiny config: each row equals a whole run of its plan.

A model that cannot start in the middle has to be found out, for its sweep then runs whole; a row that differs is a
wrong number whichever way it was made.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from surgery_core.errors import ModelError
from surgery_core.measure.encoding import Encoded
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.windows import batches_of, windows_of
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.view import operate
from surgery_core.sweeps.kinds import sweep_points
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.sweeps.sweep import Sweep
from surgery_core.text import Text
from tests.core.support import zoo

LENGTHS = (13, 9)
KINDS = ("delete", "repeat", "swap-pairs")
CANNOT = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError)
"""What a model's own code raises on a plan that it cannot run."""


def encoded() -> Encoded:
    """Return two texts of random tokens, so that the batch has padding."""
    generator = torch.Generator().manual_seed(4)
    ids = tuple(tuple(torch.randint(3, 90, (length,), generator=generator).tolist()) for length in LENGTHS)
    windows = [window for text, row in enumerate(ids) for window in windows_of(text, row, 32, 16)]
    sizes = tuple((1,) * length for length in LENGTHS)
    strings = tuple(("x",) * length for length in LENGTHS)
    texts = (Text("one", "-"), Text("two", "-"))
    return Encoded(texts, ids, sizes, strings, 32, 16, tuple(batches_of(windows, torch.device("cpu"))))


def whole_loss(view: Any, batch: Any) -> float:
    with torch.inference_mode():
        logits = view(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    logp = logits.double().log_softmax(-1)
    nll = torch.stack(
        [
            -logp[row, column, target]
            for row, column, target in zip(batch.rows, batch.columns, batch.targets, strict=True)
        ]
    )
    return float(nll.mean())


def check(model_type: str) -> str:
    """Compare all rows of three sweeps with whole runs; return why they were run whole, or an empty string."""
    model = zoo.try_build(model_type)
    if model is None:
        pytest.skip("not built from a tiny config; docs/support.md names it")
    texts = encoded()
    try:
        identity = LayerPlan.identity(len(find_layers(model)[1]))
        whole_loss(operate(model, identity), texts.batches[0])
    except (ModelError, *CANNOT):
        pytest.skip("the base does not run on a padded batch")
    notes = set()
    for kind in KINDS:
        run = Sweep(model, None, texts, sweep_points(kind, identity), measures=SweepMeasures(agreement=False))
        rows = run.rows()
        while True:
            try:
                row = next(rows, None)
            except CANNOT:
                break  # the plan cannot be run whole either
            if row is None:
                break
            if not row.refused:
                expected = whole_loss(operate(model, row.plan), texts.batches[0])
                assert row.nats == pytest.approx(expected, abs=1e-5, rel=1e-5), (kind, row.plan, run.note)
        notes.add(run.note)
    return "; ".join(filter(None, sorted(notes)))


@pytest.mark.parametrize("model_type", ["gemma3n_text", "mixtral", "jamba", "cohere", "nemotron_h", "zaya"])
def test_rows_equal_whole_runs_in_the_sample(model_type: str) -> None:
    check(model_type)


@pytest.mark.matrix
@pytest.mark.parametrize("model_type", zoo.model_types())
def test_rows_equal_whole_runs(model_type: str) -> None:
    check(model_type)


def test_zaya_hands_on_more_than_the_residual_stream_and_is_run_whole() -> None:
    assert "Starting in the middle" in check("zaya")
