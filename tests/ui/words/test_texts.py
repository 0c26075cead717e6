"""Texts beside one another: nothing in them is markup, and what differs is underlined."""

from __future__ import annotations

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from surgery_ui.words import texts


@given(st.text(), st.text(), st.text())
def test_text_from_a_model_is_never_markup(prompt: str, text: str, other: str) -> None:
    body = texts.continuation(prompt, text, other)
    tags = re.findall(r"<[^>]*>", body)
    assert [tag.split()[0].strip("<>/") for tag in tags] == [
        "div",
        "span",
        "span",
        "span",
        "span",
        "span",
        "span",
        "div",
    ]
    shown = html.unescape(re.sub(r"<[^>]*>", "", body))
    assert len(shown) == len(html.unescape(html.escape(prompt + text)))


def test_each_text_stands_beside_that_before_and_that_beside_the_one_after() -> None:
    written = {"after": "a", "before": "b", "cut": "c"}
    assert [texts.beside(side, written) for side in ("before", "cut", "after")] == ["a", "b", "b"]
    assert texts.beside("before", {"before": "b"}) == ""


def test_what_differs_is_underlined_from_its_first_word() -> None:
    body = texts.continuation("Once", " there was a king", " there was a kitten")
    same, different = re.findall(r"<span[^>]*>(.*?)</span>", body)[1:]
    assert (same, different) == (" there was a ", "king")
    assert "underline" in body
