"""The readout in slices of the vocabulary against whole rows of the model's own logits, in float64 and by definition."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery_core.errors import PlanError, Stopped
from surgery_core.measure import readout as readout_module
from surgery_core.measure.figures import ahead_in
from surgery_core.measure.readout import Readout, pieces, rows_at_once
from surgery_core.states.windows import Batch
from surgery_core.surgery.anatomy import find_layers
from tests.core.support.families import FAMILIES, VOCAB, build, tokens
from tests.tiny import build_model

model_of = cache(build)
VOCABULARIES = (131, 50_257, 128_256, 262_144)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def states(model: Any, batch: int = 2, length: int = 9, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what leaves the last layer, `[batch * length, d_model]`, and the model's own logits."""
    seen: list[Any] = []
    handle = find_layers(model)[1][-1].register_forward_hook(lambda m, a, output: seen.append(output))
    logits = model(tokens(batch, length, seed), use_cache=False).logits
    handle.remove()
    hidden = seen[0] if isinstance(seen[0], torch.Tensor) else seen[0][0]
    return hidden.flatten(0, 1), logits.flatten(0, 1)


def by_definition(logits: torch.Tensor, targets: torch.Tensor, base: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return loss and KL in float64, and how many tokens a stable sort puts before the base's argmax."""
    p, q = base.double().log_softmax(-1), logits.double().log_softmax(-1)
    order = logits.float().sort(dim=-1, descending=True, stable=True).indices
    ahead = (order == base.float().argmax(-1, keepdim=True)).float().argmax(-1)
    return {"nll": -q.gather(-1, targets[:, None])[:, 0], "kl": (p.exp() * (p - q)).sum(-1), "ahead": ahead}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("keep", [True, False])
def test_figures_are_those_of_whole_logits(family: str, keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readout_module, "SLICE_ELEMENTS", {"cpu": 1, "cuda": 1})  # the narrowest slices
    monkeypatch.setattr(readout_module, "NARROWEST_SLICE", 7)
    monkeypatch.setattr(readout_module, "CHUNK_ELEMENTS", 5 * VOCAB)
    model = model_of(family)
    (hidden, logits), (other, base_logits) = states(model), states(model, seed=7)
    readout, targets = Readout(model), torch.randint(0, VOCAB, (len(hidden),))
    base = readout.base_side(readout.enter(other), targets, keep=keep)
    figures = readout.figures(readout.enter(hidden), targets, base)
    expected = by_definition(logits, targets, base_logits)
    assert torch.allclose(figures.nll.double(), expected["nll"], atol=1e-5)
    assert figures.kl is not None
    assert torch.allclose(figures.kl.double(), expected["kl"], atol=2e-6)
    assert torch.equal(figures.ahead, expected["ahead"].float())  # type: ignore[arg-type]
    own = by_definition(base_logits, targets, base_logits)["nll"]
    assert torch.allclose(base.nll.double(), own, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_of_several_tokens_at_one_position(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readout_module, "CHUNK_ELEMENTS", 5 * VOCAB)
    model = model_of(family)
    hidden, logits = states(model)
    places = torch.tensor([17, 0, 0, 4, 5, 17, 0])
    targets = torch.tensor([3, 8, 9, 95, 1, 3, 8])
    losses = Readout(model).losses(Readout(model).enter(hidden), places, targets)
    expected = -logits.double().log_softmax(-1)[places, targets]
    assert torch.allclose(losses.double(), expected, atol=1e-5)
    hidden[4] = torch.nan
    broken = Readout(model).losses(Readout(model).enter(hidden), places, targets)
    assert broken.isnan().tolist() == [place == 4 for place in places]


@pytest.mark.parametrize("vocab", VOCABULARIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_vocabularies_in_every_number_format(vocab: int, dtype: torch.dtype) -> None:
    model = build_model("llama", vocab_size=vocab, bos_token_id=1, eos_token_id=2, pad_token_id=0).to(dtype)
    readout, generator = Readout(model), torch.Generator().manual_seed(vocab)
    assert readout.slices
    one = (8 * torch.randn((40, 32), generator=generator)).to(dtype)
    two = (one.float() + 0.3 * torch.randn((40, 32), generator=generator)).to(dtype)
    targets = torch.randint(0, vocab, (40,), generator=generator)
    base = readout.base_side(readout.enter(one), targets, keep=False)
    figures = readout.figures(readout.enter(two), targets, base)
    logits, base_logits = (model.lm_head(model.model.norm(x)) for x in (two, one))
    expected = by_definition(logits, targets, base_logits)
    assert figures.kl is not None
    assert torch.allclose(figures.nll.double(), expected["nll"], atol=2e-5)
    assert torch.allclose(figures.kl.double(), expected["kl"], atol=5e-6)
    # the tied logits of half formats: the order is argmax's, to the place
    assert torch.equal(figures.ahead, expected["ahead"].float())  # type: ignore[arg-type]
    assert torch.equal(figures.kept(1).bool(), logits.float().argmax(-1) == base_logits.float().argmax(-1))


@settings(max_examples=40)
@given(rows=st.integers(1, 60), width=st.integers(1, 300), values=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_ties_are_broken_by_the_lower_id_wherever_slices_end(rows: int, width: int, values: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(0, values, (rows, 257), generator=generator).float()
    wanted = torch.randint(0, 257, (rows,), generator=generator)
    own = logits.gather(-1, wanted[:, None])[:, 0]
    ahead = torch.zeros(rows)
    for at in range(0, 257, width):
        ahead += ahead_in(logits[:, at : at + width], wanted - at, own)
    order = logits.sort(dim=-1, descending=True, stable=True).indices
    assert torch.equal(ahead, (order == wanted[:, None]).float().argmax(-1).float())


def test_a_guess_that_its_slice_does_not_bear_out_is_made_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products with single columns may be rounded otherwise than those in slices; the places must not depend on it."""
    model = model_of("llama")
    (hidden, logits), (other, base_logits) = states(model), states(model, seed=7)
    readout, targets = Readout(model), torch.zeros(len(hidden), dtype=torch.long)
    right = readout._guess

    def wrong(entered: torch.Tensor, base: Any) -> torch.Tensor | None:
        found = right(entered, base)
        return found if found is None else found + 0.05

    monkeypatch.setattr(readout, "_guess", wrong)
    base = readout.base_side(readout.enter(other), targets, keep=True)
    figures = readout.figures(readout.enter(hidden), targets, base)
    assert torch.equal(figures.ahead, by_definition(logits, targets, base_logits)["ahead"].float())  # type: ignore[arg-type]


def test_a_soft_cap_is_found_out_and_a_plain_head_is_sliced() -> None:
    assert Readout(model_of("llama")).slices
    assert not Readout(model_of("gemma2")).slices  # soft cap behind the unembedding


@pytest.mark.parametrize("family", FAMILIES)
def test_the_base_against_itself_has_no_divergence(family: str) -> None:
    model = model_of(family)
    hidden, logits = states(model)
    readout, targets = Readout(model), torch.randint(0, VOCAB, (len(hidden),))
    base = readout.base_side(readout.enter(hidden), targets, keep=True)
    figures = Readout(model).figures(readout.enter(hidden), targets, base)
    assert figures.kl is not None
    assert torch.allclose(figures.nll, torch.nn.functional.cross_entropy(logits, targets, reduction="none"), atol=1e-5)
    assert not figures.kl.any()
    assert (figures.kept(1) == 1).all()


@pytest.mark.parametrize("vocab", VOCABULARIES)
def test_the_floor_of_kl_does_not_grow_with_the_vocabulary(vocab: int) -> None:
    """Of states that differ by less than a rounding, KL is 0 within 1e-6 nats."""
    model = build_model("llama", vocab_size=vocab, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    readout, generator = Readout(model), torch.Generator().manual_seed(3)
    one = 8 * torch.randn((40, 32), generator=generator)
    targets = torch.zeros(40, dtype=torch.long)
    base = readout.base_side(readout.enter(one), targets, keep=True)
    kl = readout.figures(readout.enter(one * (1 + 1e-7)), targets, base).kl
    assert kl is not None
    assert kl.abs().max() < 3e-6
    assert abs(float(kl.mean())) < 1e-6


@settings(max_examples=30)
@given(scale=st.sampled_from([1e-3, 1.0, 30.0]), seed=st.integers(0, 10**6))
def test_kl_is_never_negative_beyond_rounding(scale: float, seed: int) -> None:
    model, generator = model_of("llama"), torch.Generator().manual_seed(seed)
    one, two = (scale * torch.randn((6, 32), generator=generator) for _ in range(2))
    readout, targets = Readout(model), torch.zeros(6, dtype=torch.long)
    base = readout.base_side(readout.enter(two), targets, keep=False)
    figures = readout.figures(readout.enter(one), targets, base)
    assert figures.kl is not None
    assert figures.kl.min() > -1e-5


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("nonsense", [float("nan"), float("inf")])
def test_what_is_no_number_has_no_figures(family: str, nonsense: float) -> None:
    model = model_of(family)
    hidden, _ = states(model)
    other, _ = states(model, seed=7)
    hidden = hidden.clone()
    hidden[4] = nonsense
    readout, targets = Readout(model), torch.zeros(len(hidden), dtype=torch.long)
    figures = readout.figures(
        readout.enter(hidden), targets, readout.base_side(readout.enter(other), targets, keep=True)
    )
    assert figures.kl is not None
    for values in (figures.nll, figures.kl, figures.kept(1), figures.kept(5)):
        assert values.isnan().nonzero()[:, 0].tolist() == [4]


def test_work_stops_between_chunks_and_between_layers() -> None:
    calls: list[int] = []

    def look() -> None:
        calls.append(1)
        if len(calls) > 3:
            raise Stopped("enough")

    model = model_of("llama")
    readout, targets = Readout(model), torch.zeros(18, dtype=torch.long)
    entered = readout.enter(states(model)[0])
    for _ in range(3):
        readout.figures(entered, targets, look=look)
    with pytest.raises(Stopped):
        readout.figures(entered, targets, look=look)
    calls.clear()
    ran: list[int] = []
    ids = tokens(1, 5, 0)
    batch = Batch(ids, torch.ones_like(ids), *([torch.zeros(1, dtype=torch.long)] * 5))

    class Counting(torch.nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            ran.append(1)
            return hidden

    from surgery_core.surgery.in_place import ModelSurgery

    with ModelSurgery(model).replace_layers([0, 1, 2, 3], [Counting() for _ in range(4)]), pytest.raises(Stopped):
        readout.read(batch, look)
    assert len(ran) == 2  # asked before the run and before each layer; the fourth time it says stop


def test_models_of_other_vocabularies_are_not_compared() -> None:
    one, two = (
        build_model("llama", vocab_size=size, bos_token_id=1, eos_token_id=2, pad_token_id=0) for size in (131, 140)
    )
    targets = torch.zeros(3, dtype=torch.long)
    base = Readout(one).base_side(torch.zeros(3, 32), targets, keep=True)
    with pytest.raises(PlanError, match="131 tokens and the other of 140"):
        Readout(two).figures(torch.zeros(3, 32), targets, base)


@settings(deadline=None)
@given(st.data())
def test_how_many_come_before_a_token_is_counted_as_by_hand_with_ties_and_infinities(data: st.DataObject) -> None:
    values = st.sampled_from([-math.inf, -3.0, -3.0000002, 0.0, -0.0, 1.5, math.inf])
    row = data.draw(st.lists(values, min_size=1, max_size=9))
    start = data.draw(st.integers(0, len(row) - 1))
    token = data.draw(st.integers(0, len(row) - 1))
    own = row[token]
    for first, last in ((0, len(row)), (0, start), (start, len(row))):
        by_hand = sum(
            value > own or (value == own and at < token)
            for at, value in enumerate(row) if first <= at < last
        )  # fmt: skip
        found = ahead_in(torch.tensor([row[first:last]]), torch.tensor([token - first]), torch.tensor([own]))
        assert found.item() == by_hand


def test_a_head_that_was_tried_is_tried_again_where_something_about_it_changed() -> None:
    """What is kept of a trial must not outlive a cap that somebody sets, nor weights that were no numbers."""
    model = build_model("gemma2")
    config = model.config.get_text_config()
    for cap, linear in ((None, True), (2.0, False), (None, True)):
        config.final_logit_softcapping = cap
        assert (Readout(model).slices, Readout(model).slices) == (linear, linear)
    broken = build_model("gemma2")
    broken.config.get_text_config().final_logit_softcapping = 2.0
    weights = broken.get_output_embeddings().weight
    kept = weights.detach().clone()
    weights.data.fill_(torch.nan)
    Readout(broken)
    weights.data.copy_(kept)
    assert not Readout(broken).slices


@pytest.mark.parametrize(("vocab", "rows"), [(131, 16_008), (4_096, 512), (50_257, 128), (128_256, 128), (262_144, 64)])
def test_a_product_with_the_unembedding_has_rows_enough_and_is_bounded(vocab: int, rows: int) -> None:
    found = rows_at_once(vocab, torch.device("cpu"))
    assert found == rows
    assert found * vocab <= max(2**24, 2**21)


@pytest.mark.parametrize("shape", [(1, 130, 50_257), (3, 40, 50_257), (2, 9, 131), (1, 1, 262_144)])
def test_pieces_are_all_positions_once_and_fit_a_cache(shape: tuple[int, int, int]) -> None:
    parts = list(pieces(torch.empty(shape, device="meta")))
    assert [at for part in parts for at in range(part.start, part.stop)] == list(range(shape[1]))
    cpu = list(pieces(torch.empty(1).expand(shape)))
    assert [at for part in cpu for at in range(part.start, part.stop)] == list(range(shape[1]))
    assert all(shape[0] * (part.stop - part.start) * shape[2] <= 2**21 or part.stop - part.start == 1 for part in cpu)
