"""What an address carries, and how a bad one is read."""

from __future__ import annotations

import base64
import random
import re
import string
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.text import Text
from surgery_ui.session.address import Address

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


def test_a_margin_is_written_in_percent_and_a_bad_one_is_named() -> None:
    assert Address(margin=0.05).parameters() == {"same": "5"}
    assert Address.read({"same": "5"}).margin == 0.05
    assert Address(margin=0.02).parameters() == {}
    for wrong in ("0", "100", "-3", "wide", "nan", ""):
        read = Address.read({"same": wrong})
        assert read.margin is None
        assert read.problems == (
            f"The address has same={wrong!r}; allowed is a number of percent below 100. It was left out.",
        )


def test_defaults_are_left_out() -> None:
    assert Address(model="fable", plan="0-3").parameters() == {"model": "fable", "plan": "0-3"}


def test_a_long_text_is_compressed_and_one_too_long_is_left_out_and_named() -> None:
    short, long = Address(prompt="x" * 300), Address(prompt=noise(600))
    assert short.parameters()["prompt"] == "x" * 300
    assert set(long.parameters()) == {"prompt_z"}
    assert Address.read(long.parameters()) == long
    too_long = Address(prompt=noise(4_000), lens="short", text=Text("Mine", noise(9_000)))
    assert too_long.left_out == ("prompt", "text")
    assert set(too_long.parameters()) == {"lens"}


def noise(n: int) -> str:
    """Return letters that hardly compress."""
    return "".join(random.Random(n).choices(string.ascii_letters, k=n))


def test_a_compressed_text_is_what_zlib_and_base64_say() -> None:
    text = "Once upon a time, " * 50
    value = Address(lens=text).parameters()["lens_z"]
    data = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    assert zlib.decompress(data).decode() == text


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=301, max_size=900))
def test_long_texts_come_back(text: str) -> None:
    address = Address(prompt=text)
    assert address.left_out == ("prompt",) or Address.read(address.parameters()) == address


def bomb() -> str:
    return base64.urlsafe_b64encode(zlib.compress(b"a" * 1_000_000, 9)).decode().rstrip("=")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (bomb(), "too long"), ("A" * 2049, "too long|cannot be read"), ("not base64!", "cannot be read"), ("é", "cannot be read"),
        ("", "cut off|cannot be read"), (base64.urlsafe_b64encode(zlib.compress(b"abc" * 99)[:9]).decode(), "cut off"),
    ],
)  # fmt: skip
def test_a_text_that_was_cut_or_made_up_is_a_sentence(value: str, said: str) -> None:
    assert len(bomb()) < 2048
    found = Address.read({"prompt_z": value, "plan": "0"})
    assert (found.prompt, found.plan) == (None, "0")
    assert len(found.problems) == 1
    assert re.search(said, found.problems[0])


def test_an_own_text_goes_along_with_its_title() -> None:
    address = Address(text=Text("My\ntitle", "One line.\nAnd another."))
    assert Address.read(address.parameters()).text == Text("My title", "One line.\nAnd another.")
    assert Address.read({"text": "title\n\x00\x00"}).text is None


def test_how_the_lens_reads_goes_along() -> None:
    look = (("reading", "tuned"), ("inside", "True"), ("statistic", "kl"))
    assert Address.read(Address(look=look).parameters()).look == look
    assert Address(look=(("reading", "logit"), ("view", "Side by side"))).parameters() == {}
    assert Address.read({"reading": "0123456789abcdef" * 2, "view": "x" * 41}).look == ()


def test_a_comment_is_one_line_of_a_sentence() -> None:
    assert Address.read({"comment": " Look at\n\nthe end. "}).comment == "Look at the end."
    assert len(Address.read({"comment": "x" * 999}).comment or "") == 300


def test_a_system_prompt_stays_within_what_settings_take() -> None:
    system = Address.read({"system": "x" * 100_000}).system
    assert system is not None
    GenerationSettings(chat=True, system=system)


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


@pytest.mark.parametrize("room", ["x", "AEIO", "BCDFG", "x" * 100_000])
def test_a_room_that_cannot_be_one_is_said(room: str) -> None:
    address = Address.read({"room": room, "plan": "0-3"})
    assert (address.room, address.plan) == (None, "0-3")
    (said,) = address.problems
    assert said.startswith("The address has room='")
    assert said.endswith("; a room's code has four letters. It was left out.")
    assert len(said) < 200
    assert not Address.read({"room": ""}).problems


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "model",
                "plan",
                "prompt",
                "lens",
                "own",
                "length",
                "seed",
                "x",
                "prompt_z",
                "text",
                "text_z",
                "comment",
                "view",
            ]
        ),
        st.text(),
    )
)
def test_no_address_is_beyond_reading(parameters: dict[str, str]) -> None:
    Address.read(parameters)


def test_the_id_of_an_own_text_must_look_like_one() -> None:
    assert Address.read({"own": "0123456789abcdef" * 2}).own == "0123456789abcdef" * 2
    bad = Address.read({"own": "../secret"})
    assert bad.own is None
    assert bad.problems
