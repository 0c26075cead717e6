"""A token swapped for another where a Jacobian lens reads it, against the same done by hand with hooks of our own."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from surgery_core.errors import AnatomyError, LensError, SettingsError, TextError
from surgery_core.lenses.jacobian import JacobianLens
from surgery_core.lenses.reading import LogitLens, read_lens, token_text
from surgery_core.lenses.swapping import as_source, swap, swap_tokens
from surgery_core.measure.compare import compare
from surgery_core.models.opening import load_model
from surgery_core.states.shared_prompt import LEAST, SharedPrompt
from surgery_core.surgery.view import operate
from tests.core.lenses.test_jacobian_lens import drawn
from tests.core.lenses.test_lens import TEXT
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import N_LAYERS, build, greedy, tokens

model_of = cache(build)
SOURCE, TARGET = 7, 21


def by_hand(
    model: Any, ids: torch.Tensor, layer: int, matrix: torch.Tensor, strength: float, where: Any = None
) -> torch.Tensor:
    """Return the logits with the two coordinates of what leaves a layer exchanged, solved for by least squares."""
    plane = (model.get_output_embeddings().weight[[SOURCE, TARGET]].double() @ matrix.double()).T

    def exchanged(module: Any, args: Any, output: Any) -> Any:
        state = output if isinstance(output, torch.Tensor) else output[0]
        own = state.double()
        at = torch.linalg.lstsq(plane, own.reshape(-1, 32).T).solution.T.reshape(*own.shape[:-1], 2)
        moved = own + strength * (at.flip(-1) - at) @ plane.T
        if where is not None:
            keep = torch.ones(own.shape[1], dtype=torch.bool)
            keep[list(where)] = False
            moved[:, keep] = own[:, keep]
        return moved.to(state) if isinstance(output, torch.Tensor) else (moved.to(state), *output[1:])

    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) in (3, N_LAYERS))
    handle = layers[layer].register_forward_hook(exchanged)
    logits = model(ids, use_cache=False).logits
    handle.remove()
    return logits


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "bloom"])
@pytest.mark.parametrize("strength", [1.0, 0.5, -2.0])
def test_the_two_coordinates_change_places(family: str, strength: float) -> None:
    model, fitted, ids = model_of(family), drawn(), tokens()
    view = swap(model, JacobianLens(model, fitted), 1, SOURCE, TARGET, strength=strength)
    expected = by_hand(model, ids, 1, fitted.matrices[1], strength)
    torch.testing.assert_close(view(ids, use_cache=False).logits, expected, rtol=1e-4, atol=1e-4)
    assert (expected - model(ids, use_cache=False).logits).abs().max() > 0.01


def test_single_positions_are_swapped_and_the_shared_model_is_not() -> None:
    model, fitted, ids = build("llama"), drawn(), tokens()
    before = model(ids, use_cache=False).logits
    view = swap(model, JacobianLens(model, fitted), 2, SOURCE, TARGET, positions=[3, 5])
    expected = by_hand(model, ids, 2, fitted.matrices[2], 1.0, (3, 5))
    torch.testing.assert_close(view(ids, use_cache=False).logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(expected[:, :3], before[:, :3])
    assert torch.equal(model(ids, use_cache=False).logits, before)
    nothing = swap(model, JacobianLens(model, fitted), 2, SOURCE, TARGET, strength=0.0)
    torch.testing.assert_close(nothing(ids, use_cache=False).logits, before)


@pytest.mark.parametrize("positions", [None, [4]])
def test_text_is_written_the_same_with_the_cache_and_without(positions: Any) -> None:
    model = model_of("llama")
    view = swap(model, JacobianLens(model, drawn()), 1, SOURCE, TARGET, strength=3.0, positions=positions)
    inputs = {"input_ids": tokens(), "attention_mask": torch.ones_like(tokens())}
    cached, whole = (greedy(view, inputs, 8, use_cache=cache) for cache in (True, False))
    assert cached.tolist() == whole.tolist()
    assert cached.tolist() != greedy(model, inputs, 8).tolist()


def test_after_surgery_a_slot_takes_the_matrix_of_its_layer_or_position() -> None:
    view, fitted, ids = operate(model_of("llama"), "0,2,3"), drawn(), tokens()
    for follow, matrix in (("layer", fitted.matrices[2]), ("position", fitted.matrices[1])):
        swapped = swap(view, JacobianLens(view, fitted), 1, SOURCE, TARGET, follow=follow)  # type: ignore[arg-type]
        expected = by_hand(view, ids, 1, matrix, 1.0)
        torch.testing.assert_close(swapped(ids, use_cache=False).logits, expected, rtol=1e-4, atol=1e-4)


def test_what_measures_and_reads_sees_the_swap() -> None:
    """Its plan is the base's, so nothing may be taken over from the base's own run."""
    model = model_of("llama")
    view = swap(model, JacobianLens(model, drawn()), 1, SOURCE, TARGET, strength=3.0)
    ids = torch.tensor([byte_tokenizer()(TEXT)["input_ids"]])
    p, q = (one(ids, use_cache=False).logits[0, :-1].double().log_softmax(-1) for one in (model, view))
    kl = float((p.exp() * (p - q)).sum(-1).mean())
    assert kl > 0.01
    assert compare(model, view, byte_tokenizer(), TEXT).kl == pytest.approx(kl, rel=1e-3)
    read = read_lens(LogitLens(view), view, byte_tokenizer(), TEXT)
    assert read.top_ids[-1, :, 0].tolist() == view(ids, use_cache=False).logits[0].argmax(-1).tolist()
    prompt = [3] * LEAST
    assert SharedPrompt(model).reader(view, prompt) is view


def test_words_are_tokens_and_take_the_space_of_the_one_they_replace() -> None:
    """In fable's vocabulary " wolf" is a token and "wolf" is none; "the" is one with its space and without."""
    tokenizer = load_model("fable").tokenizer
    ids = {
        text: tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (" fox", " wolf", "wolf", " the", "the")
    }
    assert [len(ids[text]) for text in ids] == [1, 1, 2, 1, 1]
    assert swap_tokens(tokenizer, " fox", "wolf") == (ids[" fox"][0], ids[" wolf"][0])
    for source, typed, text in (
        (" fox", "wolf", " wolf"),
        (" fox", "the", " the"),
        ("the", "wolf", " wolf"),
        ("a", "the", "the"),
    ):
        assert as_source(tokenizer, source, typed) == text
    with pytest.raises(SettingsError, match="' wolf' and 'wolf' are the same token; choose another one"):
        swap_tokens(tokenizer, " wolf", "wolf")
    with pytest.raises(TextError, match="'foxes ran' is not one token here"):
        swap_tokens(tokenizer, " fox", "foxes ran")
    with pytest.raises(TextError, match="is not one token here"):
        as_source(tokenizer, " fox", "wolverines")


def test_a_tokens_text_leads_back_to_it_or_there_is_none() -> None:
    tokenizer = load_model("fable").tokenizer
    found = {index: token_text(tokenizer, index) for index in range(len(tokenizer))}
    for index, text in found.items():
        if text is not None:
            assert tokenizer(text, add_special_tokens=False)["input_ids"] in (
                [index],
                tokenizer(f" {text}", add_special_tokens=False)["input_ids"],
            )
    assert found[tokenizer(" fox", add_special_tokens=False)["input_ids"][0]] == " fox"
    assert sum(text is not None for text in found.values()) > 0.9 * len(found)
    assert any(text is None for text in found.values())


def test_what_cannot_be_swapped_is_refused() -> None:
    model = model_of("llama")
    lens = JacobianLens(model, drawn())
    for settings, said in (
        ({"slot": 4}, "There is no slot 4; they are 0 to 3"),
        ({"source": 96}, "There is no token 96; they are 0 to 95"),
        ({"target": SOURCE}, "Token 7 cannot be swapped for itself"),
        ({"strength": 11.0}, "The strength is 11.0; it must be from -10 to 10"),
        ({"positions": [-1]}, r"The positions \[-1\] cannot be swapped"),
        ({"positions": []}, r"The positions \[\] cannot be swapped"),
    ):
        with pytest.raises(SettingsError, match=said):
            swap(model, lens, **({"slot": 1, "source": SOURCE, "target": TARGET} | settings))  # type: ignore[arg-type]
    with pytest.raises(LensError, match="no matrix for what leaves slot 3"):
        swap(model, lens, 3, SOURCE, TARGET)
    bloom = model_of("bloom")
    view = swap(bloom, JacobianLens(bloom, drawn()), 1, SOURCE, TARGET, positions=[2])
    with pytest.raises(AnatomyError, match="does not tell its layers which positions"):
        view(tokens())
