"""Effective depth: each sign against plain torch on a model that is built anew, and its crossings by hand."""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
import pytest
import torch

from surgery_core.errors import SettingsError, Stopped, TextError
from surgery_core.studies.effective_depth import SIGNS, effective_depth
from surgery_core.studies.finding import Claim
from tests.core.studies.six import TEXTS, N, broken, built_anew, run_study, six, states_by_hand, tokenizer


@cache
def by_hand() -> dict[str, np.ndarray]:
    """Return the sums over all tokens of all texts of each sign, `[n_layers]`, and of the tokens."""
    model = built_anew()
    sums = {sign: np.zeros(N) for sign in ("kl", "overlap")}
    count = 0
    for text in TEXTS:
        ids = tokenizer()(text.text)["input_ids"]
        states = states_by_hand("llama", range(N), ids)
        count += len(ids)
        # in float64 from here on: RMS norm and unembedding written out
        normed = states / (states.pow(2).mean(-1, keepdim=True) + model.config.rms_norm_eps).sqrt()
        logp = (normed * model.model.norm.weight.double() @ model.lm_head.weight.double().T).log_softmax(-1)
        top = logp.topk(5, dim=-1).indices
        for layer in range(N):
            sums["kl"][layer] += float((logp[layer].exp() * (logp[layer] - logp[-1])).sum())
            shared = [len(set(a) & set(b)) / 5 for a, b in zip(top[layer].tolist(), top[-1].tolist(), strict=True)]
            sums["overlap"][layer] += sum(shared)
    return sums | {"tokens": np.array(count)}


def test_kl_and_overlap_equal_plain_torch() -> None:
    frame = run_study("effective-depth", six()).frame
    kl = by_hand()["kl"] / by_hand()["tokens"]
    np.testing.assert_allclose(frame[frame["sign"] == SIGNS["kl"]]["value"], kl / kl.max(), rtol=1e-4)
    overlap = by_hand()["overlap"] / by_hand()["tokens"]
    np.testing.assert_allclose(frame[frame["sign"] == SIGNS["overlap"]]["value"], overlap, atol=1e-6)


def test_the_figure_is_the_share_of_layers_up_to_the_crossing() -> None:
    kl = by_hand()["kl"] / by_hand()["tokens"]
    layers = next((layer + 1 for layer in range(N - 1) if kl[layer] < 0.5 * kl.max()), N)
    finding = run_study("effective-depth", six())
    assert finding.figure.value == pytest.approx(layers / N)
    assert finding.others[0].value == pytest.approx(layers)
    assert finding.figure.n_units == len(TEXTS)
    assert finding.figure.low <= finding.figure.value <= finding.figure.high
    overlap = by_hand()["overlap"] / by_hand()["tokens"]
    layers = next((layer + 1 for layer in range(N - 1) if overlap[layer] > 0.3), N)
    assert run_study("effective-depth", six(), by="overlap").figure.value == pytest.approx(layers / N)


@pytest.mark.parametrize(
    ("sign", "means", "layers"),
    [
        ("kl", [10.0, 6.0, 4.9, 7.0, 1.0, 0.5], 3),
        ("kl", [10.0, 9.0, 8.0, 7.0, 6.0, 0.1], 6),  # only the last layer's own input is near: all count
        ("kl", [10.0, 9.0, 8.0, 7.0, 6.0, float("nan")], 0),
        ("overlap", [0.0, 0.1, 0.3, 0.31, 0.2, 0.9], 4),
        ("cosine", [-0.1, 0.2, -0.1, -0.2, 0.0, 0.4], 4),  # the last turn counts
        ("cosine", [0.1, 0.2, 0.1, 0.2, 0.3, 0.4], 0),
    ],
)
def test_crossings_by_hand(sign: str, means: list[float], layers: int) -> None:
    assert effective_depth(sign, np.array(means)) == layers


def test_cosines_are_those_of_the_parts() -> None:
    # the attention's own output, seen by a plain hook, is what stands between the layer's input and its middle
    model, ids = built_anew(), torch.tensor([tokenizer()(TEXTS[0].text)["input_ids"]])
    attention: list[torch.Tensor] = []
    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(lambda module, args, output: attention.append(output[0][0].clone()))
    with torch.no_grad():
        model(ids, use_cache=False)
    states = states_by_hand("llama", range(N), ids[0].tolist())
    parts = []
    for layer, added in enumerate(attention):
        middle = states[layer] + added.double()
        pairs = ((states[layer], middle), (middle, states[layer + 1]), (states[layer], states[layer + 1]))
        parts.append(sum(torch.cosine_similarity(b - a, a, dim=-1).mean() for a, b in pairs) / 3)
    frame = run_study("effective-depth", six(), TEXTS[:1]).frame
    np.testing.assert_allclose(frame[frame["sign"] == SIGNS["cosine"]]["value"], parts, atol=1e-4)


def test_a_model_without_middles_has_cosines_of_whole_layers() -> None:
    from tests.tiny import build_model

    model = build_model("gpt_neox", num_hidden_layers=N)
    finding = run_study("effective-depth", model)
    assert "Cosines are those of whole layers" in finding.note
    cosine = finding.frame[finding.frame["sign"] == SIGNS["cosine"]]["value"]
    assert np.isfinite(cosine).all()


def test_a_model_that_is_no_number_says_nothing() -> None:
    for sign in SIGNS:
        finding = run_study("effective-depth", broken(), by=sign)
        assert Claim(0.0, 1.0).outcome(finding.figure) == "too few texts to say"


def test_unknown_signs_and_a_stop() -> None:
    with pytest.raises(SettingsError, match="cannot be read from 'norm'; give one of kl, overlap, cosine"):
        run_study("effective-depth", six(), by="norm")
    with pytest.raises(TextError):
        run_study("effective-depth", six(), ())
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        run_study("effective-depth", six(), stop=stop)
