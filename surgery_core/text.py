"""Texts that are scored, read and continued: those that come with the package, and those of a person."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from surgery_core.errors import TextError

MAX_TEXT_BYTES = 1_000_000
"""Most bytes of UTF-8 that a person's text may have."""

_VISIBLE = {" ": "·", "\n": "↵", "\t": "→", "\r": "␍", "\xa0": "⍽"}
_REPLACEMENT = "\ufffd"
_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
"""A piece of a vocabulary with byte fallback (SentencePiece): one byte of a character that has no piece."""


@dataclass(frozen=True)
class Text:
    """A titled text.

    Attributes:
        title: what it is called.
        text: itself.
        kind: what it is like: story, dialogue, code, own, ...
        formatted: whether its special tokens stand in it already, as a chat template puts them; none are added then.
        window: tokens of the pieces that it is cut into, each scored for itself as `as_papers` says; None where it is
            read as one text.
    """

    title: str
    text: str
    kind: str = "own"
    formatted: bool = False
    window: int | None = None


@dataclass(frozen=True)
class Prompt:
    """A titled beginning for a model to continue."""

    title: str
    text: str


@cache
def bundled_texts() -> tuple[Text, ...]:
    """Return the evaluation texts that come with the package."""
    return tuple(Text(row["title"], row["text"], row["kind"]) for row in _rows("texts.toml", "text"))


FIRST_SET = "short"
"""Name of the set of texts that is scored unless another is chosen."""
PAPERS_WINDOW = 2048
"""Tokens of a window of `as_papers`, as in the published scripts."""
EACH, PAPERS = "each", "papers"
CUTS = (EACH, PAPERS)
"""How a set is scored: each text for itself, or joined and cut as papers do it."""


@dataclass(frozen=True)
class TextSet:
    """Texts with a name: what "texts like these" means.

    Attributes:
        name: by which links and recipes know it.
        title: what pages call it.
        about: what is in it, in a sentence.
        texts: themselves.
    """

    name: str
    title: str
    about: str
    texts: tuple[Text, ...]

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the titles and texts, in hexadecimal: equal for the same texts, whatever the set is called."""
        return texts_digest(self.texts)

    @property
    def n_bytes(self) -> int:
        """Return the bytes of UTF-8 of all texts."""
        return sum(len(text.text.encode("utf-8", "surrogatepass")) for text in self.texts)

    def scored(self, cut: str = EACH) -> tuple[Text, ...]:
        """Return the texts as they are scored.

        Args:
            cut: `"each"`: every text for itself, without the empty ones; or `"papers"`: `as_papers`, with them.

        Raises:
            TextError: when `cut` is neither, or nothing is left to score.
        """
        if cut not in CUTS:
            raise TextError(f"Texts are cut as {cut!r}; there are {' and '.join(CUTS)}.")
        if cut == PAPERS:
            return (as_papers(self.texts),)
        found = tuple(text for text in self.texts if text.text.strip())
        if not found:
            raise TextError(f"{self.title} has no text that is not empty. Choose other texts.")
        return found


def texts_digest(texts: Sequence[Text]) -> str:
    """Return the SHA-256 of titles and texts, in order, in hexadecimal."""
    found = hashlib.sha256()
    for text in texts:
        found.update(json.dumps([text.title, text.text]).encode("ascii") + b"\n")
    return found.hexdigest()


def as_papers(texts: TextsLike, window: int = PAPERS_WINDOW) -> Text:
    """Return texts as published perplexities are taken, those of WikiText-2 for instance: joined and cut into windows.

    The texts are joined with blank lines. Where the result is scored, its tokens are cut into windows of `window` (or
    the model's context, where that is shorter) that do not overlap; what is left over at the end is dropped. Each window
    is read for itself, and all of its tokens but the first are scored: what the scripts of GPTQ (arXiv 2210.17323),
    SparseGPT (2301.00774) and the papers after them do.

    Raises:
        TextError: when there is no text, two have the same title, or the window has fewer than two tokens.
    """
    found = as_texts(texts)
    if window < 2:
        raise TextError(f"A window of {window} tokens has nothing to score; give 2 or more.")
    joined = "\n\n".join(text.text for text in found)
    return Text(f"{len(found):,} texts joined" if len(found) > 1 else found[0].title, joined, "joined", window=window)


@cache
def text_sets() -> dict[str, TextSet]:
    """Return the sets of texts that come with the package, by name; the first is `bundled_texts`."""
    stories = tuple(Text(row["title"], row["text"], row["kind"]) for row in _rows("stories.toml", "text"))
    books = len({text.title.rsplit(",", 1)[0] for text in stories})
    short, many = (
        bundled_texts(),
        f"{len(stories)} passages of {books} children's books that the bundled model has not read",
    )
    found = (
        TextSet(FIRST_SET, "Short texts", f"{len(short)} short texts of many kinds, written for this app.", short),
        TextSet("stories", "Stories", f"{many}; 150 to 250 words each.", stories),
    )
    return {one.name: one for one in found}


@cache
def bundled_prompts() -> tuple[Prompt, ...]:
    """Return the prompts that come with the package, the best one first."""
    return tuple(Prompt(row["title"], row["text"]) for row in _rows("prompts.toml", "prompt"))


def read_text(data: bytes | str, title: str = "Your text", most: int = MAX_TEXT_BYTES) -> Text:
    """Return a person's text after checking it.

    Args:
        data: the text, or the bytes of a UTF-8 file (a byte order mark is dropped).
        title: its name, for example the file's.
        most: bytes that it may have.

    Raises:
        TextError: when it is empty, longer than `most`, not UTF-8, or contains a NUL byte.
    """
    size = len(data) if isinstance(data, bytes) else len(data.encode("utf-8", "surrogatepass"))
    if size > most:
        raise TextError(f"{title} has {size:,} bytes; at most {most:,} are read. Give a shorter part of it.")
    text = _decoded(data, title) if isinstance(data, bytes) else data
    if "\0" in text:
        raise TextError(f"{title} contains a NUL byte at character {text.index(chr(0)) + 1}, so it is not plain text.")
    if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        raise TextError(f"{title} contains half of a surrogate pair, which is not valid text. Paste it again.")
    if not text.strip():
        raise TextError(f"{title} is empty. Write or upload at least a few words.")
    return Text(title, text)


TextsLike = Iterable["Text | str"] | Text | str
"""What is taken wherever texts are asked for: one string, several, or titled texts."""


ROWS = "_model_surgery_rows"
"""Attribute of an opened model's tokenizer: how many tokens the model has rows for."""


def as_texts(texts: TextsLike) -> tuple[Text, ...]:
    """Return texts as a tuple; a plain string is one text, and several are called `Text 1`, `Text 2`, ...

    Raises:
        TextError: when there is none, one is no text, or two have the same title.
    """
    if isinstance(texts, str):
        return (Text("Text", texts),)
    given = (texts,) if isinstance(texts, Text) else tuple(texts)
    if not given:
        raise TextError("There is no text to score. Choose at least one.")
    found = tuple(_titled(number, text) for number, text in enumerate(given, 1))
    twice = sorted(title for title, count in Counter(text.title for text in found).items() if count > 1)
    if twice:
        raise TextError(f"Two texts are called {twice[0]!r}. Give each its own title.")
    return found


def _titled(number: int, text: Text | str) -> Text:
    if isinstance(text, str):
        return Text(f"Text {number}", text)
    if isinstance(text, Text):
        return text
    raise TextError(f"Text {number} is {type(text).__name__} {text!r:.60}; give strings, or Text records with a title.")


def has_chat_template(tokenizer: Any) -> bool:
    """Return whether a tokenizer says how messages are put to its model, as those of instruct models do."""
    return bool(getattr(tokenizer, "chat_template", None))


def chat_text(tokenizer: Any, message: str, system: str = "", title: str = "The prompt") -> Text:
    """Return a message as the chat template of a model puts it, up to where the model's answer begins.

    Args:
        tokenizer: one that `has_chat_template`.
        message: what a person says.
        system: what the model is told before, or nothing.
        title: of the text.

    Raises:
        TextError: when there is no template, or the template refuses the messages.
    """
    if not has_chat_template(tokenizer):
        raise TextError("This model has no chat template, so it is no instruct model; continue plain text instead.")
    before = [{"role": "system", "content": system}] if system else []
    messages = [*before, {"role": "user", "content": message}]
    try:
        written = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # noqa: BLE001 - a template is a program of the model's author, and raises what it likes
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = " Leave the system prompt empty." if system else ""
        raise TextError(f"The chat template of this model refuses these messages ({said:.120}).{hint}") from None
    return Text(title, str(written), "chat", formatted=True)


def encode(tokenizer: Any, text: Text, *, least: int = 1) -> list[int]:
    """Return the token ids of a text, with the special tokens that the tokenizer puts before it by itself.

    What it puts behind a text (an end-of-text token, `[SEP]`) is left out: a text that goes on, is scored or is read has
    not ended there.

    Raises:
        TextError: when there are fewer than `least` tokens, or one that the model has no row for.
    """
    found = tokenizer(text.text, verbose=False, return_special_tokens_mask=True, add_special_tokens=not text.formatted)
    ids: list[int] = list(found["input_ids"])
    added = found["special_tokens_mask"]
    while not text.formatted and ids and added[len(ids) - 1]:
        ids.pop()
    if len(ids) < least:
        count = "no token" if not ids else f"{len(ids)} token" + ("s" if len(ids) > 1 else "")
        raise TextError(f"{text.title} has {count} here; at least {least} are needed. Add a few words.")
    rows = getattr(tokenizer, ROWS, None)
    if rows is not None and max(ids, default=0) >= rows:
        token = next(index for index in ids if index >= rows)
        raise TextError(
            f"{text.title} has the token {tokenizer.convert_ids_to_tokens(token)} ({token}), which was added to the "
            f"tokenizer and has no row in the model, whose rows end at {rows - 1}. Take it out of the text."
        )
    return ids


def token_bytes(tokenizer: Any, text: Text, ids: Sequence[int]) -> list[int]:
    """Return how many UTF-8 bytes of the text each token covers; they add up to the whole text's.

    A character split over several tokens counts for the last of them. Special tokens cover none.
    """
    found = tokenizer(text.text, verbose=False, return_offsets_mapping=True, add_special_tokens=not text.formatted)
    offsets = found["offset_mapping"]
    ends = [end for _, end in offsets]
    sizes, reached = [], 0
    for position in range(len(ids)):
        shared = (
            position + 1 < len(ends)
            and ends[position + 1] == ends[position]
            and offsets[position + 1][0] < ends[position]
        )
        end = reached if shared else max(ends[position], reached)
        sizes.append(len(text.text[reached:end].encode()))
        reached = end
    if sizes:
        sizes[-1] += len(text.text[reached:].encode())
    return sizes


def token_strings(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return each token as text; parts of a character that no text can show become `<0xE2>`, unknown ids `<id 49200>`."""
    known = {int(index): _token_string(tokenizer, int(index)) for index in set(ids)}
    return [known[int(index)] for index in ids]


def visible(token: str) -> str:
    """Return a token with its spaces, newlines and control characters made visible."""
    return "".join(_visible_character(character) for character in token)


def _token_string(tokenizer: Any, index: int) -> str:
    piece = _piece(tokenizer, index)
    if piece is None:
        # embeddings often have more rows than the tokenizer has tokens
        return f"<id {index}>"
    text: str = tokenizer.decode([index], clean_up_tokenization_spaces=False)
    if _REPLACEMENT in text:
        return piece if _BYTE_PIECE.fullmatch(piece) else _bytes_of_piece(piece)
    if piece.startswith("\u2581") and not text.startswith(" "):
        return " " + text
    return text or piece


def _piece(tokenizer: Any, index: int) -> str | None:
    """Return a token as the vocabulary has it, or None where there is no token with this id."""
    try:
        piece = tokenizer.convert_ids_to_tokens(index)
    except (IndexError, OverflowError, KeyError):
        return None
    return None if piece is None else str(piece)


def _bytes_of_piece(piece: str) -> str:
    """Return the bytes behind a byte-level BPE piece as `<0xE2><0x82>`."""
    table = _byte_table()
    if all(character in table for character in piece):
        return "".join(f"<0x{table[character]:02X}>" for character in piece)
    return piece


@cache
def _byte_table() -> dict[str, int]:
    """Return GPT-2's mapping of printable characters to bytes (Radford et al. 2019, released code), reversed."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _visible_character(character: str) -> str:
    if character in _VISIBLE:
        return _VISIBLE[character]
    if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Zs", "Co", "Cn") and character != "\u200d":
        return f"<U+{ord(character):04X}>"
    return character


def _decoded(data: bytes, title: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{title} is not UTF-8 text (byte {error.start + 1} is {data[error.start]:#04x}). Save it as UTF-8 and try again."
        ) from None


def _rows(file: str, table: str) -> list[dict[str, str]]:
    source = resources.files("surgery_core").joinpath("data", file).read_text(encoding="utf-8")
    rows: list[dict[str, str]] = tomllib.loads(source)[table]
    return rows
