"""Texts out of files of every kind, and what is said of those that cannot be read; files are made by the tests."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.errors import TextError
from surgery_core.text import Text
from surgery_core.text_sources.counts import count_texts
from surgery_core.text_sources.files import open_texts, read_files
from surgery_core.text_sources.found import FoundTexts, Limits, own_set


def packed(files: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def pairs(found: FoundTexts) -> list[tuple[str, str]]:
    return [(text.title, text.text) for text in found.texts]


def said(found: FoundTexts) -> list[str]:
    return [str(problem) for problem in found.problems]


def test_plain_files_are_a_text_each() -> None:
    found = read_files([("a.txt", b"One."), ("b.md", "Zwei, Füchse.".encode("utf-8-sig")), ("a.txt", b"Three.")])
    assert pairs(found) == [("a.txt", "One."), ("b.md", "Zwei, Füchse."), ("a.txt (2)", "Three.")]
    assert found.problems == ()
    assert found.n_bytes == 4 + 14 + 6


def test_an_archive_keeps_the_order_and_the_folders_of_its_files() -> None:
    files = {"b/two.txt": "Two.", "a/one.txt": "One.", "rows.jsonl": '{"text": "Row."}\n', "a/": ""}
    found = read_files([("mine.ZIP", packed(files))])
    assert pairs(found) == [("b/two.txt", "Two."), ("a/one.txt", "One."), ("rows.jsonl, line 1", "Row.")]


def test_what_an_archive_has_besides_is_named_or_passed_over() -> None:
    files = {
        "__MACOSX/a.txt": "x", ".DS_Store": "x", "a/.hidden.txt": "x", "picture.png": b"\x89PNG", "empty.txt": "",
        "latin.txt": b"caf\xe9", "inner.zip": packed({"x.txt": "x"}), "../../up.txt": "Up.", "nul.txt": "a\0b",
    }  # fmt: skip
    found = read_files([("mine.zip", packed(files))])
    assert pairs(found) == [("up.txt", "Up.")]
    about = dict.fromkeys(("picture.png", "empty.txt", "latin.txt", "inner.zip", "nul.txt"))
    assert len(found.problems) == len(about)
    for name, why in zip(about, ("ends with none of", "is empty", "not UTF-8", "archive within", "NUL"), strict=True):
        assert any(name in one and why in one for one in said(found)), (name, said(found))


def test_an_encrypted_file_is_named() -> None:
    """The bit that says so is set by hand, in the file's own head and in the archive's list (APPNOTE 4.4.4)."""
    data = bytearray(packed({"a.txt": "One."}, zipfile.ZIP_STORED))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.index(mark) + at
        data[place : place + 2] = struct.pack("<H", 1)
    assert said(read_files([("mine.zip", bytes(data))])) == [
        "mine.zip: a.txt: It is encrypted; pack it without a password."
    ]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_refused(method: int) -> None:
    (problem,) = said(read_files([("mine.zip", packed({"a.txt": "One."}, method))]))
    assert "pack it as an ordinary .zip" in problem


def test_a_damaged_archive_is_named() -> None:
    whole = packed({"a.txt": "One." * 100, "b.txt": "Two."})
    assert "no .zip archive" in said(read_files([("mine.zip", whole[:60])]))[0]
    broken = bytearray(whole)
    broken[35:38] = b"\xff" * 3  # the first bytes behind the head of 30 and the name of 5
    found = read_files([("mine.zip", bytes(broken))])
    assert said(found) == ["mine.zip: a.txt: It is damaged; pack it again."]
    assert pairs(found) == [("b.txt", "Two.")]


def test_a_zip_bomb_unpacks_to_no_more_than_the_limit() -> None:
    """A thousand megabytes of zeros in a file of one: what is unpacked is counted, whatever becomes of it."""
    bomb = packed({f"{number}.txt": bytes(20_000_000) for number in range(5)} | {"last.txt": "Last."})
    assert len(bomb) < 200_000
    found = read_files([("bomb.zip", bomb)], limits=Limits(texts=10, bytes=1_000_000))
    assert found.texts == ()
    assert said(found) == ["All files: 6 texts were left out; at most 10 texts and 1,000,000 bytes are read here."]


def test_bytes_that_turn_out_to_be_no_text_count_too() -> None:
    files = {f"{number}.txt": b"\xff" * 400 for number in range(10)}
    found = read_files([("bad.zip", packed(files))], limits=Limits(texts=100, bytes=1_000))
    assert sum("not UTF-8" in one for one in said(found)) == 2
    assert "8 texts were left out" in said(found)[0]


def test_texts_beyond_the_limit_are_counted() -> None:
    rows = "\n".join(json.dumps({"text": f"Text {number}."}) for number in range(30))
    found = read_files([("a.jsonl", rows.encode()), ("b.txt", b"One.")], limits=Limits(texts=10, bytes=10_000))
    assert len(found.texts) == 10
    assert said(found) == ["All files: 21 texts were left out; at most 10 texts and 10,000 bytes are read here."]


def test_lines_of_json() -> None:
    lines = ['{"text": "One.\\u2028Still one."}', "", '{"text": "Two.", "title": "Second"}', '{"text": ""}']
    lines += ["[1]", "{bad", '{"words": "x"}', '{"text": 3}']
    found = read_files([("a.jsonl", "\r\n".join(lines).encode("utf-8-sig"))])
    assert pairs(found) == [("a.jsonl, line 1", "One.\u2028Still one."), ("Second", "Two."), ("a.jsonl, line 4", "")]
    assert found.n_empty == 1
    assert [problem.where for problem in found.problems] == [f"a.jsonl, line {number}" for number in (5, 6, 7, 8)]
    assert "it has words" in found.problems[2].why
    other = read_files([("a.jsonl", b'{"words": "Here."}')], column="words")
    assert pairs(other) == [("a.jsonl, line 1", "Here.")]


def test_lines_of_json_that_are_too_deep_are_named() -> None:
    found = read_files([("a.jsonl", b"[" * 100_000)])
    assert "is not JSON" in said(found)[0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_column_of_a_table(delimiter: str) -> None:
    rows = [["id", "text"], ["1", '"One, and; more.\nSecond line."'], ["2", ""], ["3"], []]
    table = "\n".join(delimiter.join(row) for row in rows)
    found = read_files([("a.csv", table.encode())])
    assert pairs(found) == [("a.csv, row 2", "One, and; more.\nSecond line."), ("a.csv, row 3", "")]
    assert said(found) == ["a.csv, row 4: It has 1 columns; the text is in column 2."]


def test_a_table_whose_column_is_not_there_names_those_that_are() -> None:
    assert "no column 'text'; its columns are id, story" in said(read_files([("a.csv", b"id,story\n1,One.\n")]))[0]
    assert "no column 'poem'" in said(read_files([("a.csv", b"id,story\n1,One.\n")], "poem"))[0]
    assert pairs(read_files([("a.csv", b"id,story\n1,One.\n")], "story")) == [("a.csv, row 2", "One.")]
    assert pairs(read_files([("a.csv", b"story\nOne.\n")])) == [("a.csv, row 2", "One.")]
    assert "columns are none" in said(read_files([("a.csv", b"")]))[0]


def test_a_long_cell_is_read() -> None:
    """Longer than the 131,072 characters that Python's reader of tables takes by itself."""
    found = read_files([("a.csv", b"text\n" + b"x" * 300_000 + b"\n")])
    assert len(found.texts[0].text) == 300_000


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"), max_size=40), min_size=1
    )
)
def test_rows_come_back_as_they_were_written(texts: list[str]) -> None:
    """Both kinds of tables are written by Python's own writers."""
    import csv

    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    assert [text.text for text in read_files([("a.jsonl", lines.encode())]).texts] == texts
    target = io.StringIO(newline="")
    csv.writer(target).writerows([["n", "text"], *([str(at), text] for at, text in enumerate(texts))])
    assert [text.text for text in read_files([("a.csv", target.getvalue().encode())]).texts] == texts


@given(st.lists(st.sampled_from(["a", "a (2)", "a (3)", "b", " b "]), max_size=12))
def test_titles_are_never_the_same(names: list[str]) -> None:
    lines = "\n".join(json.dumps({"text": "x", "title": name}) for name in names)
    found = [text.title for text in read_files([("f.jsonl", lines.encode())]).texts]
    assert len(set(found)) == len(names)


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one.txt").write_text("One.", encoding="utf-8")
    (tmp_path / "a.txt").write_text("Zero.", encoding="utf-8")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.txt").write_text("Hidden.", encoding="utf-8")
    (tmp_path / "c.png").write_bytes(b"\x89")
    found = open_texts([tmp_path])
    assert pairs(found) == [("a.txt", "Zero."), ("b/one.txt", "One.")]
    assert [problem.where for problem in found.problems] == ["c.png"]


def test_a_file_that_is_named_by_itself_is_read_or_an_error(tmp_path: Path) -> None:
    story = tmp_path / "story"
    story.write_text("One.", encoding="utf-8")
    assert pairs(open_texts([story])) == [("story", "One.")]
    story.write_bytes(b"\xff")
    with pytest.raises(TextError, match="story is not UTF-8"):
        open_texts([story])
    with pytest.raises(TextError, match="nowhere.txt' cannot be read: No such file"):
        open_texts([tmp_path / "nowhere.txt"])


def test_a_set_is_named_by_its_texts_alone() -> None:
    """The digest is that of the lines of JSON, by hand."""
    import hashlib

    texts = (Text("One", "A füchs."), Text("Two", ""))
    found = own_set("Mine", texts)
    by_hand = '["One", "A f\\u00fcchs."]\n["Two", ""]\n'
    assert found.digest == hashlib.sha256(by_hand.encode()).hexdigest()
    assert own_set("Yours", texts).name == found.name == found.digest[:32]
    assert own_set("Mine", texts[::-1]).digest != found.digest
    assert [text.title for text in found.scored()] == ["One"]
    with pytest.raises(TextError, match="no text that is not empty"):
        own_set("Mine", texts[1:]).scored()
    with pytest.raises(TextError, match="There is no text in mine.csv"):
        read_files([("mine.csv", b'text\n""\n')]).as_set("mine.csv")


def test_tokens_are_counted_and_texts_without_enough_are_named(tiny_tokenizer: object) -> None:
    """A token a byte."""
    texts = [Text("One", "12345"), Text("Short", "x"), Text("None", " \n"), Text("Two", "é")]
    counts = count_texts(tiny_tokenizer, texts)
    assert counts.tokens == 5 + 2
    assert [problem.where for problem in counts.problems] == ["Short"]
