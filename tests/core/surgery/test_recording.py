"""How layers are called and what they return, against the model's own hidden states and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import surgery_core as sc
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.layer_io import hidden_input, hidden_of
from surgery_core.surgery.recording import Call, recorded, watched
from tests.core.support.families import FAMILIES, build

IDS = torch.arange(1, 9)[None]


class Doubling(nn.Module):
    def forward(self, value: float, *, plus: float = 0.0) -> float:
        return 2 * value + plus


def test_calls_and_outputs_are_kept_by_number_in_the_order_of_running() -> None:
    first, second = Doubling(), Doubling()
    with recorded([first, second]) as seen:
        second(first(1.0), plus=3.0)
    assert seen.calls == {0: ((1.0,), {}), 1: ((2.0,), {"plus": 3.0})}
    assert seen.outputs == {0: 2.0, 1: 7.0}
    second(first(5.0))
    assert seen.outputs == {0: 2.0, 1: 7.0}


def test_of_a_layer_that_runs_twice_the_last_call_is_kept_and_both_are_told() -> None:
    layer, told = Doubling(), list[tuple[int, Call, Any]]()
    with watched([layer], returned=lambda *what: told.append(what)), recorded([layer]) as seen:
        layer(layer(1.0))
    assert [output for _, _, output in told] == [2.0, 4.0]
    assert seen.calls == {0: ((2.0,), {})}


def test_a_layer_that_does_not_run_is_not_there() -> None:
    first, second = Doubling(), Doubling()
    with recorded([first, second]) as seen:
        second(1.0)
    assert list(seen.calls) == list(seen.outputs) == [1]


def test_hooks_are_taken_off_and_nobody_elses() -> None:
    layer, own = Doubling(), list[float]()
    layer.register_forward_hook(lambda module, args, output: own.append(output))
    with watched([layer], lambda *what: None, lambda *what: None):
        assert (len(layer._forward_pre_hooks), len(layer._forward_hooks)) == (1, 2)
    assert (len(layer._forward_pre_hooks), len(layer._forward_hooks)) == (0, 1)
    layer(1.0)
    assert own == [2.0]


def test_what_is_raised_stops_the_run_and_hooks_go() -> None:
    first, second = Doubling(), Doubling()

    def stop(number: int, call: Call) -> None:
        if number == 1:
            raise sc.Stopped("Enough.")

    with pytest.raises(sc.Stopped, match="Enough"), watched([first, second], stop), recorded([first, second]) as seen:
        second(first(1.0))
    assert seen.outputs == {0: 2.0}
    assert not first._forward_pre_hooks
    assert not second._forward_pre_hooks


@pytest.mark.parametrize("family", FAMILIES)
def test_what_enters_a_models_layers_is_what_the_model_says(family: str) -> None:
    model = build(family)
    view = private_copy(model)
    with torch.inference_mode():
        expected = model(IDS, output_hidden_states=True, use_cache=False).hidden_states
        with recorded(find_layers(view)[1]) as seen:
            view(IDS, use_cache=False)
    for number, call in seen.calls.items():
        torch.testing.assert_close(hidden_input(*call), expected[number])
    # the model's last state is normed in most families; what leaves the layer before is what enters the last
    last = len(expected) - 2
    torch.testing.assert_close(hidden_of(seen.outputs[last - 1]), expected[last])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_private_copy_computes_the_same_and_hooks_on_it_are_its_own(family: str) -> None:
    model = build(family)
    view = private_copy(model)
    find_layers(view)[1][0].register_forward_hook(lambda module, args, output: None)
    with torch.inference_mode():
        assert torch.equal(view(IDS).logits, model(IDS).logits)
    assert not find_layers(model)[1][0]._forward_hooks
    shared = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in view.parameters()} == shared
