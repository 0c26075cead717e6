"""The middle painted in six ways, the end dropped, and curves of removal, against a Llama that is run by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from surgery_core.errors import SettingsError
from surgery_core.measure.skills import load_skills, score_skills
from surgery_core.statistics.jackknife import jackknife_interval, left_out
from surgery_core.studies.dropping import deepest_but_last, removal_curve
from surgery_core.studies.growing import crossing, kept_above_chance, layers_until, quiz_and_prose
from surgery_core.studies.painting import kendall_with_order, one_against_another, painters_order
from surgery_core.surgery.view import operate
from tests.core.studies.test_edits import ids_of
from tests.core.support.plain_llama import losses, ratio, run, together, whole

PAPER = ["looped parallel", "shuffle", "reverse", "parallel", "skip", "repeat centre"]
"""From the least to the most harmful: arXiv 2407.09298, figure 10."""

# every order that tests ask for, of sizes 2 and 4 of six layers
WRITTEN = {
    ("skip", 2): whole(0, 1, 4, 5),
    ("skip", 4): whole(0, 5),
    ("reverse", 2): whole(0, 1, 3, 2, 4, 5),
    ("reverse", 4): whole(0, 4, 3, 2, 1, 5),
    ("parallel", 2): [*whole(0, 1), *together(2, 3), *whole(4, 5)],
    ("parallel", 4): [*whole(0), *together(1, 2, 3, 4), *whole(5)],
    ("looped parallel", 2): [*whole(0, 1), *together(2, 3) * 3, *whole(4, 5)],
    ("looped parallel", 4): [*whole(0), *together(1, 2, 3, 4) * 3, *whole(5)],
    ("repeat centre", 2): whole(0, 1, 3, 3, 4, 5),
    ("repeat centre", 4): whole(0, 3, 3, 3, 3, 5),
}


def changes(model: Any, texts: list[list[int]], steps: Any) -> np.ndarray:
    """Return the summed change of loss of each text."""
    return np.array([losses(model, ids, steps).sum() - losses(model, ids, whole(*range(6))).sum() for ids in texts])


@pytest.mark.parametrize("pair", [("looped parallel", "parallel"), ("repeat centre", "skip"), ("reverse", "skip")])
def test_two_changes_of_the_middle(
    pair: tuple[str, str], six_layers: Any, tiny_tokenizer: Any, ten_texts: Any, setup_of: Any
) -> None:
    texts = ids_of(tiny_tokenizer, ten_texts)
    sides = [np.mean([changes(six_layers, texts, WRITTEN[name, size]) for size in (2, 4)], axis=0) for name in pair]
    setup = setup_of("middle-against-middle", first=pair[0], second=pair[1], sizes=[4, 2])
    figure = one_against_another(setup).figure
    expected = ratio(sides[0] - sides[1], [len(ids) - 1 for ids in texts])
    assert (figure.value, figure.low, figure.high) == pytest.approx(expected, abs=2e-5)


def test_the_order_of_six_is_held_against_the_papers(
    six_layers: Any, tiny_tokenizer: Any, ten_texts: Any, setup_of: Any
) -> None:
    found = painters_order(setup_of("painters", sizes=[2, 4], shuffles=2))
    texts = ids_of(tiny_tokenizer, ten_texts)
    sizes = np.array([len(ids) - 1 for ids in texts])
    shown = {(row.variant, row.size): row.change for row in found.frame.itertuples()}
    for (name, size), steps in WRITTEN.items():
        assert shown[name, size] == pytest.approx(changes(six_layers, texts, steps).sum() / sizes.sum(), abs=2e-5)
    # the shuffles' orders are the library's own; their figure is taken from the picture
    means = [np.mean([shown[name, size] for size in (2, 4)]) for name in PAPER]
    assert found.figure.value == pytest.approx(stats.kendalltau(range(6), means).statistic)
    assert -1 <= found.figure.low <= found.figure.high <= 1
    assert [one.value for one in found.others] == sorted(one.value for one in found.others)


def test_sizes_that_do_not_fit_are_refused(setup_of: Any) -> None:
    with pytest.raises(SettingsError, match=r"'sizes' cannot be \[5\] here; give sizes of 2 to 4"):
        painters_order(setup_of("painters", sizes=[5]))


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8, unique=True))
def test_kendall_is_scipys(losses_in_order: list[float]) -> None:
    expected = stats.kendalltau(range(len(losses_in_order)), losses_in_order).statistic
    assert kendall_with_order(np.array(losses_in_order)) == pytest.approx(expected)


def test_kendall_of_what_is_no_number_is_none() -> None:
    assert np.isnan(kendall_with_order(np.array([1.0, math.nan, 2.0])))


def test_the_deepest_but_the_last_against_others(
    six_layers: Any, tiny_tokenizer: Any, ten_texts: Any, setup_of: Any
) -> None:
    texts = ids_of(tiny_tokenizer, ten_texts)
    sizes = [len(ids) - 1 for ids in texts]
    # where the stream turns least over two layers, by hand at each text's last token
    ends = [np.stack([s[-1].double().numpy() for s in run(six_layers, ids, whole(*range(6)))]) for ids in texts]
    units = [end / np.linalg.norm(end, axis=1, keepdims=True) for end in ends]
    angles = [np.mean([np.arccos(unit[at] @ unit[at + 2]) for unit in units]) for at in range(5)]
    least = int(np.argmin(angles))
    deepest, end = changes(six_layers, texts, whole(0, 1, 2, 5)), changes(six_layers, texts, whole(0, 1, 2, 3))
    block = changes(six_layers, texts, whole(*(at for at in range(6) if at not in (least, least + 1))))
    figure = deepest_but_last(setup_of("deepest-but-last", drop=2)).figure
    assert (figure.value, figure.low, figure.high) == pytest.approx(ratio(deepest - end, sizes), abs=2e-5)
    against = setup_of("deepest-but-last", drop=2, against="the block that turns least")
    figure = deepest_but_last(against).figure
    assert (figure.value, figure.low, figure.high) == pytest.approx(ratio(deepest - block, sizes), abs=2e-5)


def test_a_quarter_goes_by_default(setup_of: Any) -> None:
    found = deepest_but_last(setup_of("deepest-but-last"))
    assert "the 1 deepest but the last: L4" in found.others[0].name


def test_orders_of_removal(setup_of: Any, six_layers: Any, tiny_tokenizer: Any, ten_texts: Any) -> None:
    gone = {
        order: [plan.deleted for plan in removal_curve(setup_of("skip-middle-block"), order, 3).plans]
        for order in ("middle", "deepest but the last", "lowest Block Influence", "least turning block")
    }
    assert gone["middle"] == [(2,), (2, 3), (1, 2, 3)]
    assert gone["deepest but the last"] == [(4,), (3, 4), (2, 3, 4)]
    states = [
        np.stack([s.double().numpy() for s in run(six_layers, ids, whole(*range(6)))])
        for ids in ids_of(tiny_tokenizer, ten_texts)
    ]
    cosines = np.concatenate(
        [(s[1:] * s[:-1]).sum(-1) / np.linalg.norm(s[1:], axis=-1) / np.linalg.norm(s[:-1], axis=-1) for s in states],
        axis=1,
    )
    order = np.argsort(1 - cosines.mean(1)[:5])
    assert gone["lowest Block Influence"] == [tuple(sorted(order[:k].tolist())) for k in (1, 2, 3)]
    assert all(5 not in layers and len(layers) == k for k, layers in enumerate(gone["least turning block"], 1))


def test_how_many_layers_can_go(six_layers: Any, tiny_tokenizer: Any, ten_texts: Any, setup_of: Any) -> None:
    texts = ids_of(tiny_tokenizer, ten_texts)
    tokens = sum(len(ids) - 1 for ids in texts)
    left = [whole(0, 1, 3, 4, 5), whole(0, 1, 4, 5), whole(0, 4, 5), whole(0, 5), whole(5)]
    curve = [0.0, *(changes(six_layers, texts, steps).sum() / tokens for steps in left)]
    factor = math.exp(max(curve[1:3]) * 0.7)
    assert factor > 1.0, "the tiny model was chosen so that leaving its middle out hurts"
    expected = next(
        k - 1 + (math.log(factor) - curve[k - 1]) / (curve[k] - curve[k - 1])
        for k in range(1, 6)
        if curve[k] >= math.log(factor)
    )
    found = layers_until(setup_of("skip-middle-block", factor=factor))
    assert found.figure.value == pytest.approx(expected / 6, abs=1e-4)
    assert found.figure.low <= found.figure.value <= found.figure.high
    assert found.frame["kept"].tolist() == pytest.approx([math.exp(-change) for change in curve], abs=1e-4)
    assert layers_until(setup_of("skip-middle-block", factor=900.0)).figure.value == pytest.approx(5 / 6)


@given(st.lists(st.floats(0.01, 2.0), min_size=1, max_size=6), st.floats(0.005, 0.995), st.data())
def test_where_a_growing_loss_crosses_a_limit(rises: list[float], part: float, data: st.DataObject) -> None:
    losses_ = np.cumsum(rises)
    at = data.draw(st.integers(0, len(rises) - 1))
    limit = losses_[at] - rises[at] * (1 - part)
    gone = np.arange(1, len(rises) + 1)
    assert crossing(gone, losses_, limit) == pytest.approx(at + part)
    assert crossing(gone, losses_, losses_[-1] + 1) == len(rises)
    assert crossing(2 * gone, losses_, limit) == pytest.approx(2 * (at + part))
    assert math.isnan(crossing(gone, losses_ + math.nan, limit))


def test_what_is_left_of_a_quiz(six_layers: Any, tiny_tokenizer: Any, setup_of: Any) -> None:
    setup = setup_of("block-influence", factor=1.01, skills=["colours", "he_or_she"])
    plan = next(
        plan
        for plan, change in zip(
            removal_curve(setup, "lowest Block Influence", 5).plans,
            # the picture's own perplexities: their values are those of the test above
            -np.log(
                layers_until(setup_of("skip-middle-block", order="lowest Block Influence")).frame["kept"].to_numpy()[1:]
            ),
            strict=True,
        )
        if change >= math.log(1.01)
    )
    skills = [skill for skill in load_skills() if skill.name in ("colours", "he_or_she")]
    sides = [
        [
            (one.correct, 1 / (1 + len(one.item.wrong)))
            for result in score_skills(model, tiny_tokenizer, skills)
            for one in result.items
        ]
        for model in (six_layers, operate(six_layers, plan))
    ]
    found = quiz_and_prose(setup)
    assert found.note.startswith(f"Layers gone at that point: {', '.join(f'L{at}' for at in plan.deleted)}.")
    chance = np.array([part for _, part in sides[0]])
    rights = [np.array([right for right, _ in side], float) for side in sides]
    expected = kept_above_chance("", *rights, chance)
    np.testing.assert_equal((found.figure.value, found.figure.low), (expected.value, expected.low))
    assert ("no better than guessing" in found.note) == math.isnan(expected.value)
    before, after = found.others[1:]
    assert (before.value, after.value) == tuple(np.mean([right for right, _ in side]) for side in sides)


def test_what_is_kept_above_chance_is_a_ratio_over_items() -> None:
    chance = np.array([0.5] * 12 + [0.25] * 8)
    before, after = np.ones(20), np.array([1.0] * 9 + [0.0] * 3 + [1.0] * 7 + [0.0])
    found = kept_above_chance("", before, after, chance)
    # above chance 12 * 0.5 + 8 * 0.75 = 12 before, and 16 - 8 = 8 after
    assert found.value == pytest.approx(8 / 12)
    assert (found.value, found.low, found.high) == pytest.approx(ratio(after - chance, before - chance))
    assert kept_above_chance("", before, before, chance).value == 1
    # half of twelve right, where guessing has half of them: nothing is known to be above it
    guessing = np.array([1.0, 0.0] * 6)
    assert math.isnan(kept_above_chance("", guessing, guessing, np.full(12, 0.5)).value)


def test_a_jackknife_has_the_variance_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(3, 2, size=15)
    groups = left_out(15, 20)
    assert sorted(np.concatenate(groups).tolist()) == list(range(15))
    without = np.array([np.delete(values, group).mean() for group in groups])
    # leaving out one at a time gives Student's interval exactly
    expected = stats.t.interval(0.95, 14, values.mean(), stats.sem(values))
    assert jackknife_interval(values.mean(), without) == pytest.approx(expected)
    assert sorted(np.concatenate(left_out(100, 20)).tolist()) == list(range(100))
