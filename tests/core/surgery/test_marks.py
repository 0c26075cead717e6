"""What surgery leaves on a module: one attribute, whose records go along with clones and copies."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import surgery_core as sc
from surgery_core.states.means import mean_contributions
from surgery_core.surgery.anatomy import Operated, base_of, find_layers, plan_of, root_of
from surgery_core.surgery.clone import Cloner
from surgery_core.surgery.marks import KEY, mark, mark_of, marks_of, needed_mark
from tests.tiny import build_model, build_tokenizer

IDS = torch.arange(1, 9)[None]


@dataclass(frozen=True)
class Colour:
    name: str


@dataclass(frozen=True, eq=False)
class Neighbour:
    module: nn.Module
    names: list[str]


def test_a_module_has_a_record_of_a_kind_or_none() -> None:
    module = nn.Linear(1, 1)
    assert mark_of(module, Colour) is None
    mark(module, Colour("red"))
    mark(module, Neighbour(module, []))
    mark(module, Colour("blue"))
    assert needed_mark(module, Colour).name == "blue"
    assert needed_mark(module, Neighbour).module is module


def test_a_record_that_must_be_there_is_named() -> None:
    with pytest.raises(LookupError, match=r"A Linear has no Colour\."):
        needed_mark(nn.Linear(1, 1), Colour)


def test_records_of_one_module_do_not_change_with_another_ones() -> None:
    one, other = nn.Linear(1, 1), nn.Linear(1, 1)
    mark(one, Colour("red"))
    other.__dict__[KEY] = marks_of(one)
    mark(other, Colour("blue"))
    assert needed_mark(one, Colour).name == "red"


def test_a_deep_copy_has_copies_of_what_is_in_records() -> None:
    module = nn.Linear(1, 1)
    mark(module, Neighbour(module, ["a"]))
    copied = copy.deepcopy(module)
    found = needed_mark(copied, Neighbour)
    assert found.module is copied
    assert found.names == ["a"]
    assert found.names is not needed_mark(module, Neighbour).names


def test_a_clone_refers_to_clones() -> None:
    parent = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    mark(parent[0], Neighbour(parent[1], ["a"]))
    clone = Cloner().module(parent)
    assert needed_mark(clone[0], Neighbour).module is clone[1]
    assert needed_mark(parent[0], Neighbour).module is parent[1]


PLANS = ["0,2,1,3", "0,1*0.5,2,3", "0,1.attn,2.mlp,3", "0,(1|2),3", "0,mean(1),2,3", "0,1,1*2,3"]


def averages(model: Any) -> Any:
    return mean_contributions(model, build_tokenizer(), [sc.Text("A text", "It was a dark night.")])


@pytest.mark.parametrize("plan", PLANS)
def test_surgery_adds_one_attribute_and_takes_it_off_again(plan: str) -> None:
    model = build_model("llama")
    means = averages(model) if "mean" in plan else None
    known = {name: set(module.__dict__) for name, module in model.named_modules()}
    view = sc.operate(model, plan, means=means)
    before = {id(module): set(module.__dict__) for module in model.modules()}
    for module in view.modules():
        added = {name for name in module.__dict__ if name.startswith("_surgery")}
        assert added <= {KEY}
    if means is None:
        with sc.ModelSurgery(model).apply(plan):
            assert str(needed_mark(model, Operated).plan) == str(sc.LayerPlan.parse(plan, 4))
        assert {name: set(module.__dict__) for name, module in model.named_modules()} == known
    assert {id(module): set(module.__dict__) for module in model.modules()} == before


@pytest.mark.parametrize("plan", PLANS)
def test_a_deep_copy_of_a_view_computes_the_same(plan: str) -> None:
    model = build_model("llama")
    view = sc.operate(model, plan, means=averages(model) if "mean" in plan else None)
    with torch.inference_mode():
        assert torch.equal(copy.deepcopy(view)(IDS).logits, view(IDS).logits)


@pytest.mark.parametrize("plan", [plan for plan in PLANS if "|" not in plan])
def test_a_view_of_a_view_keeps_what_the_first_does(plan: str) -> None:
    model = build_model("llama")
    view = sc.operate(model, plan, means=averages(model) if "mean" in plan else None)
    again = sc.operate(view, sc.LayerPlan.identity(len(find_layers(view)[1])))
    with torch.inference_mode():
        assert torch.equal(again(IDS).logits, view(IDS).logits)
    assert base_of(again) is view
    assert root_of(again) is model
    assert str(plan_of(view)) == str(sc.LayerPlan.parse(plan, 4))


def test_in_place_on_a_view_its_base_is_still_known() -> None:
    model = build_model("llama")
    view = sc.operate(model, "0,2,1,3")
    with sc.ModelSurgery(view).delete_layers([1]) as operated:
        assert base_of(operated) is model
        assert str(plan_of(operated)) == "0,2-3"
    assert str(plan_of(view)) == "0,2,1,3"


def test_a_plan_is_pickled_and_a_view_is_still_a_model_of_its_class() -> None:
    model = build_model("llama")
    view = sc.operate(model, "0,1*0.5,2,3")
    assert pickle.loads(pickle.dumps(plan_of(view))) == plan_of(view)
    assert isinstance(view, type(model))
    assert type(find_layers(view)[1][1]).__name__ == type(find_layers(model)[1][1]).__name__
