"""Texts of a person: what is read, what is refused and how that is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from surgery_core.errors import TextError
from surgery_core.text import (
    MAX_TEXT_BYTES,
    Text,
    as_texts,
    bundled_prompts,
    bundled_texts,
    encode,
    read_text,
    token_bytes,
    token_strings,
    visible,
)
from tests.core.measure.test_measure import byte_tokenizer
from tests.tiny import build_tokenizer


def test_plain_text_is_read_with_and_without_a_byte_order_mark() -> None:
    assert read_text("A fox.", "Mine") == Text("Mine", "A fox.", "own")
    assert read_text("Füchse 🦊".encode("utf-8-sig")).text == "Füchse 🦊"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "Mine is empty"),
        (b" \n\t", "Mine is empty"),
        (b"caf\xe9", "not UTF-8 text .byte 4 is 0xe9"),
        (b"\xff\xfea\x00", "not UTF-8"),
        ("a\0b", "NUL byte at character 2"),
        (b"a\0b", "NUL byte at character 2"),
        ("x" * (MAX_TEXT_BYTES + 1), "1,000,001 bytes; at most 1,000,000"),
        ("é" * (MAX_TEXT_BYTES // 2 + 1), "1,000,002 bytes"),
        ("a\ud800", "half of a surrogate pair"),
    ],
)
def test_unusable_text_is_refused_in_one_sentence(data: str | bytes, message: str) -> None:
    with pytest.raises(TextError, match=message):
        read_text(data, "Mine")


def test_the_largest_text_is_read() -> None:
    assert len(read_text(b"x" * MAX_TEXT_BYTES).text) == MAX_TEXT_BYTES


@given(st.binary(max_size=50))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        text = read_text(data)
    except TextError as error:
        assert "Your text" in str(error)
    else:
        assert text.text.encode() in (data, data.removeprefix(b"\xef\xbb\xbf"))


def test_texts_as_a_tuple() -> None:
    assert as_texts("abc") == (Text("Text", "abc"),)
    assert as_texts(Text("a", "b")) == (Text("a", "b"),)
    with pytest.raises(TextError, match="no text"):
        as_texts([])


def test_invisible_characters_are_shown() -> None:
    assert visible(" a\n\tb\r") == "·a↵→b␍"
    assert visible("\x07\u200b") == "<U+0007><U+200B>"
    assert visible("\xa0\u3000") == "⍽<U+3000>"
    assert visible("é漢🙂") == "é漢🙂"


def test_tokens_that_are_parts_of_a_character_are_shown_as_bytes() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    assert token_strings(fast, fast("a €")["input_ids"]) == ["a", " ", "<0xE2>", "<0x82>", "<0xAC>"]
    assert token_strings(byte_tokenizer(), byte_tokenizer()("ok go")["input_ids"]) == ["o", "k", " ", "g", "o"]


def test_bundled_texts_and_prompts_are_there() -> None:
    assert len(bundled_texts()) == 12
    assert bundled_prompts()[0].text == "Once upon a time there was"


# What tokenizers add and what vocabularies lack


def test_what_a_tokenizer_puts_behind_a_text_is_left_out_and_what_stands_in_front_stays() -> None:
    tokenizer = build_tokenizer()
    text = Text("t", "ab")
    plain = encode(tokenizer, text)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A <eos>", pair="$A $B", special_tokens=[("<bos>", 257), ("<eos>", 256)]
    )
    assert tokenizer("ab").input_ids == [257, *plain, 256]
    assert encode(tokenizer, text) == [257, *plain]
    # an end-of-text token that a person wrote stays
    assert encode(tokenizer, Text("t", "ab<eos>")) == [257, *plain, 256]
    assert encode(tokenizer, Text("t", ""), least=0) == []
    assert sum(token_bytes(tokenizer, text, encode(tokenizer, text))) == 2


def byte_fallback() -> PreTrainedTokenizerFast:
    """Return a tokenizer with SentencePiece's byte tokens, as Llama 2's has."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a", "é"]
    tokenizer = Tokenizer(
        models.BPE({p: i for i, p in enumerate(pieces)}, [("▁", "a")], byte_fallback=True, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_byte_tokens_print_as_the_bytes_that_they_are() -> None:
    tokenizer = byte_fallback()
    shown = token_strings(tokenizer, range(1, 257))
    assert shown[ord("A")] == "A"
    assert shown[0x80:] == [f"<0x{byte:02X}>" for byte in range(0x80, 0x100)]
    ids = tokenizer("a€").input_ids
    assert token_strings(tokenizer, ids) == [" a", "<0xE2>", "<0x82>", "<0xAC>"]


def test_ids_without_a_token_are_named() -> None:
    tokenizer = build_tokenizer()
    assert token_strings(tokenizer, [65, 300, 49_200]) == ["b", "<id 300>", "<id 49200>"]


def test_plain_strings_are_texts_with_names() -> None:
    found = as_texts(["one", Text("Mine", "two"), "three"])
    assert found == (Text("Text 1", "one"), Text("Mine", "two"), Text("Text 3", "three"))
    with pytest.raises(TextError, match="Text 2 is int 7"):
        as_texts(["one", 7])  # type: ignore[list-item]
