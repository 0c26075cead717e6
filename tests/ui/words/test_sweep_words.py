"""The Sweep page's sentences about what was measured; what is expected is written by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from surgery_core.sweeps.findings import best_on_unseen
from surgery_core.sweeps.rows import SweepRow
from surgery_ui.words.sweeps import lower, ranked, removed, seen

NAMES = {0: "L0", 1: "L1", 2: "L2", 3: "L3"}


def row(number: int, change: float, verdict: str, **more: object) -> SweepRow:
    return SweepRow(number, number, None, str(number), nats=1 + change, loss_change=change, verdict=verdict, **more)  # type: ignore[arg-type]


FIRST = row(-1, 0.0, "")
ROWS = [
    FIRST,
    row(0, math.log(8), "worse"),
    row(1, 0.0, "no difference seen", change_low=-0.01, change_high=0.01),
    row(2, math.log(1.5), "worse"),
    row(3, -0.1, "better"),
]


def test_what_is_counted_and_which_ends_are_named() -> None:
    assert (
        seen(ROWS, NAMES, 0.02)
        == "Of 4 plans: 2 worse, 1 the same within 2 %, 1 better. L0 costs most (perplexity ×8.00), L3 least (×0.90)."
    )
    # the person counts less as the same
    assert seen(ROWS, NAMES, 0.005).startswith("Of 4 plans: 2 worse, 1 without a difference seen, 1 better.")


@pytest.mark.parametrize("rows", [[], [FIRST], [FIRST, ROWS[1]], [FIRST, ROWS[1], row(2, 0, "", refused="no")]])
def test_one_plan_is_no_sweep_yet(rows: list[SweepRow]) -> None:
    assert seen(rows, NAMES, 0.02) == ""


def test_a_ratio_that_overflows_and_rows_without_verdicts() -> None:
    assert (
        seen([FIRST, row(0, 900.0, ""), row(1, 0.1, "")], NAMES, 0.02) == "L0 costs most, L1 least (perplexity ×1.11)."
    )


def test_plans_that_were_left_early_are_neither_counted_nor_an_end() -> None:
    rows = [FIRST, ROWS[1], row(1, 0.1, "worse"), row(2, 5.0, "worse", left="Left after 8 of 60 texts.")]
    said = seen(rows, NAMES, 0.02)
    assert said == "Of 2 plans measured to the end: 2 worse. L1 costs least (perplexity ×1.11)."


@pytest.mark.parametrize(
    ("title", "inside"),
    [
        ("Change of loss", "change of loss"), ("Kendall's tau of the order", "Kendall's tau of the order"),
        ("KL to the output", "KL to the output"), ("", ""), ("A layer", "a layer"),
    ],
)  # fmt: skip
def test_a_title_within_a_sentence_keeps_names_and_abbreviations(title: str, inside: str) -> None:
    assert lower(title) == inside


def step(number: int, label: str, change: float, verdict: str) -> SweepRow:
    return SweepRow(
        number, 11 - number, label, "", nats=1 + change, loss_change=change, verdict=verdict,
        change_low=change - 0.01, change_high=change + 0.01,
    )  # fmt: skip


REMOVED = [
    step(0, "L7", 0.005, "no difference seen"),
    step(1, "L3", 0.0, "the same"),
    step(2, "L4", math.log(1.5), "worse"),
    step(3, "L5", math.log(3), "worse"),
]


def test_a_removal_says_how_many_layers_can_go_and_where_perplexity_doubles() -> None:
    begin = "2 layers can go without the model being seen to be worse: L7 and L3."
    assert removed([FIRST, *REMOVED], 0.02) == (
        f"{begin} Perplexity is more than twice that of the start once L5 (×3.00) is gone, 8 left."
    )
    assert removed([FIRST, *REMOVED[:3]], 0.02) == f"{begin} With 9 layers left, perplexity is ×1.50 that of the start."


def test_a_removal_that_hurts_at_once_or_has_too_few_texts_says_so() -> None:
    hurt = [step(0, "L7", math.log(1.1), "worse")]
    assert removed(hurt, 0.02).startswith("Even without L7 (×1.10), the first to go, the model is worse.")
    few = [step(0, "L7", math.log(1.1), "too few to say")]
    assert "too few texts to say" in removed(few, 0.02)
    assert removed([FIRST], 0.02) == ""


def test_importance_names_both_ends_and_claims_agreement_only_where_the_interval_has_one_sign() -> None:
    estimates = {"L0": 0.5, "L1": math.nan, "L2": 0.04, "L3": 0.2}
    ends = "L0 changes the residual stream most (Block Influence 0.50), L2 least (0.04)."
    assert ranked(estimates, "Block Influence", None) == ends
    rising = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    said = ranked(estimates, "Block Influence", (rising, rising))
    assert said.startswith(ends)
    assert "ranks layers alike (ρ = 1.00" in said
    # two of eight ranks are far off: 1 - 6 (6² + 6²) / (8 (8² - 1)) = 1/7
    mixed = [0.1, 0.8, 0.3, 0.4, 0.5, 0.6, 0.7, 0.2]
    assert "is not seen (ρ = 0.14" in ranked(estimates, "Block Influence", (rising, mixed))
    assert "the other way round (ρ = -1.00" in ranked(estimates, "Block Influence", (rising, rising[::-1]))
    assert "too few layers" in ranked(estimates, "Block Influence", ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]))
    assert ranked({"L0": 0.5}, "Block Influence", None) == ""


def test_a_sweep_over_noise_names_no_winner() -> None:
    """The best of fifty plans that differ from the start by chance alone looks better where it is chosen."""
    losses = np.random.default_rng(7).normal(2.0, 0.2, (50, 24))
    rows = [_with_texts(-1, [2.0] * 24), *(_with_texts(number, row) for number, row in enumerate(losses))]
    found = best_on_unseen(rows)
    assert found is not None
    assert found.seen < 1
    said = found.sentence("L3")
    assert said.startswith("No winner among 50 plans; L3 did best. Chosen on every second text")


def test_a_plan_that_is_better_on_unseen_texts_is_named_the_best() -> None:
    rows = [
        _with_texts(-1, [2.0] * 24),
        _with_texts(0, [2.3] * 24),
        _with_texts(1, [1.8 + 0.001 * at for at in range(24)]),
    ]
    found = best_on_unseen(rows)
    assert found is not None
    assert found.sentence("L3").startswith("Best of 2: L3. Chosen on every second text")


def _with_texts(number: int, losses: Sequence[float]) -> SweepRow:
    return SweepRow(number, 0, None, "", nats=1.0, texts={f"text {at}": float(loss) for at, loss in enumerate(losses)})
