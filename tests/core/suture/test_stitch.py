"""Stitches: against numpy's solver on states that plain hooks take, and everything that must be refused."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import surgery_core as sc
from surgery_core.errors import PlanError, RefusedPlanError, Stopped, TextError
from surgery_core.proof.preflight import fingerprint, prove
from surgery_core.suture.fitting import best_share
from surgery_core.suture.stitch import _Work
from tests.core.support.stopping import stop_at
from tests.tiny import build_model, build_tokenizer

FAMILIES = {
    "llama": "model.layers.{}", "gpt2": "transformer.h.{}", "gpt_neox": "gpt_neox.layers.{}",
    "opt": "model.decoder.layers.{}", "bloom": "transformer.h.{}", "phi": "model.layers.{}", "qwen3": "model.layers.{}",
}  # fmt: skip
"""Families whose last projection a map can go into, and where their layers are."""

tokenizer = build_tokenizer()


TEXTS = [f"{word} and the {other} went over the hill, {word}; {other * 3}." for word in
         ("fox", "wolf", "a cat", "old dog", "mouse") for other in ("hen", "stork", "crow", "ass", "frog")]  # fmt: skip


@pytest.fixture
def _all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every stitch count as better: a random model predicts no text, so its loss says nothing."""
    falling = itertools.count(0, -1)
    monkeypatch.setattr(_Work, "nats", lambda work, view, told: float(next(falling)))


kept = pytest.mark.usefixtures("_all_kept")


def run(model: nn.Module, text: str, wanted: dict[str, tuple[str, str]]) -> dict[str, np.ndarray[Any, Any]]:
    """Return, for each name, what the module at a path reads (`"in"`) or returns (`"out"`) for a text, in float64."""
    found: dict[str, np.ndarray[Any, Any]] = {}

    def keep(name: str, side: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            given = args[0] if args else kwargs["hidden_states"]
            tensor = given if side == "in" else output if isinstance(output, torch.Tensor) else output[0]
            found[name] = tensor.detach().double().reshape(-1, tensor.shape[-1]).numpy()

        return hook

    hooks = [
        model.get_submodule(path).register_forward_hook(keep(name, side), with_kwargs=True)
        for name, (path, side) in wanted.items()
    ]
    model(torch.tensor([tokenizer(text)["input_ids"]]), use_cache=False)
    for one in hooks:
        one.remove()
    return found


def solved(
    base: nn.Module, view_like: nn.Module, read: str, left: str, wanted: str, side: str,
    ridge: float, gain: float = 1.0, bias: bool = False,
) -> np.ndarray[Any, Any]:  # fmt: skip
    """Return, by numpy's solver over all tokens of the texts, what a projection has to add: `[width (+ 1), d_model]`."""
    inputs, lacking, sizes = [], [], []
    for text in TEXTS:
        ours = run(view_like, text, {"x": (read, "in"), "left": (left, "out")})
        base_states = run(base, text, {"wanted": (wanted, side)})["wanted"]
        inputs.append(np.concatenate([ours["x"], np.ones((len(base_states), 1))], 1) if bias else ours["x"])
        lacking.append((base_states - ours["left"]) / gain)
        sizes.append((base_states**2).mean(1, keepdims=True) ** -0.25)
    x, y, w = (np.concatenate(parts) for parts in (inputs, lacking, sizes))
    x, y = x * w, y * w
    penalty = np.diag(np.sqrt(ridge * (x**2).sum(0)))
    return np.linalg.lstsq(np.vstack([x, penalty]), np.vstack([y, np.zeros((len(penalty), y.shape[1]))]))[0]


@kept
@pytest.mark.parametrize("family", FAMILIES)
def test_the_projection_is_that_of_least_squares(family: str) -> None:
    base, layer = build_model(family), FAMILIES[family].format(0)
    before = fingerprint(base)
    view = sc.stitch(base, "0,2-3", tokenizer, TEXTS)
    report = sc.stitch_report(view)
    (one,) = report.cuts
    assert (one.behind, one.missing, one.kept) == ("L0", "L1", True)
    path = f"{layer}.{one.projection}"
    own, fitted = base.get_submodule(path), view.get_submodule(path)
    change = solved(base, base, path, layer, FAMILIES[family].format(2), "in", one.ridge, bias=own.bias is not None)
    weight = own.weight.double().numpy()
    rows = change[: -1 if own.bias is not None else None]
    expected = weight + (rows if family == "gpt2" else rows.T)
    np.testing.assert_allclose(fitted.weight.numpy(), expected, atol=2e-4)
    if own.bias is not None:
        np.testing.assert_allclose(fitted.bias.numpy(), own.bias.double().numpy() + change[-1], atol=2e-4)
    assert fingerprint(base) == before


def own_tensors(view: nn.Module, base: nn.Module) -> set[str]:
    """Return the parameters of a view that are none of the base's."""
    known = {parameter.data_ptr() for parameter in base.parameters()}
    return {name for name, parameter in view.named_parameters() if parameter.data_ptr() not in known}


@kept
def test_a_view_has_one_tensor_of_its_own() -> None:
    base = build_model("llama")
    view = sc.stitch(base, "0,2-3", tokenizer, TEXTS)
    assert own_tensors(view, base) == {"model.layers.0.mlp.down_proj.weight"}


@kept
def test_the_second_cut_is_fitted_on_the_stream_that_the_first_stitch_hands_on() -> None:
    base = build_model("llama", num_hidden_layers=6)
    view = sc.stitch(base, "0,2,4-5", tokenizer, TEXTS)
    report = sc.stitch_report(view)
    assert [(one.behind, one.missing, one.kept) for one in report.cuts] == [("L0", "L1", True), ("L2", "L3", True)]
    first = build_model("llama", num_hidden_layers=6)
    del first.model.layers[1]
    first.model.layers[0].mlp.down_proj.weight = view.model.layers[0].mlp.down_proj.weight
    read, left = "model.layers.1.mlp.down_proj", "model.layers.1"
    change = solved(base, first, read, left, "model.layers.4", "in", report.cuts[1].ridge)
    expected = base.model.layers[2].mlp.down_proj.weight.double().numpy() + change.T
    np.testing.assert_allclose(view.model.layers[1].mlp.down_proj.weight.numpy(), expected, atol=2e-4)


@kept
@pytest.mark.parametrize(
    ("plan", "read", "gain", "wanted", "side"),
    [
        ("0*0.5,2-3", "mlp.down_proj", 0.5, "model.layers.2", "in"),
        ("0-1,3.mlp", "mlp.down_proj", 1.0, "model.layers.3.post_attention_layernorm", "in"),
        ("0-1", "mlp.down_proj", 1.0, "model.layers.3", "out"),
        ("0.attn,2-3", "self_attn.o_proj", 1.0, "model.layers.2", "in"),
        ("0,1.mlp,3", "mlp.down_proj", 1.0, "model.layers.3", "in"),
    ],
)
def test_factors_halves_and_a_cut_at_the_end(plan: str, read: str, gain: float, wanted: str, side: str) -> None:
    base = build_model("llama")
    view = sc.stitch(base, plan, tokenizer, TEXTS)
    report = sc.stitch_report(view)
    found, position = report.cuts[-1], int(report.cuts[-1].behind[1])
    assert found.kept
    assert found.projection == read
    cut = sc.operate(base, plan) if len(report.cuts) == 1 else _stitched_but(base, view, position)
    where = f"model.layers.{position}"
    change = solved(base, cut, f"{where}.{read}", where, wanted, side, found.ridge, gain)
    expected = base.get_submodule(f"{where}.{read}").weight.double().numpy() + change.T
    np.testing.assert_allclose(view.get_submodule(f"{where}.{read}").weight.numpy(), expected, atol=2e-4)


def _stitched_but(base: nn.Module, view: Any, position: int) -> Any:
    """Return the view of the same cuts without what was fitted at one place."""
    plan = sc.stitch_report(view).stitches.plan
    other = sc.operate(base, plan.unstitched)
    for at, layer in enumerate(view.model.layers):
        if at != position:
            other.model.layers[at].load_state_dict(layer.state_dict(), assign=True)
    return other


def test_a_stitch_that_makes_nothing_better_is_left_out_and_said() -> None:
    base = build_model("llama")
    with torch.no_grad():
        base.model.layers[1].mlp.down_proj.weight.zero_()
        base.model.layers[1].self_attn.o_proj.weight.zero_()
    view = sc.stitch(base, "0,2-3", tokenizer, TEXTS)
    report = sc.stitch_report(view)
    assert not report.cuts[0].kept
    assert report.plan == "0,2-3"
    assert "no lower" in report.sentence
    assert not own_tensors(view, base)


@pytest.mark.parametrize("seed", range(6))
def test_on_the_texts_that_judge_a_stitch_is_never_worse_than_the_cut(seed: int) -> None:
    """By plain forward passes over whole texts, every eighth one; what is no better is left out to the bit."""
    base, cut = build_model("llama", seed=seed), build_model("llama", seed=seed)
    del cut.model.layers[1]
    view = sc.stitch(base, "0,2-3", tokenizer, TEXTS)
    nats = dict.fromkeys(("cut", "view"), 0.0)
    for text in TEXTS[7::8]:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        for name, model in (("cut", cut), ("view", view)):
            logits = model(ids, use_cache=False).logits[0, :-1].double()
            nats[name] += float(nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
    if sc.stitch_report(view).cuts[0].kept:
        assert nats["view"] < nats["cut"]
    else:
        assert nats["view"] == pytest.approx(nats["cut"], rel=1e-6)


@kept
def test_the_plan_runs_again_with_its_stitches_and_with_none_other() -> None:
    base = build_model("llama")
    report = sc.stitch_report(sc.stitch(base, "0,~,2-3", tokenizer, TEXTS))
    ids, stitches = torch.tensor([tokenizer(TEXTS[0])["input_ids"]]), report.stitches
    again = sc.operate(base, report.plan, stitches=stitches)
    assert report.plan == "0,~,2-3"
    assert torch.equal(again(ids).logits, sc.stitch(base, "0,~,2-3", tokenizer, TEXTS)(ids).logits)
    assert not torch.allclose(again(ids).logits, sc.operate(base, "0,2-3")(ids).logits)
    assert prove(base, tokenizer, report.plan, stitches=stitches).passed
    with pytest.raises(PlanError, match="fitted for 0,~,2-3, not for 0,~,3"):
        sc.operate(base, "0,~,3", stitches=stitches)
    with pytest.raises(PlanError, match="has to be fitted over texts"):
        sc.operate(base, "0,~,2-3")
    other = sc.stitch_report(sc.stitch(base, "0,~,2-3", tokenizer, TEXTS[:-1])).stitches
    assert len({stitches.key, other.key}) == 2
    assert stitches.key == sc.stitch_report(sc.stitch(base, "0,~,2-3", tokenizer, TEXTS)).stitches.key


@pytest.mark.parametrize(
    ("plan", "error", "why"),
    [
        ("", RefusedPlanError, "Every layer is deleted"),
        ("2-3", RefusedPlanError, "at the very front .L0 and L1."),
        ("0-3", PlanError, "no layer is missing between others"),
        ("0,~,1-3", PlanError, "Behind 0,~ no layer is missing"),
        ("(0,~,2)x2", PlanError, "stands in the plan twice"),
        ("0,2,mean(3)", RefusedPlanError, "cannot stand in a plan that is stitched"),
    ],
)
def test_plans_that_cannot_be_stitched_say_why(plan: str, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        sc.stitch(build_model("llama"), plan, tokenizer, TEXTS)


MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}


@pytest.mark.parametrize(("family", "changes"), [("gemma2", {}), ("gemma3_text", {}), ("olmo2", {}), ("mixtral", MOE)])
def test_models_without_a_projection_for_the_map_are_refused(family: str, changes: dict[str, Any]) -> None:
    with pytest.raises(RefusedPlanError, match="a norm, a gate or experts stand behind it"):
        sc.stitch(build_model(family, **changes), "0,2-3", tokenizer, TEXTS)


def test_of_several_cuts_those_that_can_be_stitched_are() -> None:
    view = sc.stitch(build_model("llama", num_hidden_layers=6), "1,2,4-5", tokenizer, TEXTS)
    assert [one.behind for one in sc.stitch_report(view).cuts] == ["L2"]


def test_states_that_are_no_numbers_are_refused_and_said_where() -> None:
    base = build_model("llama")
    with torch.no_grad():
        base.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(RefusedPlanError, match="L1"):
        sc.stitch(base, "0,2-3", tokenizer, TEXTS)


def test_texts_shorter_than_the_width_are_fitted_with_a_ridge_and_that_is_said() -> None:
    report = sc.stitch_report(sc.stitch(build_model("llama"), "0,2-3", tokenizer, ["The fox.", "A hen."]))
    assert "14 tokens are fewer than the 64 values" in report.cuts[0].note
    with pytest.raises(TextError):
        sc.stitch(build_model("llama"), "0,2-3", tokenizer, [])


@pytest.mark.parametrize("number", [2, 9, 17])
def test_it_stops_within_a_layer(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    base, stop = build_model("llama"), threading.Event()
    sc.stitch(base, "0,2-3", tokenizer, TEXTS[:2])  # what is tried once a model is known now
    ran = stop_at(stop, number, monkeypatch)
    with pytest.raises(Stopped):
        sc.stitch(base, "0,2-3", tokenizer, TEXTS, stop=stop)
    assert len(ran) <= number + 1


def test_progress_ends_with_everything_done() -> None:
    told: list[tuple[int, int]] = []
    sc.stitch(build_model("llama"), "0,2-3", tokenizer, TEXTS, on_progress=lambda *steps: told.append(steps))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


@pytest.mark.parametrize(
    ("none", "half", "whole", "share"),
    [
        (4.0, 3.0, 4.0, 0.5),
        (4.0, 3.0, 2.0, 1.0),
        (4.0, 4.0, 6.0, 0.25),
        (4.0, 6.0, 9.0, 0.0),
        (4.0, 3.5, 2.0, 1.0),
        (4.0, 4.6, 4.2, 0.0),
        (4.0, 3.0, math.inf, 0.5),
        (4.0, 5.0, math.inf, 0.25),
    ],
)
def test_the_best_share_of_a_map(none: float, half: float, whole: float, share: float) -> None:
    assert best_share(none, half, whole) == share
