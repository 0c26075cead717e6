"""Edits against edits, and deletions, against a Llama that is run layer by layer by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from surgery_core.errors import SettingsError
from surgery_core.studies.deleting import delete_each
from surgery_core.studies.edits import EDITS, edit_against_edit
from surgery_core.studies.finding import Claim
from surgery_core.studies.measuring import chosen_texts, spaced
from surgery_core.text import Text
from tests.core.support.plain_llama import Step, constant, half, logp, losses, predictions, ratio, run, whole

MIDDLE = range(1, 5)


def ids_of(tokenizer: Any, texts: Any) -> list[list[int]]:
    return [tokenizer(text.text)["input_ids"] for text in texts]


def test_the_run_by_hand_is_the_models_own(six_layers: Any, tiny_tokenizer: Any, ten_texts: Any) -> None:
    for ids in ids_of(tiny_tokenizer, ten_texts):
        own = six_layers(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        torch.testing.assert_close(logp(six_layers, run(six_layers, ids, whole(*range(6)))[-1]), own, atol=1e-4, rtol=0)


def slots(edit: str, at: int, times: int, means: torch.Tensor) -> list[Step]:
    """Return the slots of a plan in which a layer is edited, written out."""
    before, after = whole(*range(at)), whole(*range(at + 1, 6))
    own = {
        "nothing": whole(at),
        "delete": [],
        "delete the attention": half(at, "mlp"),
        "delete the MLP": half(at, "attn"),
        "repeat": whole(at) * times,
        "repeat damped": whole(at, factor=1 / times) * times,
        "put its mean": constant(means[at]),
    }
    if edit == "swap with the next":
        return [*before, *whole(at + 1, at), *whole(*range(at + 2, 6))]
    return [*before, *own[edit], *after]


def by_hand(model: Any, texts: list[list[int]], edit: str, times: int, means: torch.Tensor) -> np.ndarray:
    """Return the summed change of loss of each text, mean over the middle layers."""
    layers = MIDDLE if edit != "swap with the next" else range(1, 4)
    found = []
    for ids in texts:
        base = losses(model, ids, whole(*range(6))).sum()
        found.append(np.mean([losses(model, ids, slots(edit, at, times, means)).sum() - base for at in layers]))
    return np.array(found)


@pytest.mark.parametrize("edit", EDITS)
def test_a_figure_is_the_mean_over_layers_paired_over_texts(
    edit: str, six_layers: Any, tiny_tokenizer: Any, ten_texts: Any, setup_of: Any
) -> None:
    # the first eight are scored; means come from the two others
    texts = ids_of(tiny_tokenizer, ten_texts)
    scored, others = (
        [texts[at] for at in spaced(range(10), 8)],
        [texts[at] for at in range(10) if at not in spaced(range(10), 8)],
    )
    streams = [torch.stack(run(six_layers, ids, whole(*range(6)))).double() for ids in others]
    means = torch.cat([states[1:] - states[:-1] for states in streams], dim=1).mean(1).float()
    ours, theirs = (by_hand(six_layers, scored, name, 3, means) for name in (edit, "delete"))
    expected = ratio(ours - theirs, [len(ids) - 1 for ids in scored])
    figure = edit_against_edit(setup_of("damped-loops", edit=edit, against="delete", times=3, texts=8)).figure
    assert (figure.value, figure.low, figure.high) == pytest.approx(expected, abs=2e-5)
    assert (figure.n_units, figure.unit) == (8, "text")


def test_an_edit_against_itself_is_exactly_nothing(setup_of: Any) -> None:
    found = edit_against_edit(setup_of("swap-against-delete", edit="repeat", against="repeat"))
    assert (found.figure.value, found.figure.low, found.figure.high) == (0, 0, 0)


def test_against_nothing_it_is_the_change_itself_and_counts_layers(
    six_layers: Any, tiny_tokenizer: Any, ten_texts: Any, setup_of: Any
) -> None:
    found = edit_against_edit(setup_of("repeat-each", texts=0))
    texts = ids_of(tiny_tokenizer, ten_texts)
    sizes = [len(ids) - 1 for ids in texts]
    surely = []
    for at in range(6):
        changes = [
            losses(six_layers, ids, [*whole(*range(at)), *whole(at, at), *whole(*range(at + 1, 6))]).sum()
            - losses(six_layers, ids, whole(*range(6))).sum()
            for ids in texts
        ]
        value, low, high = ratio(changes, sizes)
        row = found.frame.loc[found.frame["layer"] == f"L{at}"].iloc[0]
        assert (row["change"], row["low"], row["high"]) == pytest.approx((value, low, high), abs=2e-5)
        surely.append(low > 0)
    more = next(one for one in found.others if one.name == "Layers where it surely costs more")
    assert more.value == pytest.approx(np.mean(surely))
    assert "mean over layers" in found.figure.name


def test_layers_can_be_chosen_and_are_thinned_evenly(setup_of: Any) -> None:
    found = edit_against_edit(setup_of("repeat-each", layers="second half", texts=8))
    assert list(found.frame["layer"]) == ["L3", "L4"]
    found = edit_against_edit(setup_of("repeat-each", layers_at_most=3, texts=8))
    assert list(found.frame["layer"]) == ["L0", "L2", "L5"]


def test_what_a_model_does_not_allow_is_said(tiny_model: Any, setup_of: Any) -> None:
    # layers of a Mamba have one mixer each and no halves
    mamba = tiny_model("mamba", num_hidden_layers=4, hidden_size=32, state_size=8)
    with pytest.raises(SettingsError, match="No layer of this model allows the edit 'delete the attention': "):
        edit_against_edit(setup_of("attention-against-mlp", model=mamba))


def test_kept_predictions_are_counted_layer_by_layer(
    six_layers: Any, tiny_tokenizer: Any, ten_texts: Any, setup_of: Any
) -> None:
    texts = ids_of(tiny_tokenizer, ten_texts)
    sizes = [len(ids) - 1 for ids in texts]
    before = [predictions(six_layers, ids, whole(*range(6))) for ids in texts]
    kept = np.array(
        [
            [
                int((predictions(six_layers, ids, whole(*(k for k in range(6) if k != at))) == own).sum())
                for ids, own in zip(texts, before, strict=True)
            ]
            for at in range(6)
        ]
    )
    found = delete_each(setup_of("delete-each"))
    value, low, high = ratio(kept[1:5].mean(0), sizes)
    assert (found.figure.value, found.figure.low, found.figure.high) == pytest.approx((value, max(0, low), high))
    for at in range(6):
        row = found.frame.iloc[at]
        value, low, high = ratio(kept[at], sizes)
        assert (row["kept"], row["low"], row["high"]) == pytest.approx((value, max(0, low), min(1, high)))
    difference = delete_each(setup_of("delete-each", figure="first against middle")).figure
    assert (difference.value, difference.low, difference.high) == pytest.approx(
        ratio(kept[1:5].mean(0) - kept[0], sizes)
    )


def test_the_interval_is_students_where_texts_are_of_one_length(
    six_layers: Any, tiny_tokenizer: Any, setup_of: Any
) -> None:
    texts = tuple(Text(f"T{n}", f"Numbers {n:04d} and {n * 7:05d} end.") for n in range(9))
    figure = edit_against_edit(setup_of("swap-against-delete", read=texts)).figure
    ids = ids_of(tiny_tokenizer, texts)
    means = torch.zeros(6, 32)
    change = by_hand(six_layers, ids, "swap with the next", 2, means) - by_hand(six_layers, ids, "delete", 2, means)
    each = change / (len(ids[0]) - 1)
    low, high = stats.t.interval(0.95, 8, each.mean(), stats.sem(each))
    assert (figure.value, figure.low, figure.high) == pytest.approx((each.mean(), low, high), abs=2e-5)


def test_few_texts_are_cut_into_blocks_and_say_so(ten_texts: Any, setup_of: Any) -> None:
    figure = edit_against_edit(setup_of("swap-against-delete", texts=3)).figure
    assert figure.unit == "block of 16 tokens"
    assert Claim(at_most=0.0).outcome(figure) in ("seen here too", "not seen here", "too few texts to say")


def test_texts_are_taken_evenly(setup_of: Any) -> None:
    assert [text.title for text in chosen_texts(setup_of("delete-each", texts=3))] == ["Text 0", "Text 4", "Text 9"]
    assert len(chosen_texts(setup_of("delete-each", texts=0))) == 10
