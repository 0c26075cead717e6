"""Models that accelerate has spread: its hooks are bound to module objects, and a view's must be its own."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model

from surgery_core.errors import ModelLoadError
from surgery_core.models.opening import load_model
from surgery_core.proof.preflight import preflight
from surgery_core.surgery.in_place import ModelSurgery
from surgery_core.surgery.view import operate
from surgery_core.sweeps.sweep import sweep
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import build, greedy, left_padded, reference, tokens

pytestmark = pytest.mark.filterwarnings("ignore")


def spread(model: Any, how: str, folder: Path) -> Any:
    """Return a copy of the model whose weights are offloaded to the CPU or to disk, or that has hooks everywhere."""
    copied = copy.deepcopy(model)
    if how == "cpu":
        return cpu_offload(copied, execution_device="cpu")
    if how == "disk":
        return disk_offload(copied, str(folder), execution_device="cpu")
    return dispatch_model(copied, device_map={"": "cpu"}, force_hooks=True)


@pytest.mark.parametrize("how", ["cpu", "disk", "hooks"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "opt", "bloom"])
def test_surgery_on_a_spread_model_equals_surgery_on_the_whole_one(family: str, how: str, tmp_path: Path) -> None:
    base = build(family)
    model, expected = spread(base, how, tmp_path), reference(base, (3, 1, 1, 0))
    whole = model(tokens()).logits
    view = operate(model, "3,1x2,0")
    torch.testing.assert_close(view(tokens()).logits, expected(tokens()).logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(greedy(view, left_padded()), greedy(expected, left_padded(), use_cache=False))
    with ModelSurgery(model).permute_layers([3, 1, 1, 0]):
        torch.testing.assert_close(model(tokens()).logits, expected(tokens()).logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(model(tokens()).logits, whole)


@pytest.mark.parametrize("how", ["cpu", "disk", "hooks"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "opt", "bloom"])
def test_modified_slots_on_a_spread_model(family: str, how: str, tmp_path: Path) -> None:
    """A forward that accelerate set on the layer object must not hide what the slot asks for."""
    base = build(family)
    notation = "1*0.5,2.attn,(0|3.mlp)"
    view = operate(spread(base, how, tmp_path), notation)
    torch.testing.assert_close(view(tokens()).logits, operate(base, notation)(tokens()).logits, atol=1e-5, rtol=1e-5)


def test_a_spread_model_passes_preflight(tmp_path: Path) -> None:
    report = preflight(spread(build("llama"), "disk", tmp_path))
    assert report.passed, report.reason


def test_a_model_can_be_opened_spread_over_what_there_is(tiny_folder: Path) -> None:
    whole, spread = load_model(str(tiny_folder)), load_model(str(tiny_folder), device="spread")
    assert spread.info.n_parameters == whole.info.n_parameters
    plan = "0,2x2,1"
    ids = tokens()
    torch.testing.assert_close(operate(spread.model, plan)(ids).logits, operate(whole.model, plan)(ids).logits)


@pytest.mark.parametrize("how", ["cpu", "disk", "hooks"])
def test_sweeps_on_a_spread_model_are_exact(how: str, tmp_path: Path) -> None:
    base = build("llama")
    rows = [
        list(sweep(model, byte_tokenizer(), "The fox ran.", "delete")) for model in (base, spread(base, how, tmp_path))
    ]
    assert [row.nats for row in rows[1]] == pytest.approx([row.nats for row in rows[0]], abs=1e-5)
    assert [row.kl for row in rows[1]] == pytest.approx([row.kl for row in rows[0]], abs=1e-5)


def test_without_accelerate_spreading_says_what_to_install(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "accelerate" else find(name, *rest)
    )
    with pytest.raises(ModelLoadError, match="requirements.txt"):
        load_model(str(tiny_folder), device="spread")
