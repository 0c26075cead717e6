"""How a heal reads: its readings for the chart, and how far it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from surgery_core.suture.healing import HealProgress, HeldOut
from surgery_core.suture.lessons import divided
from surgery_core.text import Text
from surgery_ui.words.heals import readings, standing, texts_said

HELD = (HeldOut(0, 3.5, 0.4), HeldOut(4, float("nan"), 0.2), HeldOut(8, 3.25, 0.1), HeldOut(12, 3.3, 0.1))


def test_the_reading_with_the_least_loss_is_the_kept_one() -> None:
    frame = readings(HELD)
    assert frame["kept"].tolist() == [False, False, True, False]


def test_how_far_it_is_in_words() -> None:
    assert standing(HealProgress(12, 0.5, 10.0, 10.0, 0.1, HELD)) == "Held-out loss 3.500 → 3.250 nats a token at best"


def told(n: int) -> str:
    report: Any = SimpleNamespace(
        lessons=divided(tuple(Text(f"text {at}", f"Once there were {at} hens.") for at in range(1, n + 1)))
    )
    return texts_said(report)


def test_it_is_said_which_texts_were_never_trained_on() -> None:
    """By hand: every eighth is held out, and the first four of them are named."""
    assert told(9) == "Trained on 8 texts. The figures are of one that was not: text 8."
    assert told(2) == "Trained on 1 text. The figures are of one that was not: text 2."
    assert told(16) == "Trained on 14 texts. The figures are of 2 that were not: text 8; text 16."
    assert told(48) == (
        "Trained on 42 texts. The figures are of 6 that were not: text 8; text 16; text 24; text 32; and 2 more."
    )
