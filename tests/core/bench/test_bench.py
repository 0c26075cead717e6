"""Experiments as functions: tools by name, calls written down, the model as it was."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from surgery_core import LoadedModel, ModelInfo, ModelSurgery, inspect_model, operate
from surgery_core.bench import BaseInterpretabilityBench, Bench, log_experiment, use_tools
from surgery_core.errors import AnatomyError, ExperimentError, InputError, LensError, PlanError
from surgery_core.lenses.jacobian_files import save_jacobians
from surgery_core.lenses.jacobian_fit import JacobianFit
from tests.core.support.packages import declare
from tests.tiny import build_model, build_tokenizer

TEXT = "There was once a fox."
shared = Bench(build_model("llama"), "nowhere")


@pytest.fixture
def model() -> Any:
    return build_model("llama")


@pytest.fixture
def exp(model: Any, tmp_path: Path) -> Bench:
    return Bench(model, tmp_path / "experiments", build_tokenizer())


def state(model: Any) -> tuple[Any, ...]:
    """Return everything that surgery may not leave changed: tree, objects, weights to the bit, config, logits."""
    modules = [(name, id(module)) for name, module in model.named_modules()]
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    logits = model(torch.arange(9)[None]).logits
    return repr(model), modules, weights, model.config.to_dict(), logits


def assert_same(before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
    assert before[:2] == after[:2]
    assert before[2].keys() == after[2].keys()
    assert all(torch.equal(before[2][name], after[2][name]) for name in before[2])
    assert before[3] == after[3]
    assert torch.equal(before[4], after[4])


# Derive from BaseInterpretabilityBench
class MIExperiment(BaseInterpretabilityBench):
    def __init__(self, model: Any, save_dir: Any = "experiments") -> None:
        super().__init__(model, save_dir)


def test_the_example_that_this_project_started_from(
    model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exp = MIExperiment(model, tmp_path)
    before = state(model)

    @exp.use_tools("surgery")
    def test_model_surgery(indices: Any, replacements: Any, surgery: Any) -> None:
        model = surgery.get_model()
        print("Before surgery: \n\n", model)  # noqa: T201

        with surgery.replace_layers(indices, replacements):
            print("After surgery: \n\n", model)  # noqa: T201

        with surgery.permute_layers([0, 1]):
            print("After surgery: \n\n", model)  # noqa: T201

        with surgery.delete_layers([0, 1]):
            print("After surgery: \n\n", model)  # noqa: T201

    anatomy = inspect_model(model)
    test_model_surgery([0, 1], [anatomy.layer(0).mlp, anatomy.layer(1).mlp])
    plain, replaced, permuted, deleted = capsys.readouterr().out.split("surgery: \n\n")[1:]
    assert "(0-3): 4 x LlamaDecoderLayer(" in plain
    assert "(0-1): 2 x Adapter(\n        (module): LlamaMLP(" in replaced
    assert "(2-3): 2 x LlamaDecoderLayer(" in replaced
    assert "(layers): OperatedLayers(  # plan 0-1\n      (0-1): 2 x LlamaDecoderLayer(" in permuted
    assert "(layers): OperatedLayers(  # plan 2-3\n      (0-1): 2 x LlamaDecoderLayer(" in deleted
    assert_same(before, state(model))


def test_a_layer_replaced_by_its_mlp_hands_on_what_the_mlp_returns(exp: Bench, model: Any) -> None:
    ids, layers = torch.arange(7)[None], model.model.layers
    mlps = [layers[0].mlp, layers[1].mlp]

    @exp.use_tools("surgery")
    def replaced(indices: list[int], replacements: list[Any], surgery: ModelSurgery) -> Any:
        with surgery.replace_layers(indices, replacements) as operated:
            return operated(ids, use_cache=False).logits

    # by hand: the plain model without layers 0 and 1, which starts from what the two MLPs make of the embeddings
    entering = mlps[1](mlps[0](model.model.embed_tokens(ids)))
    short = build_model("llama", num_hidden_layers=2)
    short.load_state_dict(model.state_dict(), strict=False)
    short.model.layers = torch.nn.ModuleList(layers[2:])
    expected = short(inputs_embeds=entering, use_cache=False).logits
    torch.testing.assert_close(replaced([0, 1], mlps), expected)


def test_a_part_that_cannot_take_the_residual_stream_is_refused_with_its_shapes(exp: Bench, model: Any) -> None:
    ran: list[int] = []

    @exp.use_tools("surgery")
    def replaced(replacement: Any, surgery: ModelSurgery) -> None:
        with surgery.replace_layers([0], [replacement]):
            ran.append(1)

    with pytest.raises(PlanError, match=r"Linear reads 64 .*\[batch, seq, 64\].* 32 wide \(\[batch, seq, 32\]\)"):
        replaced(inspect_model(model).layer(0).mlp.down_proj)  # type: ignore[union-attr]
    gpt2 = build_model("gpt2").transformer.h[0].mlp.c_proj
    with pytest.raises(PlanError, match=r"Conv1D reads 128 .*\[batch, seq, 128\].* 32 wide"):
        replaced(gpt2)
    assert ran == []


@shared.use_tools("surgery")
def test_an_experiment_is_a_test_whose_other_arguments_are_fixtures(tmp_path: Path, surgery: ModelSurgery) -> None:
    assert tmp_path.is_dir()
    assert surgery.get_model() is shared.model


def test_every_tool_is_bound_to_the_model(exp: Bench, model: Any) -> None:
    @exp.use_tools(*exp.tools)
    def use(**tools: Any) -> dict[str, Any]:
        return tools

    tools = use()
    assert {"surgery", "logit_lens", "tuned_lens", "score", "generate", "sweep"} <= tools.keys()
    losses = torch.nn.functional.cross_entropy
    ids = torch.tensor(exp.tokenizer(TEXT).input_ids)
    nats = losses(model(ids[None]).logits[0, :-1].double(), ids[1:]).item()
    assert tools["score"](TEXT).nats / (len(ids) - 1) == pytest.approx(nats, rel=1e-5)
    expected = model.generate(ids[None], max_new_tokens=64, do_sample=False, pad_token_id=258)[0, len(ids) :]
    written = exp.tokenizer.decode(expected, skip_special_tokens=True)
    assert "".join(tools["generate"](TEXT)).rstrip("\ufffd") == tools["complete"](TEXT).text.rstrip("\ufffd")
    assert tools["complete"](TEXT).text[:8] == written[:8]
    assert [row.plan for row in tools["sweep"](TEXT, "delete")][1:] == ["1-3", "0,2-3", "0-1,3", "0-2"]
    read = tools["logit_lens"](TEXT)
    top = model(ids[None]).logits[0, -1].argmax().item()
    assert read.top_ids[-1, -1, 0] == top
    assert tools["compare"]("0,2-3", TEXT).plan == "0,2-3"
    assert len(tools["importance"](TEXT).labels) == 4
    assert tools["operate"]("0,2-3").config.num_hidden_layers == 3


def test_a_tool_sees_the_surgery_that_is_under_way(exp: Bench, model: Any) -> None:
    @exp.use_tools("surgery", "score")
    def without(layer: int, surgery: ModelSurgery, score: Callable[..., Any]) -> float:
        with surgery.delete_layers(layer):
            return float(score(TEXT).nats)

    view = operate(model, "0,2-3")
    assert without(1) == Bench(view, tokenizer=exp.tokenizer).tool("score")(TEXT).nats


def test_a_model_without_a_tuned_lens_says_how_to_get_one(exp: Bench) -> None:
    tool = exp.tool("tuned_lens")
    with pytest.raises(LensError, match=r"tuned_lens.load\(folder\).*tuned_lens.train\(texts\)"):
        tool(TEXT)


def test_a_jacobian_lens_is_fitted_or_loaded_for_a_bench(exp: Bench, tmp_path: Path) -> None:
    tool = exp.tool("jacobian_lens")
    with pytest.raises(LensError, match=r"jacobian_lens.load\(folder\).*jacobian_lens.fit\(texts\)"):
        tool(TEXT)
    read = tool.fit(TEXT, JacobianFit(tokens=8, skip=2))(TEXT)
    save_jacobians(tool.fitted, tmp_path / "lens", dtype=torch.float32)
    again = exp.tool("jacobian_lens").load(tmp_path / "lens")(TEXT)
    assert (read.statistics["kl"] == again.statistics["kl"]).all()
    assert (read.statistics["kl"] != exp.tool("logit_lens")(TEXT).statistics["kl"]).any()


def test_a_loaded_model_brings_its_tokenizer_lens_and_name(tmp_path: Path) -> None:
    from surgery_core import load_model

    loaded = load_model("fable")
    exp = Bench(loaded, tmp_path)
    assert exp.model is loaded.model
    assert exp.tokenizer is loaded.tokenizer
    assert exp.tool("tuned_lens")("The king").labels[0] == "input"

    @exp.log_experiment
    def nothing() -> None:
        return None

    nothing()
    assert exp.experiment("nothing").model == {
        "class": "LlamaForCausalLM", "name": "fable", "revision": loaded.info.revision, "plan": "0-11",
    }  # fmt: skip


def test_a_model_of_transformers_is_named_by_its_folder(tiny_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from surgery_core.models.offered import digest

    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    exp = Bench(operate(model, "0,2-3"), tmp_path)
    exp.log_experiment(len)([])
    kept = exp.experiment("len")
    assert kept.model == {
        "class": "LlamaForCausalLM", "name": str(tiny_folder), "revision": digest(tiny_folder), "plan": "0,2-3",
    }  # fmt: skip
    assert (kept.source, kept.source_sha256, kept.arguments) == (None, None, {"obj": []})


def test_a_module_without_layers_has_a_bench_too(tmp_path: Path) -> None:
    exp = Bench(torch.nn.Linear(2, 2), tmp_path)
    assert exp.log_experiment(lambda: exp.model.in_features)() == 2
    assert exp.experiment("_lambda_").model == {"class": "Linear", "name": None, "revision": None, "plan": None}
    with pytest.raises(AnatomyError, match="Linear has no config of transformers"):
        exp.tool("surgery")


def test_unknown_tools_missing_arguments_and_missing_tokenizers_are_told_at_once(model: Any) -> None:
    exp = Bench(model)
    with pytest.raises(ExperimentError, match="no tool 'sugery'; there are: surgery, operate, .*sweep"):
        exp.use_tools("surgery", "sugery")
    with pytest.raises(ExperimentError, match=r"look has no argument 'surgery'.*def look\(\.\.\., surgery\)"):

        @exp.use_tools("surgery")
        def look(layer: int) -> None: ...

    @exp.use_tools("score")
    def scored(score: Any) -> None: ...

    with pytest.raises(ExperimentError, match=r"'score' needs a tokenizer.*Bench\(model, tokenizer=tokenizer\)"):
        scored()
    with pytest.raises(ExperimentError, match="A bench needs a model, not str"):
        Bench("fable")


def test_a_caller_may_bring_a_tool_and_the_signature_leaves_tools_out(exp: Bench) -> None:
    @exp.use_tools("surgery")
    def which(layer: int, surgery: Any = None) -> Any:
        return surgery

    assert which(1, surgery="mine") == "mine"
    assert list(inspect.signature(which).parameters) == ["layer"]
    assert which.__name__ == "which"


def both_orders(exp: Bench, function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    yield exp.log_experiment(exp.use_tools("surgery")(function))
    yield exp.use_tools("surgery")(exp.log_experiment(function))


def test_the_two_decorators_combine_in_either_order(exp: Bench) -> None:
    def depth(layer: int, surgery: ModelSurgery) -> int:
        with surgery.delete_layers(layer):
            return len(surgery.get_transformer_layers()[1])

    for number, decorated in enumerate(both_orders(exp, depth), 1):
        assert decorated(2) == 3
        kept = exp.experiment(f"depth.v{number}")
        assert (kept.arguments, kept.tools, kept.result) == ({"layer": 2}, ["surgery"], 3)
        assert kept.source == inspect.getsource(depth)
        assert list(inspect.signature(decorated).parameters) == ["layer"]


class Study(Bench):
    """A bench with experiments of its own."""

    @log_experiment
    @use_tools("surgery")
    def depth(self, layer: int, surgery: Any = None) -> int:
        with surgery.delete_layers(layer):
            return len(surgery.get_transformer_layers()[1])

    @use_tools("surgery")
    @log_experiment
    def deeper(self, times: int, *, surgery: Any) -> int:
        with surgery.permute_layers([0] * times):
            return len(surgery.get_transformer_layers()[1])


def test_methods_of_a_bench_are_experiments(model: Any, tmp_path: Path) -> None:
    study = Study(model, tmp_path)
    assert (study.depth(0), study.deeper(times=7)) == (3, 7)
    kept = study.experiment("Study.deeper")
    assert (kept.arguments, kept.tools, kept.result) == ({"times": 7}, ["surgery"], 7)
    assert list(study.experiments()["name"]) == ["Study.depth", "Study.deeper"]


def test_methods_of_another_class_use_a_bench_by_name(exp: Bench) -> None:
    class Elsewhere:
        @exp.use_tools("surgery")
        @exp.log_experiment
        def depth(self, surgery: Any) -> int:
            return len(surgery.get_transformer_layers()[1])

    assert Elsewhere().depth() == 4
    assert exp.experiment("Elsewhere.depth").arguments == {}
    with pytest.raises(ExperimentError, match="for methods of a Bench"):
        use_tools("surgery")(lambda surgery: None)()


def test_functions_that_yield_or_wait_are_not_logged(exp: Bench) -> None:
    def counting() -> Iterator[int]:
        yield 1

    async def waiting() -> None: ...

    for function in (counting, waiting):
        with pytest.raises(ExperimentError, match="yields or waits.*return a list"):
            exp.log_experiment(function)


def test_tools_are_added_for_a_class_and_its_own(model: Any) -> None:
    class First(Bench): ...

    class Second(First): ...

    First.add_tool("depth", lambda model: len(model.model.layers))
    Second(model).add_tool("words", lambda model, tokenizer: tokenizer)
    assert Second(model).tool("depth") == First(model).tool("depth") == 4
    with pytest.raises(ExperimentError, match="no tool 'depth'"):
        Bench(model).tool("depth")
    with pytest.raises(ExperimentError, match="'words' needs a tokenizer"):
        Second(model).tool("words")
    assert Second(model, tokenizer="t").tool("words") == "t"
    exp = First(model)
    assert exp.tool("depth") == 4
    First.add_tool("depth", lambda model: 5)
    assert exp.tool("depth") == 5
    for name, message in (("surgery", "has a tool 'surgery' already"), ("no name", "cannot name a tool")):
        with pytest.raises(ExperimentError, match=message):
            Bench.add_tool(name, lambda model: None)


def test_other_packages_add_tools(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "class Probe:\n    def __init__(self, model):\n        self.model = model\n"
    points = "probe = probing_tools:Probe\nbroken = probing_tools:gone"
    declare(tmp_path, "probing_tools", {"tools": points}, source)
    monkeypatch.syspath_prepend(tmp_path)
    exp = Bench(model)
    assert {"probe", "broken"} <= set(exp.tools)

    @exp.use_tools("probe")
    def probed(probe: Any) -> Any:
        return probe.model

    assert probed() is model
    with pytest.raises(InputError, match="'broken' of the package probing_tools cannot be loaded.*gone"):
        exp.tool("broken")


def test_an_exception_inside_leaves_the_model_as_it_was(exp: Bench, model: Any) -> None:
    before = state(model)

    @exp.log_experiment
    @exp.use_tools("surgery")
    def fails(surgery: ModelSurgery) -> None:
        with surgery.delete_layers([0]):
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        fails()
    assert exp.experiment("fails").error == {"type": "KeyboardInterrupt", "message": ""}
    assert_same(before, state(model))


def test_an_opened_model_is_what_load_model_returns() -> None:
    assert {"model", "tokenizer", "info"} == set(LoadedModel.__dataclass_fields__)
    assert {"name", "revision"} <= set(ModelInfo.__dataclass_fields__)
