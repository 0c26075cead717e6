"""How a heal reads: its readings for the chart, and how far it is."""

from __future__ import annotations

from surgery_core.suture.healing import HealProgress, HeldOut
from surgery_ui.words.heals import readings, standing

HELD = (HeldOut(0, 3.5, 0.4), HeldOut(4, float("nan"), 0.2), HeldOut(8, 3.25, 0.1), HeldOut(12, 3.3, 0.1))


def test_the_reading_with_the_least_loss_is_the_kept_one() -> None:
    frame = readings(HELD)
    assert frame["kept"].tolist() == [False, False, True, False]


def test_how_far_it_is_in_words() -> None:
    assert standing(HealProgress(12, 0.5, 10.0, 10.0, 0.1, HELD)) == "Held-out loss 3.500 → 3.250 nats a token at best"
