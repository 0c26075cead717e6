"""The least-squares start of a lens's training, against numpy's solver and by hand."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from surgery_core.errors import SettingsError
from surgery_core.lenses import least_squares as lens_fit
from surgery_core.lenses.least_squares import LeastSquares
from surgery_core.lenses.quality import lens_quality
from surgery_core.lenses.training import Progress, train_lens
from tests.core.lenses.test_tuned_lens import HELD_OUT, QUICK, TRAIN
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import N_LAYERS, build


def drawn(tokens: int, layers: int = 2, width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(layers, tokens, width, generator=generator), 3 * torch.randn(tokens, width, generator=generator)


def fitted(states: torch.Tensor, last: torch.Tensor, parts: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    sums = LeastSquares(len(states), states.shape[-1], torch.device("cpu"))
    for some, ends in zip(states.chunk(parts, dim=1), last.chunk(parts), strict=True):
        sums.add(some, ends)
    return sums.solve()


def test_the_solution_is_that_of_weighted_least_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lens_fit, "DAMPING", 1e-9)
    states, last = drawn(400)
    weights, biases = fitted(states, last, parts=4)
    scale = 1 / np.sqrt((last.double().numpy() ** 2).mean(-1, keepdims=True))
    for layer, state in enumerate(states.double().numpy()):
        entering = np.concatenate([state, np.ones((len(state), 1))], 1) * scale
        found = np.linalg.lstsq(entering, (last.double().numpy() - state) * scale)[0]
        np.testing.assert_allclose(weights[layer].numpy(), found[:-1].T, atol=1e-4)
        np.testing.assert_allclose(biases[layer].numpy(), found[-1], atol=1e-4)


def test_a_layer_that_lacks_an_affine_map_gets_just_that() -> None:
    states, _ = drawn(400, layers=1)
    matrix, bias = torch.randn(6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(6.0)
    weights, biases = fitted(states, states[0] + states[0] @ matrix.T + bias)
    torch.testing.assert_close(weights[0], matrix, atol=0.02, rtol=0.02)
    torch.testing.assert_close(biases[0], bias, atol=0.02, rtol=0.02)


def test_a_coordinate_a_thousand_times_larger_changes_nothing_for_the_others() -> None:
    """The ridge penalty is a share of each coordinate's own size; a share of their mean would drown the small ones."""
    states, last = drawn(300, layers=1)
    size = torch.tensor([1000.0, 1, 1, 1, 1, 1])
    plain, large = fitted(states, last)[0][0], fitted(states * size, last)[0][0]
    assert (large[1:, 1:] - plain[1:, 1:]).abs().max() < 0.02


def test_without_enough_tokens_the_solution_is_still_finite_and_nothing_gives_the_logit_lens() -> None:
    weights, biases = fitted(*drawn(2))
    assert weights.isfinite().all()
    assert biases.isfinite().all()
    states, last = drawn(4)
    weights, biases = fitted(states * torch.nan, last)
    assert not weights.any()
    assert not biases.any()


def test_training_from_it_is_better_than_without_at_equal_tokens() -> None:
    model, tokenizer = build("llama"), byte_tokenizer()
    sums = {
        share: lens_quality(
            model, tokenizer, train_lens(model, tokenizer, TRAIN, replace(QUICK, fit=share)), [HELD_OUT]
        )["tuned_lens"].sum()
        for share in (0.0, 0.125)
    }
    assert sums[0.125] < sums[0.0]


def test_a_training_stopped_before_the_solution_keeps_what_its_tokens_gave() -> None:
    stop = threading.Event()

    def report(progress: Progress) -> None:
        if progress.step == 2:
            stop.set()

    model, tokenizer = build("llama"), byte_tokenizer()
    found = train_lens(model, tokenizer, TRAIN, replace(QUICK, fit=0.5, steps=8), on_progress=report, stop=stop)
    assert found.weights.any()
    quality = lens_quality(model, tokenizer, found, [HELD_OUT])
    assert quality["tuned_lens"].sum() < quality["logit_lens"].sum()
    assert len(quality) == N_LAYERS


def test_a_share_that_cannot_be_is_refused() -> None:
    with pytest.raises(SettingsError, match="A share of 0.7 of the steps cannot be fitted"):
        replace(QUICK, fit=0.7)
