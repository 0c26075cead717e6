"""What an address carries, and how a bad one is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.plans.generation_settings import GenerationSettings
from surgery_ui.session.address import MAX_VALUE, Address

SETTINGS = st.builds(
    GenerationSettings,
    max_new_tokens=st.integers(1, 512),
    temperature=st.integers(0, 40).map(lambda n: n / 20),
    top_k=st.integers(0, 10_000),
    top_p=st.integers(1, 100).map(lambda n: n / 100),
    seed=st.integers(0, 2**31 - 1),
)
TEXT = st.none() | st.text(max_size=50)


@given(st.none() | st.sampled_from(["fable", "org/name"]), TEXT, TEXT, TEXT, SETTINGS)
def test_what_is_written_is_read_back(
    model: str | None, plan: str | None, prompt: str | None, lens: str | None, settings: GenerationSettings
) -> None:
    address = Address(model=model, plan=plan, prompt=prompt, lens=lens, settings=settings)
    assert Address.read(address.parameters()) == address


def test_defaults_are_left_out() -> None:
    assert Address(model="fable", plan="0-3").parameters() == {"model": "fable", "plan": "0-3"}


def test_a_text_too_long_for_an_address_is_left_out() -> None:
    assert "prompt" not in Address(prompt="x" * (MAX_VALUE + 1)).parameters()
    assert "prompt" in Address(prompt="x" * MAX_VALUE).parameters()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("length", "0"), ("length", "513"), ("length", "1.5"), ("length", ""), ("length", "٣٤٥٦"),
        ("temperature", "-1"), ("temperature", "inf"), ("temperature", "nan"), ("top_k", "-1"),
        ("top_p", "0"), ("top_p", "1.01"), ("seed", str(2**31)), ("seed", "9" * 5000),
    ],
)  # fmt: skip
def test_an_unusable_setting_is_named_and_left_at_its_default(name: str, value: str) -> None:
    address = Address.read({name: value, "plan": "0-3"})
    assert address.settings == GenerationSettings()
    assert len(address.problems) == 1
    assert name in address.problems[0]
    assert len(address.problems[0]) < 200
    assert address.plan == "0-3"


@given(st.dictionaries(st.sampled_from(["model", "plan", "prompt", "lens", "own", "length", "seed", "x"]), st.text()))
def test_no_address_is_beyond_reading(parameters: dict[str, str]) -> None:
    Address.read(parameters)


def test_the_id_of_an_own_text_must_look_like_one() -> None:
    assert Address.read({"own": "0123456789abcdef" * 2}).own == "0123456789abcdef" * 2
    bad = Address.read({"own": "../secret"})
    assert bad.own is None
    assert bad.problems
