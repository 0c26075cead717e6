"""How chips show what deleting a layer cost."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from surgery_ui.words.labels import FULL, cost, strength


@given(st.floats(-20, 100), st.floats(-20, 100))
def test_more_damage_is_never_a_lighter_tint(one: float, other: float) -> None:
    assert 0 <= strength(one) <= 1
    assert (strength(one) <= strength(other)) or one > other


def test_the_ends_of_the_tint() -> None:
    assert strength(0) == strength(-1) == 0
    assert strength(FULL) == strength(1e9) == strength(math.inf) == 1
    # a thirtieth of the full damage is still half of the tint
    assert 0.3 < strength(0.1) < 0.5


def test_costs_in_words() -> None:
    assert cost(0.1234) == "without it +0.123 nats a token"
    assert cost(-0.01) == "without it −0.010 nats a token"
