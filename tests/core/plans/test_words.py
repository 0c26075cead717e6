"""Plans in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.words import describe, subject


@pytest.mark.parametrize(
    ("notation", "words"),
    [
        ("0-11", "All 12 layers run in order."),
        ("", "No layer runs: embeddings go straight to the head."),
        ("0-4,6-11", "11 of 12 layers run. L5 deleted."),
        ("0-4,6,5,7-11", "Out of order: L6 before L5."),
        ("0-3,8-11", "8 of 12 layers run. L4, L5, L6 and L7 deleted."),
        ("0-4,5x3,6-11", "14 layers run, from 12 of 12. L5 3 times in all."),
        ("0-4,5.attn,6*0.5,7-11", "Changed: L5.attn and L6×0.5."),
        ("0", "1 of 12 layers run. L1, L2, L3, L4, L5 and 6 more deleted."),
        ("0-4,(5|6),7-11", "Changed: L5|L6."),
        ("0-4,[5-7]*0.5x2,8-11", "15 layers run, from 12 of 12. Changed: [L5-L7]×0.5 and [L5-L7]×0.5."),
        ("0-4,[5-7]*0.5,8-11", "Changed: [L5-L7]×0.5."),
        ("0-4,other:4,6-11", "12 layers run, from 11 of 12. L5 deleted. Changed: other:L4."),
        ("0-4,other:0,5-11", "13 layers run, from 12 of 12. Changed: other:L0."),
        ("0,other:1,other:1,1-11", "14 layers run, from 12 of 12. Changed: other:L1 and other:L1."),
    ],
)
def test_plans_in_words(notation: str, words: str) -> None:
    assert words in describe(LayerPlan.parse(notation, 12))


def test_a_donors_layer_is_no_layer_of_this_model() -> None:
    said = describe(LayerPlan.parse("0-2,other:2,3,other:0", 4))
    assert "times" not in said
    assert "order" not in said


@given(st.lists(st.integers(0, 7), max_size=10))
def test_every_plan_has_words(order: list[int]) -> None:
    assert describe(LayerPlan.identity(8).permute(order)).endswith(".")


@pytest.mark.parametrize(
    ("notation", "words"),
    [
        ("(0-5).bare", "The adapter is off in every layer."),
        ("0,1.bare,2-5", "The adapter is off in L1."),
        ("0,(1-4).bare,5", "The adapter is off in L1 to L4."),
        ("(0,2,4).bare,5", "4 of 6 layers run. L1 and L3 deleted. The adapter is off in L0, L2 and L4."),
        ("0,1.bare*0.5,2-5", "Changed: L1.bare×0.5."),
    ],
)
def test_plans_without_adapters_in_words(notation: str, words: str) -> None:
    assert describe(LayerPlan.parse(notation, 6)) == words


@pytest.mark.parametrize(
    ("notation", "words"),
    [
        ("0-11", "Unchanged"),
        ("", "Without any layer"),
        ("0-4,6-11", "Without L5"),
        ("0-4,7-11", "Without L5 and L6"),
        ("0-3,8-11", "Without L4 to L7"),
        ("0,2,4,6,8-11", "Without 4 of its 12 layers"),
        ("0-4,6,5,7-11", "With L5 and L6 swapped"),
        ("11-0", "With its layers in another order"),
        ("0-5,5-11", "With L5 twice"),
        ("0-4,5x3,6-11", "With L5 three times"),
        ("(0-11)x2", "With layers repeated"),
        ("0-5,6,5,6-11", "With layers repeated"),
        ("1,0,3-11", "After surgery"),
        ("0-4,5.attn,6-11", "With L5.attn"),
        ("0-4,5*0.5,6-11", "With L5×0.5"),
        ("0-4,(5|6),7-11", "With L5|L6"),
        ("0-4,[5-7]*0.5,8-11", "With [L5-L7]×0.5"),
        ("0-4,[5-7]*0.5x2,8-11", "After surgery"),
        ("0-4,(5|7),6,8-11", "After surgery"),
        ("0-4,5.attn,6*0.5,7-11", "After surgery"),
        ("0-3,5.attn,4,6-11", "After surgery"),
        ("0-4,other:5,6-11", "After surgery"),
        ("0-4,mean(5),6-11", "With mean L5"),
        ("0-3,~,7-11", "Without L4, L5 and L6 but with a stitch"),
        ("0-8,~", "Without L9, L10 and L11 but with a stitch"),
    ],
)
def test_what_a_sentence_about_a_plan_begins_with(notation: str, words: str) -> None:
    assert subject(LayerPlan.parse(notation, 12)) == words


slots = st.sampled_from(
    ["7", "0-4", "7-3", "5x3", "(1-3)x2", "5.attn*0.5", "(4|5)", "mean(2)", "d:3", "3,~", "[2-4]*0.5"]
)


@given(st.lists(slots, max_size=6).map(",".join))
def test_every_plan_begins_a_sentence(notation: str) -> None:
    said = subject(LayerPlan.parse(notation, 8))
    assert said.startswith(("Un", "With", "After"))
    assert (said == "Unchanged") == LayerPlan.parse(notation, 8).is_identity
