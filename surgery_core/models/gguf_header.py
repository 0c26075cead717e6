"""The header of a GGUF file, read strictly and without torch, before any other library sees the file.

A header says how long its own parts are. Each length is held against what is left of the file before it is believed,
so that a file that is cut off, renamed or made to do harm is refused at once and takes no memory. What no reader needs
(vocabularies, merges) is walked over and counted.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import re
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path

from surgery_core.errors import ModelLoadError

Value = int | float | bool | str

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MAX_HEADER_BYTES = 100_000_000
_MAX_FACTS, _MAX_TENSORS, _MAX_ITEMS, _MAX_NAME = 10_000, 100_000, 4_000_000, 65_535
_MAX_DIMENSIONS = 4
_LEAST_FACT, _LEAST_TENSOR = 13, 32
"""Bytes that the shortest fact and the shortest tensor entry take."""

BLOCKS = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
"""Of each way to store numbers, by its number in the file: its name, the numbers of a block and the bytes of one."""


@dataclass(frozen=True)
class GgufTensor:
    """An entry of the table of tensors.

    Attributes:
        name: such as `"blk.0.attn_q.weight"`.
        shape: as in the file, the dimension that moves fastest first: `(columns, rows)`.
        kind: how its numbers are stored, such as `"Q4_1"`.
        start: where it lies, in bytes from the first tensor.
        n_bytes: bytes that it takes.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    start: int
    n_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself.

    Attributes:
        facts: single values by key, such as `general.architecture`.
        lengths: of each array, how many entries it has.
        tensors: the table of tensors.
        data_start: where the first tensor lies, in bytes from the file's beginning.
    """

    facts: Mapping[str, Value]
    lengths: Mapping[str, int]
    tensors: tuple[GgufTensor, ...]
    data_start: int

    @property
    def architecture(self) -> str:
        """Return the architecture by its name in GGUF, such as `"llama"`."""
        return str(self.facts["general.architecture"])

    @property
    def n_layers(self) -> int:
        """Return the number of blocks."""
        return int(self.facts[f"{self.architecture}.block_count"])

    @property
    def n_parameters(self) -> int:
        """Return how many numbers the tensors hold."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def kind(self) -> str:
        """Return how most of the numbers are stored."""
        counts = Counter[str]()
        for tensor in self.tensors:
            counts[tensor.kind] += prod(tensor.shape)
        return counts.most_common(1)[0][0]

    def text(self, key: str) -> str | None:
        """Return a fact that is a text, or None."""
        value = self.facts.get(key)
        return value.strip() or None if isinstance(value, str) else None


class _Broken(Exception):
    """What is wrong with the file, as a part of a sentence."""


def is_gguf(path: Path) -> bool:
    """Return whether a file begins as GGUF does; errors of the file system as `open`."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_gguf_header(path: Path, name: str) -> GgufHeader:
    """Read the header of a GGUF file; `name` is what the person called it, for messages.

    Raises:
        ModelLoadError: no GGUF file, cut off, of a version or kind that is not read, or one that contradicts itself.
        OSError: when the file cannot be read.
    """
    if not is_gguf(path):
        raise ModelLoadError(
            f"{path.name} of {name!r} is not a GGUF file, whatever its name says; copy or download the model again."
        )
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            header = _read(_Cursor(content))
    except _Broken as problem:
        raise ModelLoadError(
            f"{path.name} of {name!r} is damaged ({problem}); copy or download the model again."
        ) from None
    _require_one_file(header, path, name)
    return header


class _Cursor:
    """Reads a file's header from its beginning, and never further than the file goes."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._at = 0
        self.size = len(content)
        self._end = min(self.size, _MAX_HEADER_BYTES)

    @property
    def at(self) -> int:
        """Return how many bytes have been read."""
        return self._at

    def skip(self, count: int) -> int:
        """Step over bytes and return where they begin."""
        if count > self._end - self._at:
            raise _Broken("its header goes on behind its end")
        begin, self._at = self._at, self._at + count
        return begin

    def number(self, form: str) -> int:
        """Read one number, in the notation of `struct`."""
        return self.value(form)  # type: ignore[return-value]

    def value(self, form: str) -> Value:
        """Read one number or truth value, in the notation of `struct`."""
        found: Value = struct.unpack_from(form, self._content, self.skip(struct.calcsize(form)))[0]
        return found

    def text(self, most: int = _MAX_HEADER_BYTES) -> str:
        """Read a text with its length before it."""
        length = self.number("<Q")
        if length > most:
            raise _Broken(f"it holds a text of {length:,} bytes")
        begin = self.skip(length)
        try:
            return self._content[begin : self._at].decode("utf-8")
        except UnicodeDecodeError:
            raise _Broken("a text in its header is not UTF-8") from None

    def count(self, what: str, most: int, least_bytes: int) -> int:
        """Read how many of something follow, each of at least so many bytes."""
        count = self.number("<Q")
        if count > most or count * least_bytes > self._end - self._at:
            raise _Broken(f"it promises {count:,} {what}")
        return count


def _read(cursor: _Cursor) -> GgufHeader:
    cursor.skip(len(MAGIC))
    version = cursor.number("<I")
    if version not in _VERSIONS:
        raise _Broken(f"it is of version {version}, and versions 2 and 3 are read")
    n_tensors = cursor.count("tensors", _MAX_TENSORS, _LEAST_TENSOR)
    n_facts = cursor.count("facts", _MAX_FACTS, _LEAST_FACT)
    facts, lengths = _read_facts(cursor, n_facts)
    tensors = tuple(_read_tensor(cursor) for _ in range(n_tensors))
    start = _data_start(cursor, facts.get("general.alignment", 32))
    _require_places(tensors, cursor.size - start, facts.get("general.alignment", 32))
    header = GgufHeader(facts, lengths, tensors, start)
    _require_agreement(header)
    return header


def _read_facts(cursor: _Cursor, count: int) -> tuple[dict[str, Value], dict[str, int]]:
    facts: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    for _ in range(count):
        key, kind = cursor.text(_MAX_NAME), cursor.number("<I")
        if key in facts or key in lengths:
            raise _Broken(f"it states {key[:80]!r} twice")
        if kind == _ARRAY:
            lengths[key] = _walk_array(cursor)
        else:
            facts[key] = _read_value(cursor, kind)
    return facts, lengths


def _read_value(cursor: _Cursor, kind: int) -> Value:
    if kind == _STRING:
        return cursor.text()
    if kind not in _NUMBERS:
        raise _Broken(f"it holds a value of the unknown kind {kind}")
    return cursor.value(_NUMBERS[kind])


def _walk_array(cursor: _Cursor) -> int:
    """Step over an array and return its length."""
    kind = cursor.number("<I")
    if kind != _STRING and kind not in _NUMBERS:
        raise _Broken(f"it holds an array of the kind {kind}")
    width = 8 if kind == _STRING else struct.calcsize(_NUMBERS[kind])
    count = cursor.count("entries of an array", _MAX_ITEMS, width)
    if kind != _STRING:
        cursor.skip(count * width)
        return count
    for _ in range(count):
        cursor.skip(cursor.number("<Q"))
    return count


def _read_tensor(cursor: _Cursor) -> GgufTensor:
    name, n_dimensions = cursor.text(_MAX_NAME), cursor.number("<I")
    if not 1 <= n_dimensions <= _MAX_DIMENSIONS:
        raise _Broken(f"{name[:80]!r} has {n_dimensions:,} dimensions")
    shape = tuple(cursor.number("<Q") for _ in range(n_dimensions))
    kind, start = cursor.number("<I"), cursor.number("<Q")
    if kind not in BLOCKS:
        raise _Broken(f"{name[:80]!r} is stored in the unknown way {kind}")
    label, block, block_bytes = BLOCKS[kind]
    if not all(shape) or shape[0] % block:
        raise _Broken(f"{name[:80]!r} has the shape {shape}, which {label} cannot hold")
    return GgufTensor(name, shape, label, start, prod(shape) // block * block_bytes)


def _data_start(cursor: _Cursor, alignment: Value) -> int:
    if type(alignment) is not int or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
        raise _Broken(f"its alignment is {alignment!r}")
    return -(-cursor.at // alignment) * alignment


def _require_places(tensors: tuple[GgufTensor, ...], room: int, alignment: Value) -> None:
    """Refuse tensors that lie outside of the file or on each other."""
    if not tensors:
        raise _Broken("it holds no tensors")
    placed = sorted(tensors, key=lambda tensor: tensor.start)
    for tensor in placed:
        if tensor.start % int(alignment) or tensor.start + tensor.n_bytes > room:
            raise _Broken(f"{tensor.name[:80]!r} would lie outside of it: it is cut off, or its header is wrong")
    for first, second in pairwise(placed):
        if first.start + first.n_bytes > second.start:
            raise _Broken(f"{first.name[:80]!r} and {second.name[:80]!r} lie on each other")


def _require_agreement(header: GgufHeader) -> None:
    """Refuse a header whose architecture, depth or names cannot be."""
    if header.text("general.architecture") is None:
        raise _Broken("it names no architecture")
    names = [tensor.name for tensor in header.tensors]
    if len(set(names)) < len(names):
        raise _Broken("two of its tensors have one name")
    stated = header.facts.get(f"{header.architecture}.block_count")
    blocks = {int(found[1]) for name in names if (found := re.search(r"(?:^|\.)blk\.(\d{1,9})\.", name))}
    if type(stated) is not int or stated != len(blocks) or stated != max(blocks, default=-1) + 1:
        raise _Broken(f"it states {stated!r} layers and holds {len(blocks)}")


def _require_one_file(header: GgufHeader, path: Path, name: str) -> None:
    parts = header.facts.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        raise ModelLoadError(
            f"{path.name} of {name!r} is one of {parts} parts; put them together with "
            "`llama-gguf-split --merge` and open the whole file."
        )
