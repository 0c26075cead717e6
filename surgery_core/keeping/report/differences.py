"""Where two texts differ, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

Run = tuple[str, bool]
"""A stretch of a text, and whether the other text has it too."""


def differing(before: str, after: str) -> tuple[list[Run], list[Run]]:
    """Return both texts as stretches; joined, each is the text again.

    A word goes with the space in front of it. What the other text does not have in that order is a stretch of its own.
    """
    words, others = (re.findall(r"\s*\S+|\s+$", text) for text in (before, after))
    left: list[Run] = []
    right: list[Run] = []
    for kind, start, end, other_start, other_end in SequenceMatcher(None, words, others, autojunk=False).get_opcodes():
        same = kind == "equal"
        left += [("".join(words[start:end]), same)]
        right += [("".join(others[other_start:other_end]), same)]
    return [run for run in left if run[0]], [run for run in right if run[0]]
