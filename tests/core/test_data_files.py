"""The bundled passages and prompts are complete, distinct and of a readable length."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "surgery_core" / "data"


def rows(name: str, key: str) -> list[dict[str, Any]]:
    table = tomllib.loads((DATA / name).read_text(encoding="utf-8"))
    assert set(table) == {key}
    return table[key]


TEXTS = rows("texts.toml", "text")
PROMPTS = rows("prompts.toml", "prompt")


def test_there_are_twelve_texts_of_twelve_kinds() -> None:
    assert len(TEXTS) == 12
    for key in ("title", "kind", "text"):
        assert len({row[key] for row in TEXTS}) == 12


@pytest.mark.parametrize("row", TEXTS, ids=lambda row: row["title"])
def test_a_text_has_its_fields_and_no_blank_edges(row: dict[str, Any]) -> None:
    assert set(row) == {"title", "kind", "text"}
    assert all(value and value == value.strip() for value in row.values())


def test_texts_are_80_to_200_tokens_of_the_bundled_tokenizer() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "fable")
    lengths = {row["title"]: len(tokenizer(row["text"])["input_ids"]) for row in TEXTS}
    assert {title: n for title, n in lengths.items() if not 80 <= n <= 200} == {}


def test_prompts_are_distinct_and_the_first_begins_a_tale() -> None:
    assert 7 <= len(PROMPTS) <= 10
    assert PROMPTS[0]["text"] == "Once upon a time there was"
    assert len({row["text"] for row in PROMPTS}) == len({row["title"] for row in PROMPTS}) == len(PROMPTS)


def test_prompts_end_in_a_word_or_a_mark() -> None:
    for row in PROMPTS:
        assert set(row) == {"title", "text"}
        assert row["text"] == row["text"].strip() != ""
