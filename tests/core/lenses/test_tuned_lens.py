"""The tuned lens: training, files, and which translator reads what after surgery."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from surgery_core.errors import LensError, SettingsError, TextError
from surgery_core.lenses.files import load_lens, save_lens
from surgery_core.lenses.gradients import StepGradients
from surgery_core.lenses.quality import lens_quality, summed_quality
from surgery_core.lenses.reading import LogitLens, read_lens, translators_of
from surgery_core.lenses.training import LensTraining, Progress, train_lens
from surgery_core.lenses.translating import unembed_hash
from surgery_core.lenses.tuned import Translators, TunedLens, untrained
from surgery_core.plans.plan import LayerPlan
from surgery_core.surgery.view import operate
from surgery_core.text import Text
from tests.core.lenses.test_lens import TEXT, hooked
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import FAMILIES, N_LAYERS, build

model_of = cache(build)
TRAIN = Text("Train", "The quick brown fox jumps over the lazy dog, and the dog runs home. " * 30)
HELD_OUT = Text("Held out", "A lazy dog jumps over the quick brown fox, home and dry.")
QUICK = LensTraining(steps=60, tokens_per_step=128, window=32, learning_rate=5e-3)


def random_translators(seed: int = 0) -> Translators:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn((N_LAYERS, 32, 32), generator=generator) * 0.05
    return Translators(weights, torch.randn((N_LAYERS, 32), generator=generator) * 0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_training_it_is_the_logit_lens(family: str) -> None:
    model = model_of(family)
    tuned = read_lens(TunedLens(model, untrained(model)), model, byte_tokenizer(), TEXT)
    plain = read_lens(LogitLens(model), model, byte_tokenizer(), TEXT)
    for name, values in plain.statistics.items():
        np.testing.assert_allclose(tuned.statistics[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "bloom"])
def test_a_row_is_decoded_as_the_paper_says(family: str) -> None:
    """h + A h + b, then the model's own norm and head, with nothing for the last row."""
    model, translators = model_of(family), random_translators()
    ids = torch.tensor([byte_tokenizer()(TEXT)["input_ids"]])
    trajectory = read_lens(TunedLens(model, translators), model, byte_tokenizer(), TEXT)
    plain = LogitLens(model)
    for row, state in enumerate(hooked(model, ids)):
        hidden = state
        if row < N_LAYERS:
            hidden = state + torch.einsum("ij,tj->ti", translators.weights[row], state) + translators.biases[row]
        expected = plain.logits(hidden).softmax(-1).topk(10)
        assert trajectory.top_ids[row].tolist() == expected.indices.tolist()
        np.testing.assert_allclose(trajectory.top_probabilities[row], expected.values, atol=1e-5)


@pytest.mark.parametrize(
    ("notation", "layer", "position"),
    [
        ("0-3", [0, 1, 2, 3, None], [0, 1, 2, 3, None]),
        ("0,2,3", [0, 1, 3, None], [0, 1, 2, None]),
        ("3,0", [0, None, None], [0, 1, None]),
        ("1x3,2", [0, 2, 2, 2, None], [0, 1, 2, 3, None]),
        ("(0|2),1", [0, 3, None], [0, 1, None]),
        ("", [None], [None]),
    ],
)
def test_translators_follow_their_layer_or_their_position(notation: str, layer: Any, position: Any) -> None:
    plan = LayerPlan.parse(notation, N_LAYERS)
    assert translators_of(plan, "layer") == layer
    assert translators_of(plan, "position") == position


def test_what_is_followed_changes_what_is_read() -> None:
    base = model_of("llama")
    view = operate(base, "0,2,3")
    lens = TunedLens(view, random_translators())
    by_layer, by_position = (
        read_lens(lens, view, byte_tokenizer(), TEXT, follow=follow) for follow in ("layer", "position")
    )
    same = [np.allclose(a, b) for a, b in zip(by_layer.statistics["kl"], by_position.statistics["kl"], strict=True)]
    assert same == [True, True, False, True]


@cache
def trained() -> tuple[Translators, list[Progress]]:
    seen: list[Progress] = []
    return train_lens(model_of("llama"), byte_tokenizer(), TRAIN, QUICK, name="tiny", on_progress=seen.append), seen


def test_training_comes_closer_to_the_output_at_every_layer_also_on_other_text() -> None:
    translators, seen = trained()
    assert [progress.step for progress in seen] == list(range(1, 61))
    assert seen[-1].seconds_left == 0
    assert all(last < first for first, last in zip(seen[0].losses, seen[-1].losses, strict=True))
    quality = lens_quality(model_of("llama"), byte_tokenizer(), translators, [HELD_OUT])
    assert list(quality["layer"]) == list(range(N_LAYERS))
    assert (quality["tuned_lens"] < quality["logit_lens"]).all()


def test_the_quality_of_a_lens_is_summed_over_the_layers() -> None:
    quality = pd.DataFrame({"layer": [0, 1, 2], "logit_lens": [4.0, 2.0, 0.5], "tuned_lens": [1.0, 0.5, 0.25]})
    assert summed_quality(quality) == (6.5, 1.75)


def test_the_first_loss_is_the_logit_lenses_kl() -> None:
    """Before the first update every translator is zero, so the loss is a KL that can be computed by hand."""
    model, ids, seen = model_of("llama"), byte_tokenizer()(TRAIN.text)["input_ids"], []
    settings = replace(QUICK, steps=1, held_out=0.0, precision="float32")
    train_lens(model, byte_tokenizer(), TRAIN, settings, on_progress=seen.append)
    starts = torch.randint(0, len(ids) - 31, (4,), generator=torch.Generator().manual_seed(QUICK.seed))
    sums = np.zeros(N_LAYERS)
    for start in starts.tolist():
        window = torch.tensor([ids[start : start + 32]])
        final = model(window).logits[0].double().log_softmax(-1)
        for index, state in enumerate(hooked(model, window)[:N_LAYERS]):
            logp = model.lm_head(model.model.norm(state)).double().log_softmax(-1)
            sums[index] += float((final.exp() * (final - logp)).sum())
    np.testing.assert_allclose(seen[0].losses, sums / 128, rtol=1e-4)


def test_the_same_seed_gives_the_same_lens_and_the_model_stays_as_it_was() -> None:
    model = build("gpt2")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    short = LensTraining(steps=3, tokens_per_step=64, window=32)
    first, second = (train_lens(model, byte_tokenizer(), TRAIN, short) for _ in range(2))
    assert torch.equal(first.weights, second.weights)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_stopping_keeps_what_was_trained() -> None:
    stop, seen = threading.Event(), []

    def report(progress: Progress) -> None:
        seen.append(progress)
        if progress.step == 4:
            stop.set()

    translators = train_lens(model_of("llama"), byte_tokenizer(), TRAIN, QUICK, on_progress=report, stop=stop)
    assert len(seen) == 4
    assert translators.weights.abs().sum() > 0


def test_bad_training_input() -> None:
    with pytest.raises(SettingsError, match="0 steps"):
        LensTraining(steps=0)
    with pytest.raises(SettingsError, match="learning rate is 0"):
        LensTraining(learning_rate=0)
    with pytest.raises(SettingsError, match="step of 16 tokens in windows of 32"):
        LensTraining(tokens_per_step=16, window=32)
    with pytest.raises(TextError, match="3 tokens; training needs at least 32"):
        train_lens(model_of("llama"), byte_tokenizer(), "abc", QUICK)


@pytest.mark.parametrize("pickled", [True, False])
def test_files_keep_everything(tmp_path: Path, pickled: bool) -> None:
    translators, _ = trained()
    read = load_lens(save_lens(translators, tmp_path / "lens", pickled=pickled))
    assert torch.equal(read.weights, translators.weights)
    assert torch.equal(read.biases, translators.biases)
    assert (read.base_model, read.unembed_hash) == ("tiny", translators.unembed_hash)


def test_the_format_is_that_of_the_tuned_lens_library(tmp_path: Path) -> None:
    """Its config has these fields, and its parameters load into a list of linear layers."""
    save_lens(random_translators(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    fields = {"base_model_name_or_path", "d_model", "num_hidden_layers", "bias", "base_model_revision", "unembed_hash"}
    assert set(config) == fields | {"lens_type"}
    layers = torch.nn.ModuleList(torch.nn.Linear(32, 32) for _ in range(N_LAYERS))
    layers.load_state_dict(torch.load(tmp_path / "params.pt", weights_only=True))
    hidden = torch.randn(3, 32)
    lens = TunedLens(model_of("llama"), load_lens(tmp_path))
    for index in range(N_LAYERS):
        torch.testing.assert_close(lens.transform(hidden, index), hidden + layers[index](hidden))


class Boom:
    """A pickle that runs code when it is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.write_text, (self.marker, "ran")


def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    save_lens(random_translators(), tmp_path)
    torch.save({"0.weight": Boom(marker)}, tmp_path / "params.pt")
    with pytest.raises(LensError, match="holds more than tensors"):
        load_lens(tmp_path)
    (tmp_path / "params.pt").write_bytes(pickle.dumps(Boom(marker), protocol=2))
    with pytest.raises(LensError):
        load_lens(tmp_path)
    assert not marker.exists()


def test_broken_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LensError, match="holds no lens: it has no config.json"):
        load_lens(tmp_path)
    save_lens(random_translators(), tmp_path)
    whole = (tmp_path / "params.pt").read_bytes()
    (tmp_path / "params.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LensError, match="damaged or cut short"):
        load_lens(tmp_path)
    (tmp_path / "params.pt").unlink()
    with pytest.raises(LensError, match="neither params.safetensors nor params.pt"):
        load_lens(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    torch.save({f"{i}.weight": torch.zeros(32, 31) for i in range(4)}, tmp_path / "params.pt")
    with pytest.raises(LensError, match=r"shape \[32, 31\]; expected \[32, 32\]|has no 0.bias"):
        load_lens(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "d_model": "wide"}))
    with pytest.raises(LensError, match="d_model is 'wide'"):
        load_lens(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(LensError, match="not valid JSON"):
        load_lens(tmp_path)


def test_a_lens_of_another_model_is_refused_with_what_differs() -> None:
    narrow = Translators(torch.zeros(4, 16, 16), torch.zeros(4, 16))
    with pytest.raises(LensError, match="4 layers of width 16, but the model has 4 of width 32"):
        TunedLens(model_of("llama"), narrow)
    with pytest.raises(LensError, match="another model .tiny.: its unembedding has another hash"):
        TunedLens(model_of("gpt2"), trained()[0])
    TunedLens(operate(model_of("llama"), "3,1"), trained()[0])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "bloom"])
def test_gradients_are_those_of_automatic_differentiation(family: str) -> None:
    """The loss written out and differentiated by torch, through the model's own norm, head and soft cap."""
    model, start = model_of(family), random_translators()
    step = StepGradients(model, torch.float32)
    batch = torch.tensor([byte_tokenizer()(TEXT)["input_ids"]] * 2)
    states, _, final = step.read(batch)
    weights, biases = start.weights.clone().requires_grad_(), start.biases.clone().requires_grad_()
    losses = step.backward(states, final, weights, biases)
    own_w, own_b = start.weights.double().requires_grad_(), start.biases.double().requires_grad_()
    exact = copy.deepcopy(model).double()
    p = exact(batch).logits.flatten(0, 1).softmax(-1)
    for index, state in enumerate(hooked(exact, batch)[:N_LAYERS]):
        state = state.repeat(2, 1)
        logq = LogitLens(exact).tail.logits((state + state @ own_w[index].T + own_b[index])[None], grad=True)[0]
        loss = (p * (p.log() - logq.log_softmax(-1))).sum(-1).mean()
        loss.backward()
        assert losses[index].item() == pytest.approx(loss.item(), rel=1e-3)
    torch.testing.assert_close(weights.grad.double(), own_w.grad, rtol=2e-3, atol=1e-5)
    torch.testing.assert_close(biases.grad.double(), own_b.grad, rtol=2e-3, atol=1e-5)


def test_half_precision_products_train_as_well() -> None:
    settings = {name: replace(QUICK, precision=name) for name in ("float32", "bfloat16")}
    quality = {
        name: lens_quality(
            model_of("llama"), byte_tokenizer(), train_lens(model_of("llama"), byte_tokenizer(), TRAIN, how), [HELD_OUT]
        )["tuned_lens"].sum()
        for name, how in settings.items()
    }
    assert quality["bfloat16"] == pytest.approx(quality["float32"], rel=0.05)


def test_the_best_state_on_the_held_out_text_is_kept() -> None:
    """With a rate that is much too high training makes the lens worse, and what was best is what comes back."""
    seen: list[Progress] = []
    wild = replace(QUICK, learning_rate=0.9, steps=20, fit=0.0)
    kept = train_lens(model_of("llama"), byte_tokenizer(), TRAIN, wild, on_progress=seen.append)
    assert all(late <= early for early, late in zip(seen[0].best, seen[-1].best, strict=True))
    assert seen[-1].losses[3] > seen[0].losses[3]
    last = train_lens(model_of("llama"), byte_tokenizer(), TRAIN, replace(wild, held_out=0.0))
    assert kept.weights[3].abs().sum() == 0
    assert kept.weights[0].abs().sum() > 0
    assert last.weights[3].abs().sum() > 0


def test_a_training_that_is_stopped_at_once_gives_a_lens_no_worse_than_the_logit_lens() -> None:
    stop = threading.Event()
    stop.set()
    translators = train_lens(model_of("llama"), byte_tokenizer(), TRAIN, QUICK, stop=stop)
    quality = lens_quality(model_of("llama"), byte_tokenizer(), translators, [Text("Seen", TRAIN.text[-100:])])
    assert (quality["tuned_lens"] <= quality["logit_lens"] + 1e-3).all()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_logits_agree_with_the_tuned_lens_library(family: str) -> None:
    """Its lens, written by it, and the logits that it makes: from benchmarks/lens_agreement.py, tuned-lens 0.2.0."""
    folder = Path(__file__).with_name("tuned_lens_fixture") / family
    saved = load_file(folder / "logits.safetensors")
    model, translators = model_of(family), load_lens(folder)
    assert translators.base_model == f"tiny-{family}"
    assert translators.unembed_hash == unembed_hash(model)
    lens = TunedLens(model, translators)
    ours = lens.decode(saved["states"], list(range(N_LAYERS)))
    torch.testing.assert_close(ours, saved["tuned"], atol=1e-5, rtol=0)
    torch.testing.assert_close(LogitLens(model).logits(saved["states"]), saved["logit"], atol=1e-5, rtol=0)
    # far enough from the logit lens for the agreement to mean something
    assert (saved["tuned"] - saved["logit"]).abs().max() > 1
