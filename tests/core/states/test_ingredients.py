"""Slots that take layers from another model, or put a layer's mean in its place."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from transformers import models as hf

from surgery_core.errors import PlanError, RefusedPlanError
from surgery_core.proof.preflight import prove
from surgery_core.states.means import mean_contributions
from surgery_core.surgery.in_place import ModelSurgery
from surgery_core.surgery.ingredients import Means
from surgery_core.surgery.view import operate
from surgery_core.text import Text
from tests.core.lenses.test_lens import hooked
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import FAMILIES, build, configs, from_config, greedy, left_padded, tokens

model_of = cache(build)
TEXTS = (Text("One", "The fox said: oh"), Text("Two", "and the wolf ran away"))


@cache
def donor_of(family: str) -> Any:
    return from_config(configs()[family], seed=9)


def weights_from(family: str, taken: dict[int, int]) -> Any:
    """Return a copy of the base whose layers `taken` (position to donor's layer) hold the donor's weights."""
    built = build(family)
    state, other = built.state_dict(), donor_of(family).state_dict()
    prefix = ModelSurgery(built).get_transformer_layers()[0]
    for position, index in taken.items():
        for name in other:
            if name.startswith(f"{prefix}.{index}."):
                state[name.replace(f"{prefix}.{index}.", f"{prefix}.{position}.", 1)].copy_(other[name])
    return built


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "gpt2"])
def test_donated_layers_equal_a_model_with_their_weights(family: str) -> None:
    taken = {1: 3, 2: 2} if family in ("gemma2", "gemma3") else {1: 0, 2: 2}
    view = operate(model_of(family), f"0,other:{taken[1]},other:2,3", donors={"other": donor_of(family)})
    expected = weights_from(family, taken)
    torch.testing.assert_close(view(tokens()).logits, expected(tokens()).logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(greedy(view, left_padded()), greedy(expected, left_padded(), use_cache=False))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("notation", ["0,other:3,1,other:0*0.5", "(1|other:2),3", "other:1.mlp,0"])
def test_donated_plans_are_proved(family: str, notation: str) -> None:
    assert prove(model_of(family), None, notation, donors={"other": donor_of(family)}).passed


def test_a_donor_may_have_other_heads_and_another_mlp_width() -> None:
    values = {**configs()["llama"].to_dict(), "num_attention_heads": 2, "head_dim": 16, "intermediate_size": 80}
    donor = from_config(hf.llama.LlamaConfig.from_dict(values), seed=4)
    assert prove(model_of("llama"), None, "0,other:1,2-3", donors={"other": donor}).passed
    view = operate(model_of("llama"), "other:0,1", donors={"other": donor})
    assert torch.equal(greedy(view, left_padded()), greedy(view, left_padded(), use_cache=False))


def test_what_a_donor_cannot_be() -> None:
    base = model_of("llama")
    with pytest.raises(PlanError, match="No other model is loaded as 'other'; loaded: none"):
        operate(base, "other:0")
    with pytest.raises(PlanError, match="other has no layer 7; allowed: 0 to 3"):
        operate(base, "other:7", donors={"other": donor_of("llama")})
    wide = from_config(
        hf.llama.LlamaConfig.from_dict({**configs()["llama"].to_dict(), "hidden_size": 48, "head_dim": 12})
    )
    with pytest.raises(PlanError, match="other is 48 wide and this model 32"):
        operate(base, "other:0", donors={"other": wide})
    with pytest.raises(RefusedPlanError, match="GPT2Block of other is called in another way"):
        operate(base, "other:0", donors={"other": model_of("gpt2")})


@pytest.mark.parametrize("family", FAMILIES)
def test_means_are_those_of_the_hooked_states(family: str) -> None:
    model, tokenizer = model_of(family), byte_tokenizer()
    means = mean_contributions(model, tokenizer, TEXTS)
    streams = [hooked(model, torch.tensor([tokenizer(text.text)["input_ids"]])) for text in TEXTS]
    for index in range(4):
        changes = torch.cat([stream[index + 1] - stream[index] for stream in streams])
        torch.testing.assert_close(means.vectors[index], changes.mean(0), atol=1e-4, rtol=1e-4)
    assert means.n_tokens == sum(len(text.text) for text in TEXTS)
    assert means.note == f"Means over {means.n_tokens} tokens of: One, Two."


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("notation", ["mean(0),1-3", "0,mean(1)*0.5,2,3", "mean(0-1),2,(mean(3)|1)", "0-2,mean(3)"])
def test_plans_with_means_are_proved(family: str, notation: str) -> None:
    """The first layers' cache entries stay empty, which must not shorten the past."""
    means = mean_contributions(model_of(family), byte_tokenizer(), TEXTS)
    assert prove(model_of(family), None, notation, means=means).passed


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mean_of_zero_deletes_the_layer(family: str) -> None:
    means = Means(torch.zeros(4, 32), ("nothing",), 1)
    ids = tokens(2, 4)
    view, deleted = operate(model_of(family), "0,mean(1),2,3", means=means), operate(model_of(family), "0,2,3")
    torch.testing.assert_close(view(ids).logits, deleted(ids).logits, atol=1e-5, rtol=1e-5)


def test_means_that_are_missing_or_of_a_half() -> None:
    with pytest.raises(PlanError, match=r"mean\(1\) needs the layers' mean contributions"):
        operate(model_of("llama"), "mean(1)")
    with pytest.raises(RefusedPlanError, match="a mean is that of a whole layer"):
        operate(model_of("llama"), "mean(1).attn", means=Means(torch.zeros(4, 32), ("x",), 1))


def test_in_place_surgery_says_what_to_use_instead() -> None:
    for notation in ("mean(1)", "other:1"):
        with (
            pytest.raises(RefusedPlanError, match="make a view with operate"),
            ModelSurgery(build("llama")).apply(notation),
        ):
            pass
