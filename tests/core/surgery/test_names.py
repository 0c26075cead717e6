"""A model that calls its parts as no architecture does: told what they are, it is operated like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PretrainedConfig

import surgery_core as sc
from surgery_core.errors import AnatomyError, RefusedPlanError, SettingsError
from surgery_core.surgery import names
from tests.tiny import build_tokenizer

WIDTH, DEPTH, VOCAB = 16, 4, 260


class OddConfig(PretrainedConfig):
    model_type = "odd"


class Cell(nn.Module):
    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place
        self.mixing, self.channels = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> torch.Tensor:
        past = hidden_states.cumsum(1) / torch.arange(1, hidden_states.shape[1] + 1)[None, :, None]
        hidden_states = hidden_states + self.mixing(past)
        return hidden_states + self.channels(hidden_states).tanh()


class Closing(nn.Module):
    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states / states.square().mean(-1, keepdim=True).sqrt()


class OddModel(nn.Module):
    """Two lists of modules: `cells` run, and `spare`, which is as long and heavier, does not."""

    def __init__(self) -> None:
        super().__init__()
        self.config = OddConfig(n_cells=DEPTH, lanes=WIDTH, reach=64, vocab_size=VOCAB)
        self.trunk = nn.Module()
        self.trunk.spare = nn.ModuleList(nn.Linear(5 * WIDTH, 5 * WIDTH) for _ in range(DEPTH))
        self.trunk.cells = nn.ModuleList(Cell(place) for place in range(DEPTH))
        self.trunk.closing = Closing()
        self.symbols, self.head = nn.Embedding(VOCAB, WIDTH), nn.Linear(WIDTH, VOCAB, bias=False)
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def get_input_embeddings(self) -> nn.Module:
        return self.symbols

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    @property
    def base_model(self) -> nn.Module:
        return self

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        states = self.symbols(input_ids)
        for cell in self.trunk.cells:
            states = cell(states)
        return SimpleNamespace(logits=self.head(self.trunk.closing(states)))


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(names, "_TOLD", {})
    names.read_file.cache_clear()
    yield
    names.read_file.cache_clear()


def odd_model() -> OddModel:
    torch.manual_seed(0)
    return OddModel().eval().requires_grad_(False)


def tell() -> None:
    sc.name_parts(OddModel, layers="trunk.cells", final_norm="trunk.closing")
    sc.name_parts("Cell", attention="mixing", mlp=["channels"], index="place")
    sc.name_parts(OddConfig, depth="n_cells", width="lanes", context="reach")


def by_hand(model: OddModel, order: list[int], ids: torch.Tensor) -> torch.Tensor:
    states = model.symbols(ids)
    for index in order:
        states = model.trunk.cells[index](states)
    logits: torch.Tensor = model.head(model.trunk.closing(states))
    return logits


def test_untold_it_is_refused() -> None:
    with pytest.raises(AnatomyError, match="No list of layers"):
        sc.inspect_model(odd_model())


def test_told_it_is_found() -> None:
    tell()
    found = sc.inspect_model(odd_model())
    assert (found.layers_path, found.final_norm_path) == ("trunk.cells", "trunk.closing")
    assert (found.attention_path, found.mlp_path) == ("mixing", "channels")
    assert (found.n_layers, found.d_model, found.context_length) == (DEPTH, WIDTH, 64)


@pytest.mark.parametrize("plan", ["0,2,3", "0,2,1,3", "3-0", "0,1,1,2,3"])
def test_told_it_is_operated_as_by_hand_as_a_view_and_in_place(plan: str) -> None:
    tell()
    model, ids = odd_model(), torch.arange(1, 13)[None]
    order = [slot.layers[0].index for slot in sc.LayerPlan.parse(plan, DEPTH)]
    expected = by_hand(model, order, ids)
    view = sc.operate(model, plan)
    torch.testing.assert_close(view(ids).logits, expected)
    assert (view.config.n_cells, model.config.n_cells) == (len(order), DEPTH)
    assert [cell.place for cell in view.trunk.cells] == list(range(len(order)))
    with sc.ModelSurgery(model).apply(plan):
        torch.testing.assert_close(model(ids).logits, expected)
        assert model.config.n_cells == len(order)
    assert [cell.place for cell in model.trunk.cells] == list(range(DEPTH))


def test_its_halves_are_told_too() -> None:
    tell()
    model, ids = odd_model(), torch.arange(1, 13)[None]
    states = model.symbols(ids)
    for index, cell in enumerate(model.trunk.cells):
        past = states.cumsum(1) / torch.arange(1, 13)[None, :, None]
        states = states + (0 if index == 2 else cell.mixing(past))
        states = states + (0 if index == 1 else cell.channels(states).tanh())
    # `channels` is the module that adds nothing; the model's own tanh of 0 is 0
    expected = model.head(model.trunk.closing(states))
    torch.testing.assert_close(sc.operate(model, "0,1.attn,2.mlp,3")(ids).logits, expected)


def test_it_is_measured() -> None:
    tell()
    model = odd_model()
    text = "It was a dark night."
    ids = torch.tensor([build_tokenizer()(text).input_ids])
    found = sc.compare(model, sc.operate(model, "0,2,3"), build_tokenizer(), [text])
    logp = by_hand(model, [0, 2, 3], ids)[0, :-1].log_softmax(-1)
    expected = float((-logp.gather(-1, ids[0, 1:, None])).mean().exp())
    assert found.operated.perplexity == pytest.approx(expected, rel=1e-5)


def test_a_file_tells_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "names.toml"
    file.write_text('[OddModel]\nlayers = "trunk.cells"\n[OddConfig]\ndepth = ["n_cells"]\n', encoding="utf-8")
    monkeypatch.setenv(names.FILE_VARIABLE, str(file))
    assert sc.inspect_model(odd_model()).layers_path == "trunk.cells"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("layers = 'x'", "outside of a table"),
        ("[A]\nbody = 'x'", "'body' is no part of a A that can be named"),
        ("[A]\nlayers = ['x']", "must be one dotted path"),
        ("[A", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, said: str
) -> None:
    file = tmp_path / "names.toml"
    file.write_text(content, encoding="utf-8")
    monkeypatch.setenv(names.FILE_VARIABLE, str(file))
    with pytest.raises(SettingsError, match=said):
        sc.inspect_model(odd_model())


def test_a_path_that_leads_nowhere_is_named() -> None:
    sc.name_parts(OddModel, layers="trunk.blocks")
    with pytest.raises(AnatomyError, match=r"no list of layers at 'trunk.blocks'"):
        sc.inspect_model(odd_model())


def test_without_names_a_class_is_forgotten() -> None:
    tell()
    sc.name_parts("Cell")
    with pytest.raises(RefusedPlanError, match="no separate attention and MLP"):
        sc.operate(odd_model(), "0.attn,1,2,3")
