"""Views against independently built models: logits, cached generation, left-padded batches, isolation."""

from __future__ import annotations

import copy
import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers import models as hf

from surgery_core.errors import PlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Slot
from surgery_core.surgery.anatomy import find_layers, plan_of
from surgery_core.surgery.view import operate
from tests.core.support.families import (
    FAMILIES,
    N_LAYERS,
    build,
    from_config,
    greedy,
    left_padded,
    read_until,
    reference,
    tokens,
)

model_of = cache(build)

ORDERS = {
    "identity": (0, 1, 2, 3),
    "delete middle": (0, 1, 3),
    "delete first": (1, 2, 3),
    "delete last": (0, 1, 2),
    "swap": (0, 2, 1, 3),
    "reverse": (3, 2, 1, 0),
    "repeat": (0, 1, 1, 1, 2, 3),
    "only one": (2,),
}


def plan_for(order: tuple[int, ...]) -> LayerPlan:
    return LayerPlan(tuple(Slot.of(index) for index in order), N_LAYERS)


def fingerprint(model: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("surgery", ORDERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_view_equals_independently_built_model(family: str, surgery: str) -> None:
    base, order = model_of(family), ORDERS[surgery]
    view, expected = operate(base, plan_for(order)), reference(base, order)
    ids, batch = tokens(2, 11), left_padded()
    torch.testing.assert_close(view(ids).logits, expected(ids).logits, atol=1e-5, rtol=1e-5)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(view(**batch).logits[real], expected(**batch).logits[real], atol=1e-5, rtol=1e-5)
    single = {"input_ids": ids[:1], "attention_mask": torch.ones_like(ids[:1])}
    for inputs in (single, batch):
        uncached = greedy(expected, inputs, use_cache=False)
        assert torch.equal(greedy(view, inputs), uncached)
        assert torch.equal(greedy(view, inputs, use_cache=False), uncached)


@pytest.mark.parametrize("family", FAMILIES)
def test_manual_decoding_with_a_cache_equals_one_pass(family: str) -> None:
    """A hand-written decode loop asks the cache for its length, which generate() does not always do."""
    view = operate(model_of(family), plan_for((1, 2, 3, 3)))
    ids = tokens(1, 10)
    whole = view(ids).logits
    output = view(ids[:, :6], use_cache=True)
    steps = [output.logits]
    for position in range(6, 10):
        output = view(ids[:, position : position + 1], use_cache=True, **read_until(output))
        steps.append(output.logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_layers_is_embeddings_to_head(family: str) -> None:
    base = model_of(family)
    view = operate(base, "")
    ids = tokens(1, 7)
    expected = reference(base, ())
    torch.testing.assert_close(view(ids).logits, expected(ids, use_cache=False).logits, atol=1e-5, rtol=1e-5)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    uncached = greedy(expected, inputs, use_cache=False)
    assert torch.equal(greedy(view, inputs), uncached)
    assert torch.equal(greedy(view, left_padded()), greedy(expected, left_padded(), use_cache=False))


SDPA = [family for family in FAMILIES if family not in ("bloom", "gemma2")]
"""BLOOM's alibi and Gemma 2's soft-capped attention have no sdpa kernel in transformers."""


@pytest.mark.parametrize("family", SDPA)
def test_sdpa_views_equal_eager_references(family: str) -> None:
    base = copy.deepcopy(model_of(family))
    base.set_attn_implementation("sdpa")
    expected = reference(model_of(family), (0, 2, 2, 3))
    view = operate(base, "0,2x2,3")
    assert view.config._attn_implementation == "sdpa"
    torch.testing.assert_close(view(tokens()).logits, expected(tokens()).logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(greedy(view, left_padded()), greedy(expected, left_padded(), use_cache=False))


@pytest.mark.parametrize("family", FAMILIES)
def test_view_shares_every_tensor_and_leaves_the_base_alone(family: str) -> None:
    base = model_of(family)
    before, config, hooks = fingerprint(base), base.config.to_dict(), [len(m._forward_hooks) for m in base.modules()]
    view = operate(base, "3,1x2,0")
    owned = {t.data_ptr() for t in base.state_dict(keep_vars=True).values()}
    assert {t.data_ptr() for t in view.state_dict(keep_vars=True).values()} <= owned
    assert not {id(m) for m in base.modules()} & {id(m) for m in view.modules()}
    assert not {id(m.config) for m in base.modules() if hasattr(m, "config")} & {
        id(m.config) for m in view.modules() if hasattr(m, "config")
    }
    view(tokens(), output_hidden_states=True, output_attentions=True)
    greedy(view, left_padded())
    assert fingerprint(base) == before
    assert base.config.to_dict() == config
    assert [len(m._forward_hooks) for m in base.modules()] == hooks


@pytest.mark.parametrize("family", FAMILIES)
def test_every_module_of_a_view_holds_the_views_config(family: str) -> None:
    view = operate(model_of(family), "0-2")
    configs = {id(m.config) for m in view.modules() if hasattr(m, "config")}
    assert configs == {id(view.config)}
    assert view.config.num_hidden_layers == 3
    assert view.generation_config is not model_of(family).generation_config


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_have_one_entry_a_slot(family: str) -> None:
    base = copy.deepcopy(model_of(family))
    base(tokens(), output_hidden_states=True)
    view = operate(base, "0,1x3,2")
    states = view(tokens(), output_hidden_states=True).hidden_states
    expected = reference(base, (0, 1, 1, 1, 2))(tokens(), output_hidden_states=True).hidden_states
    assert len(states) == 6
    for ours, theirs in zip(states, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def layer_inputs(model: Any, ids: torch.Tensor) -> dict[str, Any]:
    """Return the first layer's keyword arguments and hidden states, recorded with a plain hook."""
    seen: dict[str, Any] = {}

    def record(module: Any, args: Any, kwargs: Any) -> None:
        seen.setdefault("args", args)
        seen.setdefault("kwargs", kwargs)

    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == N_LAYERS)
    handle = layers[0].register_forward_pre_hook(record, with_kwargs=True)
    model(ids, use_cache=False)
    handle.remove()
    return {"layers": layers, **seen}


def first(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0]


def run_layer(layer: Any, seen: dict[str, Any], hidden: torch.Tensor) -> torch.Tensor:
    return first(layer(hidden, *seen["args"][1:], **seen["kwargs"]))


FULL_ATTENTION = [family for family in FAMILIES if family not in ("gemma2", "gemma3", "qwen2")]


@pytest.mark.parametrize("family", FULL_ATTENTION)
def test_scale_and_parallel_against_layers_run_by_hand(family: str) -> None:
    base, ids = model_of(family), tokens(1, 4)
    seen = layer_inputs(base, ids)
    h0 = seen["args"][0]
    scaled = h0 + 0.25 * (run_layer(seen["layers"][1], seen, h0) - h0)
    after = [run_layer(seen["layers"][index], seen, scaled) for index in (0, 2, 3)]
    expected = scaled + sum(state - scaled for state in after) / 3
    view = operate(base, "1*0.25,(0|2|3)")
    recorded = []
    find_layers(view)[1][-1].register_forward_hook(lambda module, args, output: recorded.append(first(output)))
    view(ids, use_cache=False)
    torch.testing.assert_close(recorded[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FULL_ATTENTION)
def test_damped_blocks_against_layers_run_by_hand(family: str) -> None:
    base, ids = model_of(family), tokens(1, 4)
    seen = layer_inputs(base, ids)
    state = seen["args"][0]
    for _ in range(2):
        after = state
        for index in (1, 2):
            after = run_layer(seen["layers"][index], seen, after)
        state = state + 0.25 * (after - state)
    view = operate(base, "[1-2]*0.25x2")
    recorded = []
    find_layers(view)[1][-1].register_forward_hook(lambda module, args, output: recorded.append(first(output)))
    view(ids, use_cache=False)
    torch.testing.assert_close(recorded[0], state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_that_is_taken_as_it_is_or_not_at_all(family: str) -> None:
    base = model_of(family)
    for factor, same in ((0.0, "0,3"), (1.0, "0-3"), (1 - 1e-7, "0-3")):
        damped = operate(base, f"0,[1-2]*{factor!r},3")
        torch.testing.assert_close(damped(tokens()).logits, operate(base, same)(tokens()).logits, atol=1e-5, rtol=1e-5)


def zero_half(model: Any, index: int, part: str) -> Any:
    """Return a copy of the model in which one half of a layer has its output projection set to zero."""
    edited = copy.deepcopy(model)
    outputs = {
        "attn": ("o_proj", "attn.c_proj", "attention.dense", "out_proj", "self_attention.dense", "self_attn.dense"),
        "mlp": ("down_proj", "mlp.c_proj", "mlp.dense_4h_to_h", "fc2"),
    }
    removed = "mlp" if part == "attn" else "attn"
    layers = next(m for m in edited.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == N_LAYERS)
    hits = [m for name, m in layers[index].named_modules() if name.endswith(outputs[removed])]
    assert len(hits) == 1
    for parameter in hits[0].parameters():
        parameter.zero_()
    return edited


@pytest.mark.parametrize("part", ["attn", "mlp"])
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_equal_a_model_with_that_projection_zeroed(family: str, part: str) -> None:
    base = model_of(family)
    view, expected = operate(base, f"0.{part},1,2.{part},3"), zero_half(zero_half(base, 0, part), 2, part)
    ids = tokens(2, 9)
    torch.testing.assert_close(view(ids).logits, expected(ids).logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(greedy(view, left_padded()), greedy(expected, left_padded(), use_cache=False))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("notation", ["(0|1|2),3", "3*0.5,(1.attn|2.mlp*2)x2", "0*0,1*-1,2-3", "0,[1,2.mlp]*0.5x2,3"])
def test_cached_equals_uncached_for_modified_slots(family: str, notation: str) -> None:
    view = operate(model_of(family), notation)
    for inputs in ({"input_ids": tokens(), "attention_mask": torch.ones_like(tokens())}, left_padded()):
        assert torch.equal(greedy(view, inputs), greedy(view, inputs, use_cache=False))


@settings(max_examples=40, deadline=None)
@given(order=st.lists(st.integers(0, N_LAYERS - 1), max_size=7), family=st.sampled_from(("llama", "gpt2", "gemma3")))
def test_any_order_equals_the_reference(order: list[int], family: str) -> None:
    base = model_of(family)
    view, expected = operate(base, plan_for(tuple(order))), reference(base, order)
    torch.testing.assert_close(view(tokens()).logits, expected(tokens(), use_cache=False).logits, atol=1e-5, rtol=1e-5)


def test_a_view_of_a_view_composes() -> None:
    base = model_of("llama")
    twice = operate(operate(base, "3-0"), "1-3")
    torch.testing.assert_close(
        twice(tokens()).logits, reference(base, (2, 1, 0))(tokens()).logits, atol=1e-5, rtol=1e-5
    )
    scaled = operate(operate(base, "0*0.5,1-3"), "3,0")
    torch.testing.assert_close(scaled(tokens()).logits, operate(base, "3,0*0.5")(tokens()).logits)


def test_views_in_many_threads_equal_views_alone() -> None:
    base = model_of("gemma3")
    before = fingerprint(base)
    generator = torch.Generator().manual_seed(5)
    plans = [plan_for(tuple(torch.randint(0, N_LAYERS, (n % 7,), generator=generator).tolist())) for n in range(200)]
    alone = [operate(base, plan)(tokens()).logits for plan in plans]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda plan: operate(base, plan)(tokens()).logits, plans))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert fingerprint(base) == before


def test_hooks_of_the_base_do_not_run_in_a_view_nor_the_other_way() -> None:
    base = copy.deepcopy(model_of("llama"))
    calls: list[str] = []
    base.model.layers[1].register_forward_hook(lambda *_: calls.append("base"))
    view = operate(base, "1,1")
    view.model.layers[1].register_forward_hook(lambda *_: calls.append("view"))
    view.model.layers[1].register_forward_hook(lambda *_: calls.append("first"), prepend=True)
    view(tokens())
    assert calls == ["first", "view"]
    base(tokens())
    assert calls == ["first", "view", "base"]


def test_references_between_modules_point_at_the_clones() -> None:
    base = copy.deepcopy(model_of("llama"))
    base.kept = [base.model.norm]
    base.bound = base.model.norm.forward
    base.named = {"norm": (base.model.norm, 3)}
    view = operate(base, "0-1")
    assert view.kept[0] is view.model.norm
    assert view.bound.__self__ is view.model.norm
    assert view.named["norm"] == (view.model.norm, 3)
    assert base.kept[0] is base.model.norm


def test_plan_of_another_depth_is_refused_with_both_numbers() -> None:
    with pytest.raises(PlanError, match=r"12 layers, but the model has 4"):
        operate(model_of("llama"), LayerPlan.identity(12))


def test_plan_of_a_view() -> None:
    assert str(plan_of(operate(model_of("llama"), "2,0"))) == "2,0"
    assert plan_of(model_of("llama")).is_identity


def test_short_lists_that_are_not_per_layer_stay() -> None:
    """A one-layer model has `architectures` and token id lists of length one, too."""
    config = LlamaConfig(
        num_hidden_layers=1,
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=2,
        vocab_size=32,
        eos_token_id=[7],
        architectures=["LlamaForCausalLM"],
    )
    view = operate(from_config(config), "0x3")
    assert view.config.eos_token_id == [7]
    assert view.config.architectures == ["LlamaForCausalLM"]
    assert view.config.num_hidden_layers == 3


def test_per_layer_lists_follow_the_layers() -> None:
    config = hf.gemma3.Gemma3TextConfig(num_hidden_layers=4, layer_types=["sliding_attention"] * 3 + ["full_attention"])
    base = model_of("gemma3")
    assert operate(base, "1,1,0").config.layer_types == ["full_attention", "full_attention", "sliding_attention"]
    assert base.config.layer_types == ["sliding_attention", "full_attention"] * 2
    assert config.layer_types[-1] == "full_attention"
