"""ModelSurgery: operated inside, identical outside, on the same model object."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from surgery_core.errors import AnatomyError, PlanError, RefusedPlanError
from surgery_core.surgery.in_place import ModelSurgery
from surgery_core.surgery.view import operate
from tests.core.support.families import FAMILIES, N_LAYERS, build, greedy, left_padded, read_until, reference, tokens

model_of = cache(build)


def snapshot(model: Any) -> list[Any]:
    """Return everything that surgery could disturb: objects by identity, attributes and tensors by value."""
    state: list[Any] = []
    for name, module in model.named_modules():
        plain = {k: v for k, v in module.__dict__.items() if isinstance(v, (int, float, str, bool, type(None)))}
        children = [(key, id(child)) for key, child in module._modules.items()]
        state.append(
            (name, id(module), type(module), plain, children, sorted(module.__dict__), len(module._forward_hooks))
        )
    state.append(copy.deepcopy(model.config.to_dict()))
    state.append([(name, id(tensor), tensor.sum().item()) for name, tensor in model.state_dict(keep_vars=True).items()])
    return state


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("method", "arguments", "order"),
    [
        ("delete_layers", ([1, -1],), (0, 2)),
        ("delete_layers", ([0],), (1, 2, 3)),
        ("permute_layers", ([3, 1, 1, -4],), (3, 1, 1, 0)),
        ("replace_layers", ([0, -1], [2, -3]), (2, 1, 2, 1)),
        ("apply", ("2-3,0x2",), (2, 3, 0, 0)),
    ],
)
def test_inside_equals_an_independently_built_model(family: str, method: str, arguments: Any, order: Any) -> None:
    model = build(family)
    expected = reference(model, order)
    before, output = snapshot(model), model(tokens()).logits
    surgery = ModelSurgery(model)
    with getattr(surgery, method)(*arguments) as operated:
        assert operated is model is surgery.get_model()
        assert len(surgery.get_transformer_layers()[1]) == len(order) == model.config.num_hidden_layers
        torch.testing.assert_close(model(tokens(2, 9)).logits, expected(tokens(2, 9)).logits, atol=1e-5, rtol=1e-5)
        assert torch.equal(greedy(model, left_padded()), greedy(expected, left_padded(), use_cache=False))
    assert snapshot(model) == before
    assert torch.equal(model(tokens()).logits, output)


@pytest.mark.parametrize("family", FAMILIES)
def test_deleting_every_layer_is_embeddings_to_head(family: str) -> None:
    model = build(family)
    expected = reference(model, ())(tokens(), use_cache=False).logits
    with ModelSurgery(model).delete_layers(range(N_LAYERS)):
        torch.testing.assert_close(model(tokens()).logits, expected, atol=1e-5, rtol=1e-5)


def test_nested_surgery_composes_and_unwinds() -> None:
    model = build("llama")
    surgery, before = ModelSurgery(model), snapshot(model)
    with surgery.permute_layers([3, 2, 1, 0]):
        middle = snapshot(model)
        with surgery.delete_layers([0]):
            expected = reference(build("llama"), (2, 1, 0))(tokens()).logits
            torch.testing.assert_close(model(tokens()).logits, expected, atol=1e-5, rtol=1e-5)
        assert snapshot(model) == middle
    assert snapshot(model) == before


def test_everything_is_restored_after_an_exception() -> None:
    model = build("gemma3")
    before = snapshot(model)
    with pytest.raises(KeyError), ModelSurgery(model).apply("1*0.5,(0|2),3.attn"):
        raise KeyError("a failure of the caller's")
    assert snapshot(model) == before


@pytest.mark.parametrize("captured_before", [False, True])
def test_hidden_states_asked_for_inside_do_not_disturb_those_outside(captured_before: bool) -> None:
    model = build("llama")
    if captured_before:
        model(tokens(), output_hidden_states=True)
    before = snapshot(model)
    with ModelSurgery(model).permute_layers([0, 1, 1]):
        assert len(model(tokens(), output_hidden_states=True).hidden_states) == 4
    assert snapshot(model) == before
    assert len(model(tokens(), output_hidden_states=True).hidden_states) == N_LAYERS + 1


def test_the_layers_keep_their_identity_and_their_hooks() -> None:
    model = build("llama")
    layers = list(model.model.layers)
    calls: list[int] = []
    layers[2].register_forward_hook(lambda *_: calls.append(2))
    with ModelSurgery(model).permute_layers([2, 0, 2]):
        assert model.model.layers[0] is layers[2]
        assert model.model.layers[1] is layers[0]
        model(tokens())
    assert calls == [2, 2]


class Recorder(nn.Module):
    """A replacement that notes how it was called and adds a constant."""

    def __init__(self, as_tuple: bool) -> None:
        super().__init__()
        self.as_tuple = as_tuple
        self.shapes: list[torch.Size] = []

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Any:
        self.shapes.append(hidden_states.shape)
        return (hidden_states + 1.0,) if self.as_tuple else hidden_states + 1.0


@pytest.mark.parametrize("as_tuple", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_module_in_place_of_a_layer(family: str, as_tuple: bool) -> None:
    model, recorder = build(family), Recorder(as_tuple)
    ids = tokens(3, 5)

    def add_one(module: Any, args: Any, output: Any) -> Any:
        hidden = (args[0] if args else None) + 1.0
        return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

    path, layers = ModelSurgery(model).get_transformer_layers()
    handle = layers[1].register_forward_hook(add_one)
    expected = model(ids).logits
    handle.remove()
    with ModelSurgery(model).replace_layers([1], [recorder]):
        torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(greedy(model, left_padded()), greedy(model, left_padded(), use_cache=False))
    assert recorder.shapes[0] == (3, 5, 32)
    assert path


def test_modules_that_take_no_keyword_and_plain_linear_layers() -> None:
    model = build("llama")
    deleted = reference(model, (0, 2, 3))(tokens()).logits
    with ModelSurgery(model).replace_layers(1, nn.Identity()):
        torch.testing.assert_close(model(tokens()).logits, deleted, atol=1e-5, rtol=1e-5)
    with ModelSurgery(model).replace_layers([1], [nn.Linear(32, 32)]):
        assert model(tokens()).logits.shape == (1, 9, model.config.vocab_size)


def test_one_layer_object_put_in_twice_gets_two_cache_slots() -> None:
    model = build("llama")
    copied = copy.deepcopy(model.model.layers[3])
    expected = reference(model, (3, 3, 2, 3))
    with ModelSurgery(model).replace_layers([0, 1], [copied, copied]):
        assert torch.equal(greedy(model, left_padded()), greedy(expected, left_padded(), use_cache=False))
    own = model.model.layers[2]
    with ModelSurgery(model).replace_layers([0], [own]):
        torch.testing.assert_close(model(tokens()).logits, reference(build("llama"), (2, 1, 2, 3))(tokens()).logits)
    assert copied.self_attn.layer_idx == 3


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "gpt2"])
def test_modules_without_attention_in_front_leave_the_cache_right(family: str) -> None:
    """The first cache entry tells how long the past is, so it must belong to a layer that fills it."""
    model, ids = build(family), tokens(1, 8)
    surgery = ModelSurgery(model)
    with surgery.permute_layers([1, 0, 1, 2]), surgery.replace_layers([0, 1], [Recorder(False), Recorder(True)]):
        whole = model(ids).logits
        output = model(ids[:, :5], use_cache=True)
        steps = [output.logits]
        for position in range(5, 8):
            output = model(ids[:, position : position + 1], use_cache=True, **read_until(output))
            steps.append(output.logits)
        torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=1e-5, rtol=1e-5)
        assert torch.equal(greedy(model, left_padded()), greedy(model, left_padded(), use_cache=False))


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(48, 48),
        nn.Linear(32, 48),
        nn.LayerNorm(48),
        nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 48)),
        nn.ModuleDict({"inner": nn.Linear(48, 48)}),
    ],
    ids=["reads 48", "writes 48", "norm", "sequential", "custom"],
)
def test_a_module_of_the_wrong_width_is_refused_before_anything_runs(module: nn.Module) -> None:
    model = build("llama")
    ran: list[int] = []
    for part in (module, model):
        part.register_forward_hook(lambda *_: ran.append(1))
    with pytest.raises(PlanError, match=r"48 .*32"), ModelSurgery(model).replace_layers([1], [module]):
        pass
    assert not ran


def test_a_layer_of_a_wider_model_is_refused() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_hidden_layers=1, hidden_size=64, intermediate_size=32, num_attention_heads=2, vocab_size=16
    )
    wide = LlamaForCausalLM(config).model.layers[0]
    with pytest.raises(PlanError, match=r"64 .*32"), ModelSurgery(build("llama")).replace_layers([1], [wide]):
        pass


def test_a_module_that_answers_in_another_shape_is_named_when_it_runs() -> None:
    class Narrow(nn.Module):
        def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            return hidden_states[..., :7]

    model = build("llama")
    with (
        pytest.raises(PlanError, match=r"\[1, 9, 7\].*\[1, 9, 32\]"),
        ModelSurgery(model).replace_layers([1], [Narrow()]),
    ):
        model(tokens())


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("delete_layers", ([4],), "4 is not a position.*0 to 3"),
        ("delete_layers", ([1, -3],), "more than once: 1"),
        ("permute_layers", ([0, 9],), "9 is not a position"),
        ("replace_layers", ([0, 1], [2]), "2 layers but 1 replacements"),
        ("replace_layers", ([0], [7]), "no layer 7"),
        ("delete_layers", ("01",), "not a list"),
        ("delete_layers", ([1.5],), "not a whole number"),
        ("apply", ("0-9",), "no layer 9"),
    ],
)
def test_bad_indices_are_named_and_nothing_changes(method: str, arguments: Any, message: str) -> None:
    model = build("llama")
    before = snapshot(model)
    with pytest.raises(PlanError, match=message), getattr(ModelSurgery(model), method)(*arguments):
        pass
    assert snapshot(model) == before


@settings(max_examples=25, deadline=None)
@given(first=st.lists(st.integers(-4, 3), max_size=5), drop=st.integers(0, 4))
def test_any_nesting_leaves_the_model_as_it_was(first: list[int], drop: int) -> None:
    model = model_of("gpt2")
    surgery, before = ModelSurgery(model), snapshot(model)
    with surgery.permute_layers(first), surgery.delete_layers(range(min(drop, len(first)))):
        model(tokens(1, 3))
    assert snapshot(model) == before


NORMS = {
    "gpt2": "transformer.ln_f",
    "bloom": "transformer.ln_f",
    "gpt_neox": "gpt_neox.final_layer_norm",
    "opt": "model.decoder.final_layer_norm",
    "phi": "model.final_layernorm",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_final_norm_and_layers_are_found(family: str) -> None:
    model = model_of(family)
    surgery = ModelSurgery(model)
    assert surgery.get_final_norm() is model.get_submodule(NORMS.get(family, "model.norm"))
    path, layers = surgery.get_transformer_layers()
    assert layers is model.get_submodule(path)
    assert len(layers) == N_LAYERS


def test_a_model_without_final_norm_or_layers_says_so() -> None:
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        num_hidden_layers=2,
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=16,
        num_attention_heads=2,
        vocab_size=32,
        do_layer_norm_before=False,
    )
    with pytest.raises(ValueError, match="no norm after its last layer"):
        ModelSurgery(OPTForCausalLM(config)).get_final_norm()
    bare = build("llama")
    bare.model.layers = nn.Sequential(*bare.model.layers)
    with pytest.raises(AnatomyError, match="No list of layers"):
        ModelSurgery(bare)


def test_the_printed_tree_says_the_plan_inside_and_is_the_same_again_outside() -> None:
    model = build("llama")
    surgery, before = ModelSurgery(model), repr(model)
    with surgery.permute_layers([1, 0, 2, 3]):
        assert "(layers): OperatedLayers(  # plan 1,0,2-3\n" in repr(model)
        assert "plan" not in repr(model.model.layers[:2])
        assert "plan" not in repr(operate(model, "0-2"))
        with surgery.delete_layers(range(4)):
            assert "(layers): OperatedLayers()  # plan without layers\n" in repr(model)
    assert repr(model) == before


class Adding(torch.nn.Module):
    """A person's module in place of a layer: adds a constant and attends to nothing."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + 0.01


@pytest.mark.parametrize("model_type", ["minimax", "qwen3_next", "jamba", "gemma2"])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_module_that_does_not_attend_is_right_with_a_cache_or_refused(model_type: str, at: int) -> None:
    """In the place of any layer of a hybrid, whose cache counts its tokens in one kind of layer."""
    from tests.core.support import zoo
    from tests.core.support.columns import inputs
    from tests.core.support.families import greedy

    model = zoo.try_build(model_type)
    batch = inputs(3, padded=True)
    before = model(**batch, use_cache=False).logits
    try:
        with ModelSurgery(model).replace_layers(at, Adding()):
            cached, plain = (greedy(model, batch, 6, use_cache=use) for use in (True, False))
            assert torch.equal(cached, plain)
    except RefusedPlanError as error:
        assert "attention layer" in str(error)
    assert torch.equal(model(**batch, use_cache=False).logits, before)


def test_the_last_attention_layer_of_a_hybrid_is_not_replaced_by_what_does_not_attend() -> None:
    from tests.core.support import zoo

    model = zoo.try_build("qwen3_next")
    kinds = model.config.layer_types
    attention = [index for index, kind in enumerate(kinds) if kind == "full_attention"]
    with (
        pytest.raises(RefusedPlanError, match=f"keep at least one of L{attention[0]}"),
        ModelSurgery(model).replace_layers(attention, [Adding() for _ in attention]),
    ):
        pass


def test_views_made_before_are_not_touched_by_surgery_in_place() -> None:
    from tests.core.support import zoo

    model = zoo.try_build("gemma3n_text")
    ids = torch.arange(3, 12)[None]
    view = operate(model, "0,2,1,3")
    expected = view(ids, use_cache=False).logits
    with ModelSurgery(model).apply("3,1"):
        assert torch.equal(view(ids, use_cache=False).logits, expected)
