"""Lenses over texts, against a Llama that is run layer by layer by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from surgery_core.errors import SettingsError, TextError
from surgery_core.lenses.tuned import Translators, TunedLens, untrained
from surgery_core.studies.through_lenses import logit_against_tuned, prediction_depth
from surgery_core.text import Text
from tests.core.studies.test_edits import ids_of
from tests.core.support.plain_llama import logp, ratio, run, whole


def lens_of(model: Any) -> tuple[TunedLens, torch.Tensor, torch.Tensor]:
    """Return a lens with random translators, and these."""
    torch.manual_seed(1)
    weights, biases = 0.1 * torch.randn(6, 32, 32), 0.1 * torch.randn(6, 32)
    known = untrained(model)
    return TunedLens(model, Translators(weights, biases, "", known.unembed_hash)), weights, biases


def bits(final: torch.Tensor, own: torch.Tensor) -> float:
    """Return KL(final || own) in bits, summed over tokens."""
    return float((final.exp() * (final - own)).sum() / math.log(2))


def test_zeros_are_the_logit_lens(six_layers: Any, setup_of: Any) -> None:
    found = logit_against_tuned(setup_of("logit-against-tuned", lens=TunedLens(six_layers, untrained(six_layers))))
    assert (found.figure.value, found.figure.low, found.figure.high) == pytest.approx((0, 0, 0), abs=1e-6)


def test_divergences_of_both_lenses(six_layers: Any, tiny_tokenizer: Any, ten_texts: Any, setup_of: Any) -> None:
    lens, weights, biases = lens_of(six_layers)
    found = logit_against_tuned(setup_of("logit-against-tuned", lens=lens))
    sums, sizes = [], []
    for ids in ids_of(tiny_tokenizer, ten_texts):
        stream = run(six_layers, ids, whole(*range(6)))
        final = logp(six_layers, stream[-1])
        # what leaves layer l is what translator l + 1 reads
        logit = np.mean([bits(final, logp(six_layers, stream[at])) for at in range(1, 6)])
        tuned = np.mean(
            [bits(final, logp(six_layers, stream[at] + stream[at] @ weights[at].T + biases[at])) for at in range(1, 6)]
        )
        sums.append(logit - tuned)
        sizes.append(len(ids))
    figure = found.figure
    assert (figure.value, figure.low, figure.high) == pytest.approx(ratio(sums, sizes), rel=2e-4)
    assert found.figure.n_units == 10
    assert found.others[0].value - found.others[1].value == pytest.approx(figure.value)


def test_without_a_lens_the_next_step_is_named(setup_of: Any) -> None:
    for study, run_it in (("logit-against-tuned", logit_against_tuned), ("prediction-depth", prediction_depth)):
        with pytest.raises(SettingsError, match="no tuned lens here. Train one on the Lens page or with"):
            run_it(setup_of(study))


def test_depth_against_loss(six_layers: Any, tiny_tokenizer: Any, ten_texts: Any, setup_of: Any) -> None:
    found = prediction_depth(_logit(setup_of))
    correlations, depths, tokens = [], 0.0, 0
    for ids in ids_of(tiny_tokenizer, ten_texts):
        stream = [logp(six_layers, state) for state in run(six_layers, ids, whole(*range(6)))]
        best = np.stack([row.argmax(-1).numpy() for row in stream])[:, :-1]
        depth = [next(row for row in range(7) if (best[row:, at] == best[-1, at]).all()) for at in range(best.shape[1])]
        loss = [-float(stream[-1][at, ids[at + 1]]) for at in range(len(ids) - 1)]
        correlations.append(stats.spearmanr(depth, loss).statistic)
        depths, tokens = depths + sum(depth), tokens + len(depth)
    low, high = stats.t.interval(0.95, 9, np.mean(correlations), stats.sem(correlations))
    figure = found.figure
    assert (figure.value, figure.low, figure.high) == pytest.approx((np.mean(correlations), low, high), abs=1e-5)
    assert found.others[0].value == pytest.approx(depths / tokens / 6)
    assert found.frame["share"].sum() == pytest.approx(1)


def _logit(setup_of: Any) -> Any:
    from dataclasses import replace

    setup = setup_of("prediction-depth")
    return replace(setup, options={**setup.options, "lens": "logit"})


def test_texts_whose_tokens_all_settle_at_one_depth_are_left_out(
    ten_texts: Any, setup_of: Any, six_layers: Any
) -> None:
    lens = TunedLens(six_layers, untrained(six_layers))
    with_short = (*ten_texts, Text("One", "a"), Text("Two", "ab"))
    found = prediction_depth(setup_of("prediction-depth", lens=lens, read=with_short))
    alone = prediction_depth(setup_of("prediction-depth", lens=lens))
    assert (found.figure.value, found.figure.n_units) == (alone.figure.value, 10)
    assert found.note == "Read through the tuned lens. 2 texts in which all tokens settle at one depth are left out."
    with pytest.raises(TextError, match="In none of these texts"):
        prediction_depth(setup_of("prediction-depth", lens=lens, read=with_short[-2:]))
