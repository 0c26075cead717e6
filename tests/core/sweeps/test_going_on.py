"""Removal and importance go on from where they were, and are written to files and read from them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import surgery_core as sc
from surgery_core.errors import SettingsError, SweepFileError
from surgery_core.measure import importance as reading
from surgery_core.measure.encoding import Encoded, encode_texts
from surgery_core.measure.importance import Importance, Reading, importance, read_on
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.file import SweepIdentity, SweepResult
from surgery_core.sweeps.importance_file import ImportanceResult, read_result
from surgery_core.sweeps.removal import Removal, remove_greedily
from surgery_core.sweeps.request import GREEDY, IMPORTANCE, any_kind
from surgery_core.sweeps.rows import LATER
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.text import Text
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import build

model_of = cache(build)
TEXTS = (
    Text("Fox", "The fox said: how do you do?"),
    Text("Night", "It was a dark night, and the wolf came. " * 4),
    Text("Door", "The wolf came to the door."),
)
ARRAYS = ("block_influence", "contribution_norm", "angular", "similarity")


def encoded() -> Encoded:
    return encode_texts(model_of("llama"), byte_tokenizer(), TEXTS)


@cache
def removal(beam: int) -> tuple[Removal, ...]:
    """Return all steps of a removal that nothing breaks off."""
    return tuple(remove_greedily(model_of("gpt2"), byte_tokenizer(), TEXTS, beam=beam, least=0))


@cache
def readings() -> tuple[Reading, ...]:
    return tuple(read_on(model_of("llama"), encoded()))


def timeless(steps: Any) -> list[str]:
    """Return steps as text with every digit of every figure, but for how long they took."""
    return [repr(replace(step, row=replace(step.row, seconds=0.0))) for step in steps]


def same(one: Importance, other: Importance) -> bool:
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in ARRAYS)
    plain = ("labels", "n_tokens", "n_texts", "read", "windows")
    return arrays and all(getattr(one, name) == getattr(other, name) for name in plain)


@settings(max_examples=12, deadline=None)
@given(beam=st.integers(1, 3), at=st.integers(0, 4))
def test_a_removal_that_goes_on_is_the_one_that_was_never_broken_off(beam: int, at: int) -> None:
    whole, told = removal(beam), []
    rest = remove_greedily(
        model_of("gpt2"), byte_tokenizer(), TEXTS, beam=beam, least=0, before=whole[at],
        on_progress=lambda done, most: told.append(done),
    )  # fmt: skip
    assert timeless(rest) == timeless(whole[at + 1 :])
    # what was tried before is not tried again: one plan more at a time from there on
    assert told == list(range(whole[at].tried + 1, whole[at].tried + 1 + len(told)))
    assert whole[at].tried + len(told) == whole[-1].tried


def test_steps_are_numbered_as_the_rows_of_a_sweep() -> None:
    steps = removal(1)
    assert [(step.row.number, step.row.x) for step in steps] == [(-1, 4), (0, 3), (1, 2), (2, 1), (3, 0)]
    assert [step.row.y for step in steps] == [None, *(step.removed for step in steps[1:])]
    # of 4 layers, then of 3, of 2 and of 1, one plan without each
    assert [step.tried for step in steps] == [0, 4, 7, 9, 10]


def test_a_removal_is_read_from_its_file_and_cannot_go_on_from_there() -> None:
    steps = removal(2)
    identity = SweepIdentity.named("m", GREEDY.key, steps[0].plan, encoded(), {"beam": 2, "least": 0}, SweepMeasures())
    result = SweepResult(identity, tuple(step.row for step in steps))
    for text in (result.to_csv(), result.to_json()):
        found = read_result(text)
        assert isinstance(found, SweepResult)
        assert found.identity == identity
        again = [Removal.of(row, 4) for row in found.rows]
        assert [(one.layers_left, one.plan, one.removed) for one in again] == [
            (step.layers_left, step.plan, step.removed) for step in steps
        ]
        assert [one.row.nats for one in again] == [step.row.nats for step in steps]
        with pytest.raises(SettingsError, match="cannot go on from a step of a file"):
            remove_greedily(model_of("gpt2"), byte_tokenizer(), TEXTS, before=again[1])


@given(at=st.integers(1, 9))
@settings(max_examples=9, deadline=None)
def test_importance_that_goes_on_is_the_one_that_was_never_broken_off(at: int) -> None:
    whole = readings()
    at = min(at, len(whole) - 1)
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        real = reading.residuals
        patch.setattr(reading, "residuals", lambda *given, **more: (seen.append(1), real(*given, **more))[1])
        *_, last = read_on(model_of("llama"), encoded(), whole[at - 1])
    assert len(seen) == len(whole) - at, "windows that were read are not read again"
    assert same(last.result(), whole[-1].result())
    assert same(last.result(), importance(model_of("llama"), byte_tokenizer(), TEXTS))


def test_a_reading_that_was_handed_out_stays_as_it_was() -> None:
    first, *_ = read_on(model_of("llama"), encoded())
    assert same(first.result(), readings()[0].result())
    # the first text is one window, so what was read then is the importance over that text alone
    alone = importance(model_of("llama"), byte_tokenizer(), TEXTS[:1])
    assert same(first.result(), replace(alone, read=1, windows=len(readings())))


def test_before_a_text_has_ended_there_is_no_angle() -> None:
    long = encode_texts(model_of("llama"), byte_tokenizer(), TEXTS[1:2])
    first = next(iter(read_on(model_of("llama"), long)))
    assert (first.read, first.n_texts) == (1, 0)
    assert first.windows > 1
    assert np.isnan(first.result().angular).all()
    assert np.isfinite(first.result().similarity).all()


@pytest.mark.parametrize("at", [0, -1])
def test_importance_is_read_from_its_file_as_it_was(at: int) -> None:
    found = readings()[at].result()
    identity = SweepIdentity.named("m", IMPORTANCE.key, LayerPlan.identity(4), encoded())
    result = ImportanceResult(identity, found)
    for text in (result.to_csv(), result.to_json()):
        again = read_result(text)
        assert isinstance(again, ImportanceResult)
        assert again.identity == identity
        assert same(again.found, found)


def test_a_file_says_what_the_layers_do_in_columns_that_read_by_themselves() -> None:
    found = readings()[-1].result()
    identity = SweepIdentity.named("m", IMPORTANCE.key, LayerPlan.identity(4), encoded())
    lines = {(line["place"], line["to"]): line for line in ImportanceResult(identity, found).records()}
    assert len(lines) == 25
    assert lines[2, 3]["layer"] == "L1", "behind L1, which is the second layer"
    assert 1 - lines[2, 3]["cosine"] == pytest.approx(found.block_influence[2])
    assert lines[2, 3]["added"] == found.contribution_norm[2]
    assert lines[0, 3]["angle"] == found.angular[0, 2]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[: text.rindex("m,")], "24 lines are not one for every two places"),
        (lambda text: text.replace(",windows\n", ",window\n"), "'windows'"),
        (lambda text: text.replace("m,importance", "n,importance", 1), "holds another sweep"),
        (lambda text: text.replace(",L0,", ",L0,x"), "could not convert"),
    ],
)
def test_a_broken_file_of_importance_is_refused_with_its_reason(change: Any, reason: str) -> None:
    identity = SweepIdentity.named("m", IMPORTANCE.key, LayerPlan.identity(4), encoded())
    text = ImportanceResult(identity, readings()[-1].result()).to_csv()
    with pytest.raises(SweepFileError, match=reason):
        read_result(change(text), "mine.csv")


def test_a_sweep_of_version_0_1_still_opens() -> None:
    """By hand: a file without the columns that came later, and without `best` among its measures."""
    columns = [
        "sweep_model", "sweep_kind", "sweep_start", "sweep_options", "sweep_measures", "sweep_texts", "number", "x", "y",
        "plan", "nats", "loss_change", "perplexity", "bits_per_byte", "kl", "top1", "top5", "seconds", "refused",
        "skill_accuracy",
    ]  # fmt: skip
    assert not set(columns) & set(LATER)
    head = 'fable,delete,0-3,"{""times"": 2}","{}","1 text, 0",'
    lines = [
        ",".join(columns), head + "-1,start,,0-3,1.0,0.0,2.7,1,0,1,1,0.1,,", head + "0,0,,1-3,2.0,1.0,7.4,2,1,0,1,0.1,,",
    ]  # fmt: skip
    found = read_result("\n".join(lines) + "\n")
    assert isinstance(found, SweepResult)
    assert [(row.number, row.plan, row.nats) for row in found.rows] == [(-1, "0-3", 1.0), (0, "1-3", 2.0)]


def test_kinds_are_found_by_their_keys() -> None:
    assert [any_kind(key).title for key in ("greedy", "importance", "delete")] == [
        "Greedy removal", "Importance", "Delete each layer",
    ]  # fmt: skip
    with pytest.raises(SettingsError, match="no sweep 'dance'"):
        any_kind("dance")


def test_a_removal_of_layers_of_another_model_and_of_means_is_measured_as_their_views_are() -> None:
    model, other = model_of("llama"), build("llama")
    with torch.no_grad():
        for layer in other.model.layers:
            layer.mlp.down_proj.weight *= 1.5
    tokenizer, means = byte_tokenizer(), sc.mean_contributions(model, byte_tokenizer(), TEXTS)
    start = LayerPlan.parse("0,mean(1),other:2", len(model.model.layers))
    steps = list(remove_greedily(model, tokenizer, TEXTS, start=start, donors={"other": other}, means=means, least=1))
    assert [step.layers_left for step in steps] == [3, 2, 1]
    for step in steps:
        view = sc.operate(model, step.plan, donors={"other": other}, means=means)
        assert step.row.perplexity == pytest.approx(sc.score(view, tokenizer, TEXTS).perplexity, rel=1e-5)
