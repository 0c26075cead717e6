"""Reading through a Jacobian lens: decoding by hand, what follows what after surgery, and for which models it is."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from surgery_core.errors import LensError
from surgery_core.lenses.answers import AnswerReader
from surgery_core.lenses.averages import lens_averages
from surgery_core.lenses.before_after import distances
from surgery_core.lenses.jacobian import JacobianLens, Jacobians
from surgery_core.lenses.quality import lens_quality
from surgery_core.lenses.reading import LogitLens, read_lens
from surgery_core.lenses.translating import unembed_hash
from surgery_core.measure.skills import SkillItem
from surgery_core.surgery.anatomy import plan_of
from surgery_core.surgery.view import operate
from surgery_core.text import Text
from tests.core.lenses.test_lens import TEXT, hooked
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import FAMILIES, N_LAYERS, build

model_of = cache(build)


def drawn(seed: int = 0, layers: tuple[int, ...] = (0, 1, 2), **how: Any) -> Jacobians:
    """Return matrices near the unit matrix, which no two layers share."""
    generator = torch.Generator().manual_seed(seed)
    matrices = {layer: torch.eye(32) + torch.randn((32, 32), generator=generator) * 0.1 for layer in layers}
    return Jacobians(matrices, 7, **({"target": 3, "n_layers": 4} | how))


def identity() -> Jacobians:
    return Jacobians({layer: torch.eye(32) for layer in range(3)}, 1, target=3, n_layers=4)


@pytest.mark.parametrize("family", FAMILIES)
def test_unit_matrices_are_the_logit_lens(family: str) -> None:
    model = model_of(family)
    mine = read_lens(JacobianLens(model, identity()), model, byte_tokenizer(), TEXT)
    plain = read_lens(LogitLens(model), model, byte_tokenizer(), TEXT)
    for name, values in plain.statistics.items():
        np.testing.assert_allclose(mine.statistics[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "bloom"])
def test_a_row_is_the_state_times_its_matrix_decoded_by_the_model(family: str) -> None:
    """What leaves layer l is multiplied by J_l; the input, and the last layer's output, are read as they are."""
    model, fitted = model_of(family), drawn()
    ids = torch.tensor([byte_tokenizer()(TEXT)["input_ids"]])
    read = read_lens(JacobianLens(model, fitted), model, byte_tokenizer(), TEXT)
    plain = LogitLens(model)
    for row, state in enumerate(hooked(model, ids)):
        hidden = torch.einsum("ij,tj->ti", fitted.matrices[row - 1], state) if 1 <= row < N_LAYERS else state
        expected = plain.logits(hidden).softmax(-1).topk(10)
        assert read.top_ids[row].tolist() == expected.indices.tolist()
        np.testing.assert_allclose(read.top_probabilities[row], expected.values, atol=1e-5)


def expected_rows(view: Any, states: list[torch.Tensor], matrices: list[torch.Tensor | None]) -> list[list[int]]:
    plain = LogitLens(view)
    mapped = [s if m is None else s @ m.T for s, m in zip(states, matrices, strict=True)]
    return [plain.logits(state).argmax(-1).tolist() for state in mapped]


@pytest.mark.parametrize(
    ("notation", "follow", "layers"),
    [
        ("0,2,3", "layer", [None, 0, 2, None]),
        ("0,2,3", "position", [None, 0, 1, None]),
        ("2,0,3,1", "layer", [None, 2, 0, None, None]),
        ("1x3,2", "layer", [None, 1, 1, 1, None]),
    ],
)
def test_matrices_follow_their_layer_or_their_position(notation: str, follow: Any, layers: list[int | None]) -> None:
    view, fitted = operate(model_of("llama"), notation), drawn()
    states = view_states(view)
    read = read_lens(JacobianLens(view, fitted), view, byte_tokenizer(), TEXT, follow=follow)
    chosen = [None if layer is None else fitted.matrices[layer] for layer in layers]
    assert read.top_ids[:, :, 0].tolist() == expected_rows(view, states, chosen)


def view_states(view: Any) -> list[torch.Tensor]:
    ids = torch.tensor([byte_tokenizer()(TEXT)["input_ids"]])
    found: list[torch.Tensor] = []

    def take(module: Any, args: Any, output: Any) -> None:
        if not found:
            found.append(args[0][0])
        found.append(output[0])

    handles = [layer.register_forward_hook(take) for layer in view.model.layers]
    view(ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("follow", ["layer", "position"])
def test_a_lens_of_an_operated_model_reads_slot_by_slot(follow: Any) -> None:
    """Six slots of a model with four layers; what is followed makes no difference."""
    view = operate(model_of("llama"), "0,1x3,2,3")
    fitted = drawn(5, layers=(0, 1, 2, 3, 4), plan=str(plan_of(view)), n_layers=6, target=5)
    lens = JacobianLens(view, fitted)
    read = read_lens(lens, view, byte_tokenizer(), TEXT, follow=follow)
    chosen = [None, *(fitted.matrices[slot] for slot in range(5)), None]
    assert read.top_ids[:, :, 0].tolist() == expected_rows(view, view_states(view), chosen)
    apart = distances(
        (JacobianLens(model_of("llama"), drawn()), lens), (model_of("llama"), view), byte_tokenizer(), TEXT
    )
    assert apart["js"].shape == (7, len(TEXT))
    assert apart["js"][1].max() > 0.001


def test_layers_without_a_matrix_are_read_as_they_are() -> None:
    model, fitted = model_of("llama"), drawn(layers=(1,))
    read = read_lens(JacobianLens(model, fitted), model, byte_tokenizer(), TEXT)
    plain = read_lens(LogitLens(model), model, byte_tokenizer(), TEXT)
    same = [np.allclose(a, b) for a, b in zip(read.statistics["entropy"], plain.statistics["entropy"], strict=True)]
    assert same == [True, True, False, True, True]


def test_averages_are_the_means_of_what_is_read() -> None:
    model, lens = model_of("gpt2"), JacobianLens(model_of("gpt2"), drawn())
    texts = [Text("a", "Once upon a time"), Text("b", "a fox ran")]
    frame = lens_averages(lens, model, byte_tokenizer(), texts)
    for text in texts:
        read = read_lens(lens, model, byte_tokenizer(), text)
        np.testing.assert_allclose(
            frame.loc[frame["text"] == text.title, "kl"], read.statistics["kl"].mean(1), rtol=1e-5, atol=1e-7
        )


def test_its_quality_is_the_mean_divergence_by_the_layer_that_is_entered() -> None:
    model, fitted = model_of("llama"), drawn()
    quality = lens_quality(model, byte_tokenizer(), fitted, TEXT)
    read = read_lens(JacobianLens(model, fitted), model, byte_tokenizer(), TEXT)
    assert list(quality.columns) == ["layer", "logit_lens", "jacobian_lens"]
    np.testing.assert_allclose(quality["jacobian_lens"], read.statistics["kl"][:-1].mean(1), rtol=1e-4)


def test_answers_are_read_through_it() -> None:
    model, fitted = model_of("llama"), drawn()
    items = [SkillItem("The fox", " runs", (" flies",))]
    reader = AnswerReader(model, byte_tokenizer(), items, JacobianLens(model, fitted))
    bare = AnswerReader(model, byte_tokenizer(), items)
    states = torch.randn((1, *reader.batch.input_ids.shape, 32), generator=torch.Generator().manual_seed(1))
    mapped = states @ fitted.matrices[1].T
    assert torch.allclose(reader.scores(states, 2), bare.scores(mapped, None), atol=1e-4)
    assert torch.equal(reader.scores(states, 0), bare.scores(states, None))


def test_a_lens_of_another_model_or_plan_is_refused_with_what_differs() -> None:
    model = model_of("llama")
    with pytest.raises(LensError, match="for 4 layers of width 16, but the model has 4 of width 32"):
        JacobianLens(model, Jacobians({0: torch.eye(16)}, 1, n_layers=4))
    with pytest.raises(LensError, match="for 6 layers of width 32, but the model has 4"):
        JacobianLens(model, drawn(n_layers=6))
    with pytest.raises(LensError, match="for at least 6 layers of width 32, but the model has 4"):
        JacobianLens(model, drawn(layers=(0, 4), n_layers=None, target=None))
    with pytest.raises(LensError, match=r"another model \(gpt2\): its unembedding has another hash"):
        JacobianLens(model, drawn(base_model="gpt2", unembed_hash=unembed_hash(model_of("gpt2"))))
    anew = drawn(plan="0,2-3", n_layers=3, layers=(0, 1))
    with pytest.raises(LensError, match="fitted on the plan 0,2-3 and reads that one only, but the plan is 0-3"):
        JacobianLens(model, anew)
    JacobianLens(operate(model, "0,2,3"), anew)
    JacobianLens(operate(model, "0,2,3"), replace(drawn(), unembed_hash=unembed_hash(model)))
