"""The parts of every causal LM class that can be built from a tiny config, checked by their effect.

Found are what makes logits of the last state, and of every layer the token mixer and the MLP. Without its mixer a
layer may not look at other tokens; without both, nothing of its matrices may matter.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch

from surgery_core.errors import SurgeryError
from surgery_core.lenses.reading import LogitLens
from surgery_core.states.residuals import residuals
from surgery_core.surgery.anatomy import find_layers, inspect_model
from surgery_core.surgery.layer_parts import halves_of
from tests.core.support import zoo
from tests.core.support.columns import Hooked, difference, entering, inputs
from tests.core.support.halves_by_hand import BESIDE, MIXER_ONLY, written_down

SAMPLE = (
    "bert", "dbrx", "falcon_h1", "gemma3n_text", "granitemoehybrid", "lfm2", "longcat_flash", "mamba", "mllama",
    "openai-gpt", "reformer", "roberta-prelayernorm", "xlnet", "xlstm", "zamba2",
)  # fmt: skip
"""One of each kind that is hard in its own way; all the others run with `pytest -m matrix`."""

NO_LAYERS = ("hrm_text", "xlm")
"""Types that have no one list of whole layers."""

NO_LENS = ("cpmant", "inkling2_text", "prophetnet")
"""Types without a state for each token behind their last layer, or with a tail that reads several layers."""

MLP_LOOKS_BACK = ("inkling2_text", "inkling_text", "rwkv")
"""Types whose MLP is shifted by a token, or followed by a convolution over tokens."""

model_of = cache(zoo.try_build)


@cache
def built(model_type: str) -> Any:
    model = model_of(model_type)
    if model is None or model_type in NO_LAYERS:
        pytest.skip("not built from a tiny config, or without layers; docs/support.md names it")
    return model


def check_head(model_type: str) -> None:
    """Norm and unembedding, or whatever else the model has behind its layers, make its logits of its last state."""
    model, ids = built(model_type), inputs(1, padded=False)["input_ids"]
    anatomy, real = inspect_model(model), torch.ones(1, 9, dtype=torch.bool)
    with torch.inference_mode():
        expected = model(ids, use_cache=False).logits
    if model_type in NO_LENS:
        with pytest.raises(SurgeryError, match="a lens cannot read"):
            LogitLens(model)
        return
    last = residuals(model, ids).states[-1:]
    assert not difference(LogitLens(model).logits(last), expected, real)
    with torch.inference_mode():
        try:
            plain = anatomy.unembed(last if anatomy.final_norm is None else anatomy.final_norm(last))  # type: ignore[misc]
            is_all = not difference(plain, expected, real)
        except RuntimeError:
            is_all = False
    assert is_all == (model_type not in MORE_BEHIND)


MORE_BEHIND: tuple[str, ...] = (
    "beam", "bert", "big_bird", "bigbird_pegasus", "camembert", "cohere", "cohere2", "cohere2_moe", "data2vec-text",
    "deepseek_v4", "electra", "ernie", "gemma2", "gemma3n_text", "hy_v4", "inkling_text", "megatron-bert", "minicpm3",
    "modernbert-decoder", "nanochat", "qwen4_exp", "recurrent_gemma", "reformer", "rembert", "roberta",
    "roberta-prelayernorm", "roc_bert", "roformer", "vaultgemma", "xlm-roberta", "xlm-roberta-xl", "xlstm", "xmod",
)  # fmt: skip
"""Types that do more behind their layers than a norm and a linear map: a scale, a soft cap, a block of layers."""


def check_halves(model_type: str) -> None:
    """Every layer's halves are those that are written down, and have the effect that halves have."""
    model = built(model_type)
    for index, layer in enumerate(find_layers(model)[1]):
        found, expected = halves_of(layer), written_down(layer)
        assert found.mixer is not None, index
        if model_type in MIXER_ONLY:
            assert not found.both, index
            continue
        assert expected is not None, f"the halves of layer {index} are not written down"
        assert all(any(f"{path}.".startswith(f"{p}.") for path in found.attention) for p in expected[0]), index
        assert all(any(f"{path}.".startswith(f"{p}.") for path in found.mlp) for p in expected[1]), index
    if model_type not in (*MIXER_ONLY, "cpmant", "prophetnet"):
        for index in range(len(find_layers(model)[1])):
            check_effect(model_type, index)


def check_effect(model_type: str, index: int) -> None:
    """Taking a half of a layer away changes what the layer makes, and in the way that it should."""
    call = called(built(model_type), index)
    if call is None:
        assert model_type == "mllama"
        return
    whole, without_mixer, without_mlp, neither = (silenced(model_type, index, *which) for which in WHICH)
    states = [out(layer, call) for layer in (whole, without_mixer, without_mlp, neither)]
    for left, right in ((0, 1), (0, 2), (1, 3), (2, 3)):
        assert not torch.allclose(states[left], states[right], atol=1e-4), (index, left, right)
    assert looks_at_others(whole, call)
    assert looks_at_others(without_mixer, call) == (model_type in MLP_LOOKS_BACK)
    assert looks_at_others(without_mlp, call)
    assert torch.equal(out(noisy(neither), call), states[3])
    if not states[3].any():
        assert (model_type, index) == ("inkling2_text", 0), "the residual is gone, which only the next layer gets there"
        return
    assert not looks_at_others(neither, call)


WHICH = ((), (0,), (1,), (0, 1))


def silenced(model_type: str, index: int, *halves: int) -> Any:
    """Return a copy of a layer without the given halves: 0 is the attention, 1 the MLP."""
    hooked = Hooked(built(model_type))
    found = halves_of(hooked.layers[index])
    for half in halves:
        for path in (found.attention, found.mlp)[half]:
            hooked.silence(index, path)
    return hooked.layers[index]


def called(model: Any, index: int) -> tuple[Any, dict[str, Any]] | None:
    """Return how a layer is called on a text; None where it does not run."""
    hooked, seen = Hooked(model), []
    hooked.layers[index].register_forward_pre_hook(
        lambda m, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
    )
    with torch.inference_mode():
        hooked.model(**inputs(1, padded=False), use_cache=False)
    return seen[0] if seen else None


def out(layer: Any, call: tuple[Any, dict[str, Any]], hidden: torch.Tensor | None = None) -> torch.Tensor:
    args, kwargs = list(call[0]), dict(call[1])
    if hidden is not None and args:
        args[0] = hidden
    elif hidden is not None:
        kwargs["hidden_states"] = hidden
    with torch.inference_mode():
        output = layer(*args, **kwargs)
    values = [output] if isinstance(output, torch.Tensor) else output
    alike = [value for value in values if isinstance(value, torch.Tensor) and value.shape == values[0].shape]
    return torch.cat(alike, dim=-1)


def looks_at_others(layer: Any, call: tuple[Any, dict[str, Any]]) -> bool:
    """Whether another state of the first token changes what a layer makes of the others."""
    hidden = entering(*call)
    axis = next(axis for axis, length in enumerate(hidden.shape) if length == 9)
    other = hidden.clone()
    other.select(axis, 0).copy_(hidden.select(axis, 0).roll(1, -1))
    before, after = (out(layer, call, state).movedim(axis, 0) for state in (hidden, other))
    assert not torch.equal(before[0], after[0]), "the first token's own state does not matter"
    return not torch.allclose(before[1:], after[1:], atol=1e-5)


def noisy(layer: Any) -> Any:
    """Return the layer with noise in all of its matrices, but those that are neither attention nor MLP."""
    torch.manual_seed(1)
    for name, parameter in layer.named_parameters():
        if parameter.dim() > 1 and not name.startswith(BESIDE) and "adapter" not in name:
            parameter.data = parameter.data + torch.randn_like(parameter)
    return layer


def check_every_layer_matters(model_type: str) -> None:
    model, batch = built(model_type), inputs(1, padded=False)
    with torch.inference_mode():
        expected = model(**batch, use_cache=False).logits
    for index in range(len(find_layers(model)[1])):
        changed = copy.deepcopy(model)
        noisy(find_layers(changed)[1][index])
        with torch.inference_mode():
            same = torch.allclose(changed(**batch, use_cache=False).logits, expected, atol=1e-5)
        assert same == (called(model, index) is None), index


@pytest.mark.parametrize("check", [check_head, check_halves, check_every_layer_matters])
@pytest.mark.parametrize("model_type", SAMPLE)
def test_parts_are_found_in_the_sample(model_type: str, check: Any) -> None:
    check(model_type)


@pytest.mark.matrix
@pytest.mark.parametrize("check", [check_head, check_halves, check_every_layer_matters])
@pytest.mark.parametrize("model_type", [t for t in zoo.model_types() if t not in SAMPLE])
def test_parts_are_found(model_type: str, check: Any) -> None:
    check(model_type)
