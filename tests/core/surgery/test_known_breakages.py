"""What is known to go wrong when the layers of a transformers model are rearranged, one test a fact."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from surgery_core.errors import RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.export import unshare_layers
from surgery_core.proof.layer_by_layer import ByHand
from surgery_core.surgery.anatomy import find_layers, text_config
from surgery_core.surgery.clone import HOOK_DICTS
from surgery_core.surgery.names import INDEX_NAMES
from surgery_core.surgery.view import operate
from tests.core.support import zoo
from tests.core.support.families import build, greedy, left_padded, reference, tokens


def indices(layer: nn.Module) -> set[int]:
    return {value for m in layer.modules() for name in INDEX_NAMES if type(value := m.__dict__.get(name)) is int}


def plain_way(model: Any, order: Sequence[int]) -> Any:
    """Return a copy with its layers rearranged as other tools do: a new module list, and nothing else."""
    operated = copy.deepcopy(model)
    owner = operated.model
    owner.layers = nn.ModuleList(copy.deepcopy(owner.layers[index]) for index in order)
    return operated


def layers_run(model: Any, layers: Any) -> int:
    ran = []
    for layer in layers:
        layer.register_forward_hook(lambda module, args, output: ran.append(module))
    model(tokens())
    return len(ran)


# Module shells


def test_a_layer_used_twice_is_two_objects_around_the_same_tensors() -> None:
    view = operate(build("llama"), "1,1")
    first, second = view.model.layers
    assert not {id(m) for m in first.modules()} & {id(m) for m in second.modules()}
    assert all(a is b for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_shell_shares_no_dictionary_with_the_original() -> None:
    base = build("llama")
    for original, clone in zip(base.modules(), operate(base, "0-3").modules(), strict=True):
        assert original.__dict__ is not clone.__dict__
        for name in ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks"):
            assert original.__dict__[name] is not clone.__dict__[name]


def test_every_dictionary_of_hooks_that_torch_gives_a_module_is_known() -> None:
    """One that is not would be copied with its hooks, which then run in views."""
    found = {name for name, value in vars(nn.Module()).items() if "hook" in name and isinstance(value, dict)}
    assert found == set(HOOK_DICTS)


def test_partials_bound_methods_and_lists_kept_elsewhere_point_at_the_clones() -> None:
    base = build("llama")
    base.partial = functools.partial(base.model.norm.forward)
    base.model.blocks = base.model.layers
    base.method = base.model.layers[2].mlp.forward
    view = operate(base, "0,2")
    assert view.partial.func.__self__ is view.model.norm
    assert view.model.blocks is view.model.layers
    assert all(m.config is view.config for m in view.modules() if hasattr(m, "config"))
    assert view.method.__self__ not in set(base.modules())


# Indices


@pytest.mark.parametrize("model_type", ["llama", "jamba", "qwen3_next", "recurrent_gemma", "falcon_h1", "gpt_neo"])
def test_every_index_in_a_layer_follows_its_slot_also_in_linear_mixers(model_type: str) -> None:
    view = operate(zoo.build(model_type), "3,1-2,1")
    for slot, layer in enumerate(find_layers(view)[1]):
        assert indices(layer) <= {slot}


def test_layers_with_two_caches_keep_two_cache_positions() -> None:
    view = operate(zoo.build("longcat_flash"), "2,0")
    caches = [sorted(index for half in layer.self_attn for index in indices(half)) for layer in find_layers(view)[1]]
    assert caches == [[0, 1], [2, 3]]


def test_a_scale_by_depth_belongs_to_the_layer_and_not_to_its_place() -> None:
    base = build("gpt2")
    view = operate(base, "3,0")
    scalings = [layer.attn.scaling for layer in base.transformer.h]
    assert len(set(scalings)) == 4
    assert [layer.attn.scaling for layer in view.transformer.h] == [scalings[3], scalings[0]]


def test_a_table_by_layer_in_a_shared_block_keeps_the_layers_entry() -> None:
    base = zoo.build("zamba2")
    view = operate(base, "3,2")
    assert base.model.layers[3].shared_transformer.self_attn.layer_dic == {1: 0, 3: 1}
    assert view.model.layers[0].shared_transformer.self_attn.layer_dic == {0: 1}
    assert view.model.layers[0].shared_transformer.feed_forward.layer_dic == {0: 1}


# Depth and lists of the config


def test_a_stale_depth_silently_runs_fewer_layers_and_a_view_does_not() -> None:
    base = build("llama")
    wrong = plain_way(base, [0, 1, 2, 3, 1])
    assert layers_run(wrong, wrong.model.layers) == 4
    view = operate(base, "0-3,1")
    assert view.config.num_hidden_layers == 5
    assert layers_run(view, view.model.layers) == 5


def test_masks_follow_the_layers_types() -> None:
    base = build("gemma3")
    view = operate(base, "1-3")
    kinds = text_config(base).layer_types
    assert text_config(view).layer_types == kinds[1:]
    ids = tokens(2, 12)
    expected = reference(base, (1, 2, 3))(ids).logits
    torch.testing.assert_close(view(ids).logits, expected, atol=1e-5, rtol=1e-5)
    wrong = plain_way(base, [1, 2, 3])
    wrong.config.num_hidden_layers = 3
    wrong.config.use_cache = False
    assert not torch.allclose(wrong(ids, use_cache=False).logits, expected, atol=1e-3)


def test_lists_that_a_config_computes_follow_the_layers() -> None:
    base = zoo.build("jamba")
    kinds = base.config.layers_block_type
    assert operate(base, "3,0").config.layers_block_type == [kinds[3], kinds[0]]
    assert base.config.layers_block_type == kinds


def test_lists_of_layer_indices_name_the_places_of_those_layers() -> None:
    base = zoo.build("mllama")
    view = operate(base, "0,3,1")
    path = find_layers(view)[0].rpartition(".")[0]
    assert view.get_submodule(path).cross_attention_layers == [1]
    assert text_config(view).cross_attention_layers == [1]
    assert text_config(base).cross_attention_layers == [3]


def test_configs_inside_multimodal_configs_follow_too() -> None:
    view = operate(zoo.build("llama4"), "0,2")
    assert text_config(view).num_hidden_layers == 2


# Hidden states and generation settings


def test_hidden_states_have_one_entry_a_slot_after_the_base_has_given_its_own() -> None:
    base = build("llama")
    assert len(base(tokens(), output_hidden_states=True).hidden_states) == 5
    assert len(operate(base, "0,3")(tokens(), output_hidden_states=True).hidden_states) == 3


def test_generation_settings_of_a_view_are_its_own() -> None:
    base = build("llama")
    view = operate(base, "0")
    view.generation_config.max_length = 7
    assert base.generation_config is not view.generation_config
    assert base.generation_config.max_length != 7


# Cache


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gemma3"])
def test_without_the_first_layer_left_padded_batches_and_their_decoding_stay_right(family: str) -> None:
    base = build(family)
    view, batch = operate(base, "1-3"), left_padded()
    expected = reference(base, (1, 2, 3))
    assert torch.equal(greedy(view, batch), greedy(expected, batch, use_cache=False))


def test_stale_indices_go_wrong_there() -> None:
    """The cache's length is that of its first entry, which nothing fills any more."""
    base = build("llama")
    wrong = plain_way(base, [1, 2])
    wrong.config.num_hidden_layers = 3
    past = wrong(tokens(1, 6), use_cache=True).past_key_values
    assert past.get_seq_length() == 0
    assert operate(base, "1-2")(tokens(1, 6), use_cache=True).past_key_values.get_seq_length() == 6


def test_a_cache_class_that_counts_in_its_first_entry_finds_an_attention_layer_there() -> None:
    base = zoo.build("minimax")
    kinds = base.config.layer_types
    assert kinds[0] == "full_attention"
    assert kinds[1] == "linear_attention"
    past = operate(base, "1-3")(tokens(1, 6), use_cache=True).past_key_values
    assert past.get_seq_length() == 6


def test_a_hybrid_without_attention_is_refused_with_that_reason() -> None:
    with pytest.raises(RefusedPlanError, match="counts its tokens in the cache"):
        operate(zoo.build("granitemoehybrid"), "0,2")


# State outside of the layers


def test_embeddings_for_each_layer_are_those_of_the_layers_that_run() -> None:
    base = zoo.build("gemma3n_text")
    batch = left_padded()
    plan = LayerPlan.parse("2,0", 4)
    real = batch["attention_mask"].bool()
    logits = operate(base, plan)(**batch, use_cache=False).logits
    torch.testing.assert_close(logits[real], ByHand(base, batch).logits(plan)[real], atol=1e-4, rtol=1e-5)


@pytest.fixture
def sharing() -> Any:
    """Return a model whose last two layers read the keys and values of the first two."""
    config = copy.deepcopy(zoo.config_of("gemma3n_text"))
    config.num_kv_shared_layers = 2
    return zoo.from_config(config)


@pytest.mark.parametrize(("plan", "named", "nearest"), [("1-3", "L2.*run L0", "0-3"), ("0,3", "L3.*run L1", "0-1,3")])
def test_a_reader_of_shared_keys_without_their_maker_before_it_is_refused(
    sharing: Any, plan: str, named: str, nearest: str
) -> None:
    with pytest.raises(RefusedPlanError, match=named) as error:
        operate(sharing, plan)
    assert str(error.value.nearest) == nearest
    assert torch.isfinite(operate(sharing, nearest)(tokens()).logits).all()


def test_a_norm_that_the_first_block_owns_is_missed_and_the_plan_refused() -> None:
    from surgery_core.proof.preflight import prove

    with pytest.raises(RefusedPlanError, match="pre_ln"):
        prove(zoo.build("rwkv"), None, "1-3")


def test_blocks_that_positions_share_are_cloned_apart() -> None:
    base = zoo.build("zamba2")
    blocks = [base.model.layers[at].shared_transformer for at in (1, 3)]
    assert blocks[0].self_attn.q_proj.weight is blocks[1].self_attn.q_proj.weight
    view = operate(base, "1,3")
    assert indices(view.model.layers[0].mamba_decoder) == {0}
    assert indices(view.model.layers[1].mamba_decoder) == {1}


def test_layers_kept_as_several_lists_are_refused_with_the_lists() -> None:
    with pytest.raises(RefusedPlanError, match="attentions, layer_norm1, ffns, layer_norm2"):
        operate(zoo.build("xlm"), "0,2")


def test_a_dense_first_layer_of_a_mixture_keeps_its_kind_wherever_it_runs() -> None:
    base = zoo.build("deepseek_v3")
    kinds = [type(layer.mlp) for layer in base.model.layers]
    assert len(set(kinds)) == 2
    assert [type(layer.mlp) for layer in operate(base, "3,0,0").model.layers] == [kinds[3], kinds[0], kinds[0]]


# What layers return


@pytest.mark.parametrize("model_type", ["llama", "falcon", "mpt", "bloom", "xlnet", "reformer", "zaya", "opt"])
def test_changed_slots_answer_in_the_form_of_their_layer_so_every_batch_row_is_right(model_type: str) -> None:
    """Code that unpacks `hidden, *rest = layer(...)` takes a lone tensor's first row for the whole batch."""
    base = zoo.build(model_type)
    batch = {"input_ids": tokens(3), "attention_mask": torch.ones(3, 9, dtype=torch.long)}
    plan = LayerPlan.parse("0,1*0.5,2-3", 4)
    logits = operate(base, plan)(**batch).logits
    assert logits.shape[0] == 3
    torch.testing.assert_close(logits, ByHand(base, batch).logits(plan), atol=1e-4, rtol=1e-5)
    assert not torch.equal(logits[0], logits[1])


# Saving


def test_a_repeated_layer_shares_tensors_that_saving_refuses_until_they_are_apart(tmp_path: Path) -> None:
    view = operate(build("llama"), "0,0")
    with pytest.raises(RuntimeError, match="shared"):
        view.save_pretrained(tmp_path / "wrong")
    unshare_layers(view)
    view.save_pretrained(tmp_path / "right")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "right").eval()
    torch.testing.assert_close(again(tokens()).logits, view(tokens()).logits)


def test_tied_embeddings_stay_tied_in_a_view() -> None:
    base = build("gpt2")
    assert base.lm_head.weight is base.transformer.wte.weight
    view = operate(base, "0,0")
    assert view.lm_head.weight is view.transformer.wte.weight is base.transformer.wte.weight


# Hooks that are bound to module objects


def test_accelerates_hooks_run_the_clone_and_not_the_original() -> None:
    from accelerate import cpu_offload

    whole = build("llama")
    expected = reference(whole, (3, 1))(tokens()).logits
    offloaded = cpu_offload(copy.deepcopy(whole), execution_device=torch.device("cpu"))
    assert "forward" in offloaded.model.layers[1].mlp.down_proj.__dict__, "accelerate did not bind a forward"
    view = operate(offloaded, "3,1")
    torch.testing.assert_close(view(tokens()).logits, expected, atol=1e-5, rtol=1e-5)
    clones = set(view.modules())
    assert not clones & set(offloaded.modules())
