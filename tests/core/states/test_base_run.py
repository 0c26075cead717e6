"""An edit costs only what it changed, and its figures are those of a whole run."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import surgery_core as sc
from surgery_core.measure import compare as module
from surgery_core.measure.encoding import encode_texts
from surgery_core.states import base_run
from surgery_core.states.base_run import BaseRun, can_be_kept
from surgery_core.states.windows import Batch
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.recording import watched
from tests.core.support import zoo
from tests.tiny import build_model, build_tokenizer

TEXTS = ["It was a dark night and the wolf came.", "Once upon a time.", "x" * 200]
FAMILIES = ("llama", "gpt2", "gemma2", "opt", "bloom", "gpt_neox", "falcon_h1")
tokenizer = cache(build_tokenizer)
model_of = cache(build_model)


@cache
def reference(family: str) -> Any:
    return sc.reference(model_of(family), tokenizer(), texts_of(family))


def texts_of(family: str) -> list[str]:
    """Return the texts that a family is tried on; a long one takes minutes where states are scanned token by token."""
    return TEXTS[:2] if family in SLOW else TEXTS


def by_definition(view: Any, text: str) -> float:
    """Return the mean loss of one text in windows that the tiny models' context of 128 allows, from whole logits."""
    ids = torch.tensor([tokenizer()(text).input_ids])
    with torch.inference_mode():
        logp = view(ids, use_cache=False).logits[0, :-1].double().log_softmax(-1)
    return float(-logp.gather(-1, ids[0, 1:, None]).mean())


PLANS = ("0,2,3", "1,2,3", "0-2", "0,2,1,3", "0,1,1,2,3", "0,1,2*0.5,3", "0,1,(2|3)", "0-3")
SLOW = {"falcon_h1": ("0,2,1,3",)}
"""A plan of a family whose layers scan their states token by token here."""


@pytest.mark.parametrize(("family", "plan"), [(one, plan) for one in FAMILIES for plan in SLOW.get(one, PLANS)])
def test_the_loss_is_that_of_the_view_run_whole(family: str, plan: str) -> None:
    view = sc.operate(model_of(family), plan)
    found = sc.compare(reference(family), view, tokenizer(), texts_of(family))
    for row, text in zip(found.operated.rows[:2], TEXTS[:2], strict=True):
        assert row.nats / row.n_tokens == pytest.approx(by_definition(view, text), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_layers_from_the_change_on_run(family: str) -> None:
    kept = reference(family)
    view = sc.operate(model_of(family), "0-1,3")
    assert kept.run.starts(view)
    ran: list[int] = []
    with watched(find_layers(view)[1], lambda number, call: ran.append(number)):
        sc.compare(kept, view, tokenizer(), texts_of(family))
    assert ran == [2] * len(kept.encoded.batches)


def test_the_unchanged_model_runs_no_layer() -> None:
    kept, view = reference("llama"), sc.operate(model_of("llama"), "0-3")
    with watched(find_layers(view)[1], lambda number, call: pytest.fail("a layer ran")):
        found = sc.compare(kept, view, tokenizer(), TEXTS)
    assert (found.kl, found.top1) == (0.0, 1.0)


slots = st.sampled_from(["0", "1", "2", "3", "1*0.5", "2.attn", "3.mlp", "(1|2)"])


@settings(max_examples=40)
@given(st.lists(slots, min_size=1, max_size=6), st.sampled_from([0, 10_000, 2**27]))
def test_whatever_is_kept_figures_equal_a_whole_run(plan: list[str], memory: int) -> None:
    model = model_of("llama")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_run, "KEPT_BYTES", memory)
        patch.setattr(BaseRun.__init__, "__defaults__", (memory,))
        kept = sc.reference(model, tokenizer(), TEXTS)
        view = sc.operate(model, ",".join(plan))
        found = sc.compare(kept, view, tokenizer(), TEXTS)
        patch.setattr(module, "can_be_kept", lambda model: False)
        whole = sc.compare(model, view, tokenizer(), TEXTS)
    assert kept.run is not None
    assert found.kl == pytest.approx(whole.kl, abs=1e-5)
    assert (found.top1, found.top5) == pytest.approx((whole.top1, whole.top5), abs=1e-9)
    assert found.operated.perplexity == pytest.approx(whole.operated.perplexity, rel=1e-5)


def test_beyond_the_bound_every_nth_state_is_kept() -> None:
    model = build_model("llama", num_hidden_layers=12)
    batches = encode_texts(model, tokenizer(), TEXTS).batches
    one = sum(batch.input_ids.numel() * 32 * 4 for batch in batches)
    run = BaseRun(model, batches, memory=5 * one)
    for number in range(len(batches)):
        run.record(number)
    assert run.every == 4
    assert [sorted(states) for states in run._states] == [[0, 4, 8, 12]] * len(batches)
    held = sum(state.numel() * 4 for states in run._states for state in states.values())
    assert held == 4 * one
    assert run._kept == held


def test_means_donors_other_bases_and_models_in_place_run_whole() -> None:
    model, other = model_of("llama"), build_model("llama", seed=1)
    run = reference("llama").run
    means = sc.mean_contributions(model, tokenizer(), [sc.Text("A text", TEXTS[0])])
    assert not run.starts(sc.operate(model, "0,mean(1),2,3", means=means))
    assert not run.starts(sc.operate(model, "0,d:1,2,3", donors={"d": other}))
    assert not run.starts(sc.operate(other, "0,2,3"))
    assert not run.starts(sc.operate(sc.operate(model, "0,2,3"), "0,1"))
    assert not run.starts(sc.operate(model, ""))
    with sc.ModelSurgery(model).delete_layers([1]) as operated:
        assert not run.starts(operated)


def test_a_view_of_a_view_starts_from_a_reference_of_the_first() -> None:
    first = sc.operate(model_of("llama"), "0,2,1,3")
    kept = sc.reference(first, tokenizer(), TEXTS)
    second = sc.operate(first, "0-2")
    assert kept.run is not None
    assert kept.run.starts(second)
    found = sc.compare(kept, second, tokenizer(), TEXTS)
    assert found.operated.rows[0].nats / found.operated.rows[0].n_tokens == pytest.approx(
        by_definition(second, TEXTS[0]), rel=1e-5
    )


@pytest.mark.parametrize("model_type", ["reformer", "xlnet", "gemma3n_text", "deepseek_v4"])
def test_models_whose_states_are_not_one_vector_a_token_run_whole(model_type: str) -> None:
    assert not can_be_kept(zoo.build(model_type))


def test_where_a_layer_rests_on_text_alone_nothing_starts_in_the_middle() -> None:
    model = zoo.build("mllama")
    run = BaseRun(model, [batch_of(torch.arange(1, 9)[None])])
    run.record(0)
    assert not run.starts(sc.operate(model, "0-2"))


def batch_of(ids: torch.Tensor) -> Batch:
    nothing = torch.zeros(0, dtype=torch.long)
    return Batch(ids, torch.ones_like(ids), nothing, nothing, nothing, nothing, nothing)


def test_threads_share_a_run() -> None:
    model, plans = model_of("llama"), ["0,2,3", "0,1,3", "0-2", "0,2,1,3", "1,2,3", "0,1,1,2,3"] * 3
    kept = sc.reference(model, tokenizer(), TEXTS)
    expected = {plan: sc.compare(kept, sc.operate(model, plan), tokenizer(), TEXTS).kl for plan in set(plans)}
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda plan: sc.compare(kept, sc.operate(model, plan), tokenizer(), TEXTS).kl, plans))
    assert found == [expected[plan] for plan in plans]


def test_it_stops_within_a_layer() -> None:
    kept, stop = reference("llama"), threading.Event()
    view = sc.operate(model_of("llama"), "1,0,2,3")
    assert kept.run.starts(view)
    ran: list[int] = []

    def called(number: int, call: Any) -> None:
        ran.append(number)
        stop.set()

    with pytest.raises(sc.Stopped), watched(find_layers(view)[1], called):
        sc.compare(kept, view, tokenizer(), TEXTS, stop=stop)
    assert ran == [0]
    with pytest.raises(sc.Stopped):
        sc.reference(model_of("llama"), tokenizer(), TEXTS, stop=stop)
