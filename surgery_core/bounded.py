"""TOML, YAML, JSON and archives that somebody else made, read within bounds: what would take minutes or gigabytes is refused.

Python's readers of TOML and YAML are plain Python, and both take a time that grows with the square of how deep a file is
nested: 90 kB of `[` are a minute and a half of YAML, 80 kB of `a.a.a.a` half a minute of TOML. Of what bzip2 and LZMA
packed, `zipfile` unpacks a block as a whole, however little was asked for: a kilobyte can be gigabytes.
"""

from __future__ import annotations

import io
import json
import re
import tomllib
import zipfile
import zlib
from typing import Any

import yaml

MOST_DEEP = 32
"""Levels that a file may be nested, and parts that a dotted key may have."""
MOST_PARTS = 100_000
"""Keys, items and brackets that a file may have."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe one, in C where PyYAML has it: ten times as fast."""
_TOML = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\n\[\]{},=.]",
    re.DOTALL,
)
"""Texts and comments, which count nothing, and the signs between parts."""


_ENCRYPTED = 0x1
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Ways of packing that give no more than was asked for at a time."""
BROKEN_ZIP = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
"""How an archive fails that is damaged, or none."""


class Unreadable(ValueError):
    """A file is broken, or beyond the bounds; its text goes on from "The file"."""


def read_toml(text: str) -> dict[str, Any]:
    """Read TOML.

    Raises:
        Unreadable: when it is none, nested too deeply, or of too many parts.
    """
    _check_toml(text)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        digits = not isinstance(error, tomllib.TOMLDecodeError) and "digits" in str(error)
        why = "a whole number has more than 4,300 digits" if digits else str(error)
        raise Unreadable(f"is not valid TOML: {why}") from error


def read_yaml(text: str) -> Any:
    """Read plain YAML: no anchors and aliases, which would let a page of text become gigabytes, and no tags of Python's.

    Raises:
        Unreadable: when it is none, nested too deeply, of too many parts, or has aliases.
    """
    try:
        _check_yaml(text)
        return yaml.load(text, _LOADER)
    except Unreadable:
        raise
    # how its reader fails on values that a tag says wrongly, such as !!bool x, and on half a character
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        raise Unreadable(f"is not valid YAML{'' if line is None else f' at line {line + 1}'}") from error


def read_json(text: str | bytes) -> Any:
    """Read JSON.

    Raises:
        Unreadable: when it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is not valid JSON: {error}") from error


def unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    """Return what an entry of an archive holds, cut off one byte behind `most`.

    Raises:
        Unreadable: when it is encrypted, damaged, or packed in a way that cannot be unpacked piece by piece.
    """
    if entry.flag_bits & _ENCRYPTED:
        raise Unreadable("is encrypted; pack it without a password")
    if entry.compress_type not in _PACKED:
        raise Unreadable("is packed in a way that is not read here; pack it as an ordinary .zip")
    try:
        with archive.open(entry) as file:
            return file.read(most + 1)
    except BROKEN_ZIP as error:
        raise Unreadable("is damaged; pack it again") from error


def is_packed(data: bytes) -> bool:
    """Return whether data is an archive in which something is compressed; what torch saves never is."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except BROKEN_ZIP:
        return False


def _check_toml(text: str) -> None:
    """Refuse what is nested too deeply or has too many parts, without reading it."""
    depth = dots = parts = 0
    for found in _TOML.finditer(text):
        sign = found[0]
        if sign == ".":
            dots += 1
        elif sign in "\n,={}[]":
            dots = 0
            depth += (sign in "{[") - (sign in "}]")
            parts += sign != "\n"
        _require(max(depth, dots), parts)


def _check_yaml(text: str) -> None:
    """Refuse what is nested too deeply, has too many parts or aliases; the reader looks ahead by a kilobyte at most."""
    depth = 0
    for parts, token in enumerate(yaml.scan(text, _LOADER)):
        if isinstance(token, (yaml.AliasToken, yaml.AnchorToken)):
            raise Unreadable("has anchors or aliases (& or *); write its parts out")
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        _require(depth, parts)


_OPENING = (
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)


def _require(depth: int, parts: int) -> None:
    if depth > MOST_DEEP:
        raise Unreadable(f"is nested more than {MOST_DEEP} levels deep; write it flatter")
    if parts > MOST_PARTS:
        raise Unreadable(f"has more than {MOST_PARTS:,} parts; leave some of it out")
