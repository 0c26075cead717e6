"""Labels that tell everything in a list apart. Streamlit's select boxes take the last of several equal ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from itertools import chain
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def unique(titles: Mapping[Key, str], details: Mapping[Key, str] | None = None) -> dict[Key, str]:
    """Return a label for each key, no two of which look alike.

    Args:
        titles: what each is called.
        details: what is added in parentheses where titles are equal, such as a folder's name; then a number is.
    """
    plain = {key: " ".join(title.split()) for key, title in titles.items()}
    count = Counter(plain.values())
    found = {
        key: f"{title} ({details[key]})" if count[title] > 1 and details is not None and key in details else title
        for key, title in plain.items()
    }
    taken: set[str] = set()
    for key in sorted(found, key=lambda key: count[plain[key]]):  # a title that stands alone stays as it is
        found[key] = free(found[key], taken)
        taken.add(found[key])
    return found


def free(wanted: str, taken: set[str]) -> str:
    """Return `wanted`, with the first number behind it that makes it none of `taken`."""
    wanted = " ".join(wanted.split())
    numbered = (f"{wanted} ({number})" for number in range(2, len(taken) + 3))
    return next(name for name in chain([wanted], numbered) if name not in taken)


UNCHANGED = "Unchanged model"
"""What a list of plans calls the one that changes nothing."""

FULL = 3.0
"""Nats a token from which on a layer's chip has its full tint."""
_SLIGHT = 0.02


def strength(change: float) -> float:
    """Return how strongly a chip is tinted for what deleting its layer cost, 0 to 1: by orders of magnitude."""
    if change <= 0:
        return 0.0
    return min(1.0, math.log1p(change / _SLIGHT) / math.log1p(FULL / _SLIGHT))


def cost(change: float) -> str:
    """Return what deleting a layer cost, in words."""
    return f"without it {change:+.3f} nats a token".replace("-", "−")
