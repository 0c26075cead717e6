"""Importance from one run, and the removal curve, against plain transformers, numpy and brute force."""

from __future__ import annotations

import threading
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from surgery_core.errors import SettingsError, Stopped, TextError
from surgery_core.measure.compare import score
from surgery_core.measure.importance import importance, rank_correlation
from surgery_core.plans.plan import LayerPlan
from surgery_core.surgery.view import operate
from surgery_core.sweeps.removal import remove_greedily
from surgery_core.text import Text
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import build

model_of = cache(build)
TEXTS = (Text("Fox", "The fox said: how do you do?"), Text("Door", "The wolf came to the door."))


def states_of(model: Any, text: Text) -> np.ndarray:
    """Return the residual stream `[n_layers + 1, seq, d_model]`, from hooks on plain layers."""
    seen: list[torch.Tensor] = []
    handles = [model.model.layers[0].register_forward_pre_hook(lambda m, args: seen.append(args[0]))]
    handles += [layer.register_forward_hook(lambda m, a, output: seen.append(output)) for layer in model.model.layers]
    model(torch.tensor([byte_tokenizer()(text.text)["input_ids"]]))
    for handle in handles:
        handle.remove()
    return np.stack([state[0].double().numpy() for state in seen])


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_block_influence_norms_and_similarities_follow_their_formulas() -> None:
    model = model_of("llama")
    found = importance(model, byte_tokenizer(), TEXTS)
    states = np.concatenate([states_of(model, text) for text in TEXTS], axis=1)
    assert found.n_tokens == states.shape[1]
    influence = [1 - cosine(states[layer], states[layer + 1]).mean() for layer in range(4)]
    assert found.block_influence == pytest.approx(influence, abs=1e-6)
    norms = [np.linalg.norm(states[layer + 1] - states[layer], axis=-1).mean() for layer in range(4)]
    assert found.contribution_norm == pytest.approx(norms, rel=1e-5)
    pairs = [[cosine(states[a], states[b]).mean() for b in range(5)] for a in range(5)]
    assert np.allclose(found.similarity, pairs, atol=1e-6)
    assert list(found.similarities().columns) == ["row", "column", "cosine"]


def test_angular_distance_is_that_of_last_tokens() -> None:
    model = model_of("llama")
    found = importance(model, byte_tokenizer(), TEXTS)
    last = [states_of(model, text)[:, -1] for text in TEXTS]
    for start in range(4):
        for length in range(1, 5 - start):
            expected = np.mean([np.arccos(cosine(one[start], one[start + length])) / np.pi for one in last])
            assert found.angular[start, length - 1] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(found.angular[3, 1:]).all()
    assert len(found.blocks()) == 4 + 3 + 2 + 1
    assert found.n_texts == 2


def test_a_long_text_counts_each_token_once() -> None:
    found = importance(model_of("llama"), byte_tokenizer(), "It was a dark night, and the wolf came. " * 5)
    assert found.n_tokens == 200
    assert found.n_texts == 1


def test_operated_models_have_importance_too() -> None:
    found = importance(operate(model_of("llama"), "0,2,2,3"), byte_tokenizer(), TEXTS)
    assert found.labels == ("L0", "L2", "L2 (2)", "L3")
    assert list(found.frame()["position"]) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3], [1, 3, 2], 0.5),  # 1 - 6 * (0 + 1 + 1) / (3 * 8)
        ([1, 1, 2], [1, 2, 3], np.sqrt(3) / 2),  # ranks 1.5 1.5 3 and 1 2 3
        ([1, 2, float("nan"), 4], [1, 2, 9, 3], 1.0),
    ],
)
def test_rank_correlation_is_spearmans(left: list[float], right: list[float], expected: float) -> None:
    assert rank_correlation(left, right) == pytest.approx(expected)


def test_rank_correlation_of_a_constant_is_not_a_number() -> None:
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


def test_a_stop_and_no_text_are_errors() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        importance(model_of("llama"), byte_tokenizer(), TEXTS, stop=stop)
    with pytest.raises(TextError):
        importance(model_of("llama"), byte_tokenizer(), ())


def loss(plan: LayerPlan) -> float:
    table = score(operate(model_of("gpt2"), plan), byte_tokenizer(), TEXTS)
    return table.nats / table.n_tokens


def test_greedy_removal_takes_the_least_harmful_layer_each_time() -> None:
    steps = list(remove_greedily(model_of("gpt2"), byte_tokenizer(), TEXTS))
    assert [step.layers_left for step in steps] == [4, 3, 2, 1]
    plan = LayerPlan.identity(4)
    for step in steps[1:]:
        best = min((plan.delete(position) for position in range(len(plan))), key=loss)
        assert step.plan == best
        assert step.row.nats == pytest.approx(loss(best), abs=1e-5)
        assert step.removed == f"L{next(iter(plan.layers_used - best.layers_used))}"
        plan = best


def test_a_wide_beam_finds_the_best_of_all_subsets() -> None:
    steps = list(remove_greedily(model_of("gpt2"), byte_tokenizer(), TEXTS, beam=16, least=0))
    for step in steps:
        every = [LayerPlan.identity(4).permute(kept) for kept in combinations(range(4), step.layers_left)]
        assert step.row.nats == pytest.approx(min(map(loss, every)), abs=1e-5)


def test_a_beam_or_end_out_of_range_is_named() -> None:
    with pytest.raises(SettingsError, match="beam of 0"):
        remove_greedily(model_of("gpt2"), byte_tokenizer(), TEXTS, beam=0)
    with pytest.raises(SettingsError, match="end at 5"):
        remove_greedily(model_of("gpt2"), byte_tokenizer(), TEXTS, least=5)
