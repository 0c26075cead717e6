"""Layers with and without their adapters, against peft, the plain base, and models merged by hand."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import surgery_core as sc
from surgery_core.errors import RefusedPlanError
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Layer, Slot
from surgery_core.surgery.adapters import adapter_paths
from tests.core.support import zoo
from tests.core.support.adapters import base_model, logits, merged_by_hand, peft_model, save_adapter
from tests.core.support.families import FAMILIES, build

N = 4
NONE = f"(0-{N - 1}).bare"
SETTINGS: dict[str, dict[str, Any]] = {
    "attention and MLP": {},
    "attention alone": {"target_modules": ["q_proj", "v_proj"]},
    "MLP alone": {"target_modules": ["up_proj", "down_proj"]},
    "rank and alpha patterns": {"rank_pattern": {"q_proj": 2, "down_proj": 6}, "alpha_pattern": {"v_proj": 16}},
    "some layers": {"layers_to_transform": [1, 3]},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "a bias of its own": {"lora_bias": True},
    "a head and embeddings": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "norms": {"modules_to_save": ["norm", "input_layernorm"]},
    "the head": {"target_modules": ["q_proj", "lm_head"]},
    "the embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "whole MLPs": {"target_modules": ["q_proj"], "modules_to_save": ["mlp"]},
    "every linear": {"target_modules": "all-linear"},
    "a pattern of names": {"target_modules": r".*\.layers\.[02]\..*_proj"},
}


@pytest.fixture(scope="module")
def open_with(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[LoadedModel, Path]]:
    """Return the function that makes an adapter on the tiny Llama, and opens it."""
    known: dict[str, tuple[LoadedModel, Path]] = {}

    def opened(case: str = "attention and MLP") -> tuple[LoadedModel, Path]:
        if case not in known:
            folder = save_adapter(tiny_folder, tmp_path_factory.mktemp("adapter") / "tuned", **SETTINGS[case])
            known[case] = load_model(str(folder)), folder
        return known[case]

    return opened


Open = Callable[..., tuple[LoadedModel, Path]]


@pytest.mark.parametrize("case", SETTINGS)
def test_with_every_layers_adapter_it_is_pefts_model_and_with_none_the_base_to_the_bit(
    case: str, open_with: Open, tiny_folder: Path
) -> None:
    loaded, folder = open_with(case)
    on, off = logits(peft_model(tiny_folder, folder)), logits(base_model(tiny_folder))
    assert not torch.allclose(on, off, atol=1e-2), "the adapter must do something"
    assert torch.equal(logits(loaded.model), on)
    assert torch.equal(logits(sc.operate(loaded.model, f"0-{N - 1}")), on)
    assert torch.equal(logits(sc.operate(loaded.model, NONE)), off)
    with sc.ModelSurgery(loaded.model).apply(NONE) as model:
        assert torch.equal(logits(model), off)
    assert torch.equal(logits(loaded.model), on)


@pytest.mark.parametrize("case", ["attention and MLP", "rank and alpha patterns", "rsLoRA", "some layers"])
@pytest.mark.parametrize("kept", [(0, 2), (1, 3), (3,)])
def test_with_some_layers_adapters_it_is_the_model_merged_by_hand(
    case: str, kept: tuple[int, ...], open_with: Open, tiny_folder: Path
) -> None:
    loaded, folder = open_with(case)
    plan = LayerPlan.identity(N).switch_adapter([at for at in range(N) if at not in kept], on=False)
    if case == "rank and alpha patterns":
        # alpha is 8, or 16 for v_proj; ranks are 2, 6 and 4, so v_proj's pairs cannot be told by rank from others'
        plan_by_hand = _merged_with_patterns(tiny_folder, folder, kept)
    else:
        scale = (lambda rank: 8 / math.sqrt(rank)) if case == "rsLoRA" else (lambda rank: 8 / rank)
        plan_by_hand = merged_by_hand(tiny_folder, folder, kept, scale)
    expected = logits(plan_by_hand)
    torch.testing.assert_close(logits(sc.operate(loaded.model, plan)), expected, rtol=1e-4, atol=1e-4)
    with sc.ModelSurgery(loaded.model).apply(plan) as model:
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)


def _merged_with_patterns(base: Path, folder: Path, kept: tuple[int, ...]) -> Any:
    from safetensors.torch import load_file

    model, tensors = base_model(base), load_file(folder / "adapter_model.safetensors")
    alpha, rank = {"v_proj": 16}, {"q_proj": 2, "down_proj": 6}
    with torch.no_grad():
        for layer in kept:
            for name, module in model.model.layers[layer].named_modules():
                key = f"base_model.model.model.layers.{layer}.{name}.lora_A.weight"
                if key in tensors:
                    last = name.rpartition(".")[2]
                    assert len(tensors[key]) == rank.get(last, 4)
                    scale = alpha.get(last, 8) / rank.get(last, 4)
                    module.weight += scale * tensors[key.replace("lora_A", "lora_B")] @ tensors[key]
    return model


def test_a_base_in_bfloat16_keeps_its_bits(open_with: Open, tiny_folder: Path) -> None:
    _, folder = open_with()
    half = load_model(str(folder), dtype="bfloat16")
    assert half.info.dtype == "bfloat16"
    assert torch.equal(logits(half.model), logits(peft_model(tiny_folder, folder, torch.bfloat16)))
    assert torch.equal(logits(sc.operate(half.model, NONE)), logits(base_model(tiny_folder, torch.bfloat16)))


def test_a_view_shares_every_weight_and_writes_none(open_with: Open) -> None:
    loaded, _ = open_with("a head and embeddings")
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    known = {id(tensor) for tensor in loaded.model.parameters()}
    for plan in ("0x3,1.bare,2-3", NONE, "(0|1.bare),2.bare.mlp*0.5"):
        view = sc.operate(loaded.model, plan)
        logits(view)
        assert {id(tensor) for tensor in view.parameters()} <= known
    after = loaded.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not any(tensor.requires_grad for tensor in loaded.model.parameters())


def by_calls(model: Any, base: Any, plan: LayerPlan) -> torch.Tensor:
    """Return the logits of a plan of a Llama with plain torch: layers called one after the other, halves by hand."""
    ids = torch.arange(20)[None] * 7 % 250
    with torch.inference_mode():
        around = base if all(not layer.adapter for slot in plan for layer in slot.layers) else model
        hidden = around.model.embed_tokens(ids)
        angles = around.model.rotary_emb(hidden, torch.arange(20)[None])
        mask = torch.full((20, 20), -torch.inf).triu(1)[None, None]
        for slot in plan:
            changes = [_added(model if one.adapter else base, one, hidden, mask, angles) for one in slot.layers]
            hidden = hidden + sum(changes) / len(changes)
        return around.lm_head(around.model.norm(hidden))  # type: ignore[no-any-return]


def _added(model: Any, spec: Layer, hidden: torch.Tensor, mask: torch.Tensor, angles: Any) -> torch.Tensor:
    layer, entering = model.model.layers[spec.index], hidden
    if spec.part != "mlp":
        normed = layer.input_layernorm(hidden)
        hidden = hidden + layer.self_attn(normed, attention_mask=mask, position_embeddings=angles)[0]
    if spec.part != "attn":
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return spec.scale * (hidden - entering)


specs = st.builds(
    Layer,
    index=st.integers(0, N - 1),
    part=st.sampled_from(["both", "both", "attn", "mlp"]),
    scale=st.sampled_from([1.0, 1.0, 0.5, -0.25]),
    adapter=st.booleans(),
)
plans = st.lists(st.lists(specs, min_size=1, max_size=2), min_size=1, max_size=6).map(
    lambda found: LayerPlan(tuple(Slot(tuple(group)) for group in found), N)
)


@pytest.mark.parametrize("case", ["attention and MLP", "a head and embeddings", "some layers", "whole MLPs"])
def test_any_plan_is_what_peft_and_the_base_give_when_their_layers_are_called(
    case: str, open_with: Open, tiny_folder: Path
) -> None:
    loaded, folder = open_with(case)
    adapted, base = peft_model(tiny_folder, folder).get_base_model(), base_model(tiny_folder)

    @given(plans)
    @settings(max_examples=40)
    def check(plan: LayerPlan) -> None:
        expected = by_calls(adapted, base, plan)
        torch.testing.assert_close(logits(sc.operate(loaded.model, plan)), expected, rtol=1e-3, atol=1e-3)
        with sc.ModelSurgery(loaded.model).apply(str(plan)) as model:
            torch.testing.assert_close(logits(model), expected, rtol=1e-3, atol=1e-3)

    check()
    assert torch.equal(logits(loaded.model), logits(adapted))


def test_hooks_of_a_person_stay_on_what_an_adapter_was_put_around(open_with: Open) -> None:
    loaded, _ = open_with("the head")
    seen: list[str] = []
    modules = {"layer": loaded.model.model.layers[1], "query": loaded.model.model.layers[1].self_attn.q_proj}
    modules["head"] = loaded.model.lm_head
    handles = [
        module.register_forward_hook(lambda module, args, output, name=name: seen.append(name))
        for name, module in modules.items()
    ]
    with sc.ModelSurgery(loaded.model).apply(NONE) as model:
        logits(model)
    assert sorted(seen) == ["head", "layer", "query"]
    logits(sc.operate(loaded.model, NONE))
    assert len(seen) == 3, "a view has no hooks"
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("case", ["the head", "a head and embeddings", "whole MLPs"])
def test_surgery_in_place_puts_the_same_objects_back(case: str, open_with: Open) -> None:
    loaded, _ = open_with(case)
    before = {path: id(module) for path, module in loaded.model.named_modules()}
    for plan in (NONE, "0,1.bare,3", "2.barex2"):
        with sc.ModelSurgery(loaded.model).apply(plan) as model:
            assert {path: id(module) for path, module in model.named_modules()} != before
            logits(model)
        assert {path: id(module) for path, module in loaded.model.named_modules()} == before
    with pytest.raises(ZeroDivisionError), sc.ModelSurgery(loaded.model).apply(NONE):
        _ = 1 / 0
    assert {path: id(module) for path, module in loaded.model.named_modules()} == before


def test_what_stands_around_the_layers_is_left_out_only_with_every_layers_adapter(
    open_with: Open, tiny_folder: Path
) -> None:
    loaded, _ = open_with("a head and embeddings")
    for plan, expected in (("0-2,3.bare", True), (NONE, False), ("3.bare,1.bare", False), ("", True)):
        view = sc.operate(loaded.model, plan)
        assert (adapter_paths(view)[:1] == ["model.embed_tokens"]) is expected, plan
        assert ("lm_head" in adapter_paths(view)) is expected, plan


def test_anatomy_sees_through_adapters(open_with: Open, tiny_folder: Path) -> None:
    loaded, folder = open_with("a head and embeddings")
    found, plain = sc.inspect_model(loaded.model), sc.inspect_model(base_model(tiny_folder))
    for name in ("layers_path", "final_norm_path", "attention_path", "mlp_path", "n_layers", "d_model", "vocab_size"):
        assert getattr(found, name) == getattr(plain, name)
    wrapped = sc.inspect_model(peft_model(tiny_folder, folder))
    assert wrapped.layers_path == "base_model.model.model.layers"
    assert (wrapped.n_layers, wrapped.d_model) == (N, plain.d_model)


def test_a_peft_model_of_a_persons_own_is_operated_through_its_wrapper(open_with: Open, tiny_folder: Path) -> None:
    _, folder = open_with()
    mine = peft_model(tiny_folder, folder)
    on, off = logits(mine), logits(base_model(tiny_folder))
    view = sc.operate(mine, "0,2-3")
    expected = logits(sc.operate(peft_model(tiny_folder, folder).get_base_model(), "0,2-3"))
    assert torch.equal(logits(view), expected)
    assert torch.equal(logits(sc.operate(mine, NONE)), off)
    with sc.ModelSurgery(mine).apply(NONE) as model:
        assert torch.equal(logits(model), off)
    assert torch.equal(logits(mine), on)
    ids = torch.arange(6)[None]
    written = sc.operate(mine, NONE).generate(input_ids=ids, max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert torch.equal(
        written, base_model(tiny_folder).generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0)
    )


def adapted_everywhere(model: Any, rank: int) -> Any:
    """Return the model with an adapter that does something around every linear layer, in peft's modules."""
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM")).eval()
    for name, tensor in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(tensor, std=0.1)
    return adapted.get_base_model()


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_are_their_base_to_the_bit(family: str) -> None:
    base, inner = build(family).eval(), adapted_everywhere(build(family), rank=4)
    n_layers = sc.inspect_model(inner).n_layers
    assert not torch.allclose(logits(inner), logits(base), atol=1e-3)
    assert torch.equal(logits(sc.operate(inner, f"(0-{n_layers - 1}).bare")), logits(base))
    assert torch.equal(logits(sc.operate(inner, f"0-{n_layers - 1}")), logits(inner))
    for plan in ("0.bare,1,3.bare", "1.bare.mlp,0.bare.attn,2"):
        assert sc.prove(inner, None, plan).passed


def test_adapters_around_one_another_are_all_left_out_and_all_proved() -> None:
    base, inner = zoo.build("mixtral"), adapted_everywhere(zoo.build("mixtral"), rank=2)
    experts = inner.get_submodule(f"{sc.inspect_model(inner).layers_path}.0.mlp.experts")
    assert adapter_paths(experts), "one adapter a weight, one around the other"
    assert torch.equal(logits(sc.operate(inner, f"(0-{zoo.N_LAYERS - 1}).bare")), logits(base))
    assert sc.prove(inner, None, "0,1.bare,3.bare").passed


def test_a_model_without_an_adapter_has_none_to_leave_out(tiny_llama: Any) -> None:
    with pytest.raises(
        RefusedPlanError, match=r"0\.bare asks for a layer without its adapter.*has none; leave"
    ) as caught:
        sc.operate(tiny_llama, "0.bare,1-3")
    assert str(caught.value.nearest) == "0-3"
    with (
        pytest.raises(RefusedPlanError, match="this model has none"),
        sc.ModelSurgery(tiny_llama).apply("0-2,3.bare"),
    ):
        pass


def test_a_mean_is_that_of_a_layer_with_its_adapter(open_with: Open) -> None:
    loaded, _ = open_with()
    means = sc.mean_contributions(loaded.model, loaded.tokenizer, "Once upon a time there was a snail.")
    sc.operate(loaded.model, "0-2,mean(3)", means=means)
    with pytest.raises(RefusedPlanError, match=r"mean\(3\)\.bare is not supported"):
        sc.operate(loaded.model, "0-2,mean(3).bare", means=means)


def test_a_donors_layer_runs_with_and_without_the_donors_adapter(open_with: Open, tiny_folder: Path) -> None:
    loaded, folder = open_with()
    base, donors = base_model(tiny_folder), {"tuned": loaded.model}
    assert torch.equal(logits(sc.operate(base, "0-2,tuned:3.bare", donors=donors)), logits(base))
    expected = logits(merged_by_hand(tiny_folder, folder, [3], lambda rank: 8 / rank))
    torch.testing.assert_close(logits(sc.operate(base, "0-2,tuned:3", donors=donors)), expected, rtol=1e-4, atol=1e-4)


def test_a_donor_without_an_adapter_has_none_to_leave_out(tiny_llama: Any) -> None:
    with pytest.raises(RefusedPlanError, match=r"other:3\.bare asks .* and other has none; leave"):
        sc.operate(tiny_llama, "0-2,other:3.bare", donors={"other": tiny_llama})


def test_cached_generation_without_some_adapters_is_that_of_the_merged_model(
    open_with: Open, tiny_folder: Path
) -> None:
    loaded, folder = open_with()
    view = sc.operate(loaded.model, "0,1.bare,2,3.bare")
    merged = merged_by_hand(tiny_folder, folder, [0, 2], lambda rank: 8 / rank)
    ids = torch.arange(8)[None] * 11
    settings = {"max_new_tokens": 16, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(view.generate(ids, **settings), merged.generate(ids, **settings))
