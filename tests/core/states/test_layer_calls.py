"""Layers called one by one, as the model calls them, give what the model gives."""

from __future__ import annotations

import pytest
import torch

import surgery_core as sc
from surgery_core.states.layer_calls import call_layer, record_calls, without_hidden
from surgery_core.states.windows import Batch
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.building import private_copy
from tests.core.support.families import FAMILIES, build

IDS = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])


def batch() -> Batch:
    nothing = torch.zeros(0, dtype=torch.long)
    return Batch(IDS, MASK, nothing, nothing, nothing, nothing, nothing)


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_told_in_order_and_are_the_models_own(family: str) -> None:
    model, told = build(family), dict[int, torch.Tensor]()
    calls = record_calls(private_copy(model), batch(), lambda depth, state: told.setdefault(depth, state))
    assert len(calls) == len(find_layers(model)[1])
    assert list(told) == list(range(len(calls) + 1))
    with torch.inference_mode():
        states = model(IDS, attention_mask=MASK, output_hidden_states=True, use_cache=False).hidden_states
    real = MASK.bool()
    # the last of transformers' states is normed already
    for depth in range(len(calls)):
        torch.testing.assert_close(told[depth][real], states[depth][real])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_called_as_recorded_gives_the_next_state(family: str) -> None:
    model, told = build(family), dict[int, torch.Tensor]()
    view = private_copy(model)
    calls = record_calls(view, batch(), lambda depth, state: told.setdefault(depth, state.clone()))
    for depth, (layer, rest) in enumerate(zip(find_layers(view)[1], calls, strict=True)):
        torch.testing.assert_close(call_layer(layer, rest, told[depth].clone()), told[depth + 1])


def test_what_is_left_of_a_call_without_its_states() -> None:
    hidden, mask = torch.zeros(1), torch.ones(1)
    assert without_hidden(((hidden, mask), {"use_cache": False})) == ((mask,), {"use_cache": False})
    assert without_hidden(((), {"hidden_states": hidden, "mask": mask})) == (None, {"mask": mask})


def test_it_stops_before_a_layer() -> None:
    seen: list[int] = []

    def look() -> None:
        if len(seen) == 2:
            raise sc.Stopped("Enough.")

    with pytest.raises(sc.Stopped, match="Enough"):
        record_calls(private_copy(build("llama")), batch(), lambda depth, state: seen.append(depth), look)
    assert seen == [0, 1]
