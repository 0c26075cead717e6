"""Residual streams of every form: read as one state a token, put back, averaged; refused where that cannot be."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from surgery_core.errors import AnatomyError, LensError, RefusedPlanError
from surgery_core.lenses.reading import LogitLens, read_lens
from surgery_core.lenses.training import LensTraining, train_lens
from surgery_core.lenses.tuned import Translators, TunedLens, untrained
from surgery_core.measure.compare import score
from surgery_core.measure.encoding import encode_texts
from surgery_core.proof import layer_by_layer as by_hand
from surgery_core.proof.preflight import preflight, prove
from surgery_core.states.means import mean_contributions
from surgery_core.states.residuals import residual_batch, residuals
from surgery_core.states.tail import Tail
from surgery_core.surgery import behaviours as slots
from surgery_core.surgery.anatomy import find_layers, width_of
from surgery_core.surgery.layer_parts import Halves, halves_of
from surgery_core.surgery.stream_form import stream_of
from surgery_core.surgery.view import operate
from surgery_core.text import Text
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support import zoo
from tests.core.support.columns import LAID_OUT, Hooked, entering, first, inputs, renewed
from tests.core.support.families import build

model_of = cache(zoo.build)
FORMS = ("deepseek_v4", "gemma3n_text", "hy_v4", "qwen4_exp", "reformer", "xlnet")
SEVERAL = ("deepseek_v4", "gemma3n_text", "hy_v4", "qwen4_exp", "reformer")
TEXT = "The fox said"


def hooked(model: Any, ids: torch.Tensor) -> list[torch.Tensor]:
    """Return what leaves each layer, `[batch, seq, width]`, with hooks of our own."""
    laid_out = LAID_OUT.get(type(model).__name__, lambda output: first(output).flatten(2))
    copied, seen = Hooked(model), []
    for layer in copied.layers:
        layer.register_forward_hook(lambda module, args, output: seen.append(laid_out(output)))
    with torch.inference_mode():
        copied.model(ids, use_cache=False)
    return seen


@pytest.mark.parametrize("model_type", FORMS)
def test_states_are_one_row_a_token_whatever_their_form(model_type: str) -> None:
    model = model_of(model_type)
    ids = inputs(2, padded=False)["input_ids"]
    states, logits = residual_batch(model, ids)
    assert states.shape[:3] == (5, 2, 9)
    for state, expected in zip(states[1:], hooked(model, ids), strict=True):
        torch.testing.assert_close(state, expected)
    torch.testing.assert_close(LogitLens(model).logits(states[-1]), logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(residuals(model, ids[:1]).states, states[:, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", FORMS)
def test_a_state_is_put_back_as_a_layer_returns_it(model_type: str) -> None:
    model = model_of(model_type)
    stream, outputs = stream_of(model), []
    copied = Hooked(model)
    copied.layers[2].register_forward_hook(lambda module, args, output: outputs.append(output))
    with torch.inference_mode():
        copied.model(inputs(2, padded=False)["input_ids"], use_cache=False)
    again = stream.output(stream.leaving(outputs[0]))
    assert type(again) is type(outputs[0])
    for part in stream.parts:
        left, right = (out if isinstance(out, torch.Tensor) else out[part] for out in (again, outputs[0]))
        assert torch.equal(left, right)


@pytest.mark.parametrize("model_type", [*FORMS, "mllama"])
@pytest.mark.parametrize("notation", ["0-3", "0,3,1", ""])
def test_a_trajectory_ends_in_the_models_own_output(model_type: str, notation: str) -> None:
    if model_type == "reformer" and not notation:
        pytest.skip("a Reformer without layers does not run")
    model = operate(model_of(model_type), notation)
    ids = torch.tensor([byte_tokenizer()(TEXT)["input_ids"]])
    with torch.inference_mode():
        expected = model(ids, use_cache=False).logits[0].softmax(-1).max(-1).values
    trajectory = read_lens(LogitLens(model), model, byte_tokenizer(), TEXT)
    np.testing.assert_allclose(trajectory.top_probabilities[-1, :, 0], expected, atol=1e-5)


def test_a_layer_that_does_not_run_passes_the_state_on() -> None:
    states = residuals(model_of("mllama"), inputs(1, padded=False)["input_ids"]).states
    assert torch.equal(states[4], states[3])
    assert not torch.equal(states[3], states[2])
    with pytest.raises(AnatomyError, match="does not run on text alone"):
        residuals(model_of("mllama"), inputs(1, padded=False)["input_ids"], sublayers=True)


@pytest.mark.parametrize("model_type", SEVERAL)
def test_a_tuned_lens_is_refused_where_a_state_is_no_single_vector(model_type: str) -> None:
    model = model_of(model_type)
    d_model = width_of(model)
    with pytest.raises(LensError, match=f"not one vector of d_model = {d_model}, so there is no tuned lens"):
        untrained(model)
    with pytest.raises(LensError, match="no tuned lens"):
        TunedLens(model, Translators(torch.zeros(4, d_model, d_model), torch.zeros(4, d_model)))
    with pytest.raises(LensError, match="no tuned lens"):
        train_lens(model, byte_tokenizer(), [Text("t", TEXT * 9)], LensTraining(steps=1, tokens_per_step=8, window=8))
    with pytest.raises(AnatomyError, match="no point inside them"):
        residuals(model, inputs(1, padded=False)["input_ids"], sublayers=True)


def test_a_tuned_lens_of_a_model_whose_tokens_come_first_reads_the_right_tokens() -> None:
    model = model_of("xlnet")
    tuned = read_lens(TunedLens(model, untrained(model)), model, byte_tokenizer(), TEXT)
    plain = read_lens(LogitLens(model), model, byte_tokenizer(), TEXT)
    np.testing.assert_allclose(tuned.statistics["entropy"], plain.statistics["entropy"], atol=1e-5)


@pytest.mark.parametrize("model_type", ["inkling2_text", "prophetnet", "cpmant"])
def test_what_no_lens_can_read_is_refused_in_a_sentence(model_type: str) -> None:
    model = model_of(model_type)
    for lens in (LogitLens, Tail):
        with pytest.raises(AnatomyError, match="a lens cannot read"):
            lens(model)
    check = next(check for check in preflight(model).checks if check.key == "lens")
    assert not check.passed
    assert "a lens cannot read" in check.detail


@pytest.mark.parametrize("model_type", [*FORMS, "mllama"])
def test_scores_are_those_of_the_models_whole_logits(model_type: str) -> None:
    model, texts = model_of(model_type), [Text("one", TEXT), Text("two", TEXT[:5])]
    nats = [0.0, 0.0]
    for batch in encode_texts(model, byte_tokenizer(), texts).batches:
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
        logp = logits.double().log_softmax(-1)[batch.rows, batch.columns]
        for text, loss in zip(batch.texts.tolist(), -logp.gather(-1, batch.targets[:, None])[:, 0], strict=True):
            nats[text] += float(loss)
    np.testing.assert_allclose(score(model, byte_tokenizer(), texts).frame()["nats"], nats, rtol=1e-5)


def test_states_of_another_width_are_refused() -> None:
    with pytest.raises(AnatomyError, match="States of 32 values a token were given, but this model's have 128"):
        LogitLens(model_of("deepseek_v4")).logits(torch.zeros(1, 3, 32))


@pytest.mark.parametrize("model_type", ["deepseek_v4", "gemma3n_text", "qwen4_exp", "xlnet", "xlstm"])
def test_a_mean_has_a_value_for_every_stream(model_type: str) -> None:
    """The mean that is computed is that of the hooked states, and a plan with it adds just that."""
    model = model_of(model_type)
    means = mean_contributions(model, byte_tokenizer(), [Text("t", TEXT)])
    ids = torch.tensor([byte_tokenizer()(TEXT)["input_ids"]])
    states = hooked(model, ids)
    vector = (states[2] - states[1]).mean((0, 1))
    torch.testing.assert_close(means.vectors[2], vector, atol=1e-5, rtol=1e-4)
    copied = Hooked(model)

    def instead(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        hidden = entering(args, kwargs)
        streams = vector.reshape(hidden.shape[0], 1, 1, -1) if model_type == "gemma3n_text" else vector
        streams = vector.reshape(hidden.shape[2:]) if model_type == "deepseek_v4" else streams
        return renewed(output, hidden + streams)

    copied.layers[2].register_forward_hook(instead, with_kwargs=True)
    with torch.inference_mode():
        expected = copied.model(ids, use_cache=False).logits
        logits = operate(model, "0-1,mean(2),3", means=means)(ids, use_cache=False).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    assert prove(model, None, "0-1,mean(2),3", means=means).passed


def test_the_form_of_a_model_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, runs = build("llama"), []
    Tail(model)
    for layer in find_layers(model)[1]:
        monkeypatch.setattr(type(layer), "forward", lambda *args, **kwargs: runs.append(args))
    Tail(model)
    Tail(operate(model, "3,1"))
    assert not runs
    assert stream_of(model).is_plain


@pytest.mark.parametrize(
    ("model_type", "found"),
    [
        ("falcon_h1", Halves(("self_attn",), ("feed_forward",), None)),
        ("dbrx", Halves(("norm_attn_norm",), ("ffn",), None)),
    ],
)
def test_a_mixer_that_was_missed_or_a_residual_taken_away_is_found_out(
    model_type: str, found: Halves, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(model_type)
    assert prove(model, None, "0,1.mlp,2-3").passed
    for module in (by_hand, slots):
        monkeypatch.setattr(module, "halves_of", lambda layer: found)
    with pytest.raises(RefusedPlanError, match="passes each token's state on by itself: no. Not so in L1"):
        prove(model, None, "0,1.mlp,2-3")
    assert halves_of(find_layers(model)[1][1]) != found
