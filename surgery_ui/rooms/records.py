"""What a room, its people and its board are, as values."""

from __future__ import annotations

from dataclasses import dataclass

from surgery_core.errors import InputError
from surgery_core.workshops.workshop import Workshop


class RoomError(InputError):
    """A room that is not there, a key that does not open it, or a file that cannot be written."""


@dataclass(frozen=True)
class Room:
    """A room as it is now.

    Attributes:
        code: by which people join it.
        workshop: its tasks; None for a room without.
        model: the model that everybody works on, or None.
        pages: pages that are shown, as in the address; empty for all.
        texts: name of the set of texts that everybody scores, or None.
        made: when it was made, in seconds since 1970.
        ended: when it was ended, or None.
        pushed: number of the newest plan that the organiser has pushed, 0 before the first.
        plan: that plan, in notation.
    """

    code: str
    workshop: Workshop | None
    model: str | None
    pages: tuple[str, ...]
    texts: str | None
    made: float
    ended: float | None
    pushed: int
    plan: str | None


@dataclass(frozen=True)
class Progress:
    """How far somebody is with a step: hints that are open, the answer, and when it was done (None: not yet)."""

    hints: int = 0
    answer: str = ""
    done: float | None = None


@dataclass(frozen=True)
class Standing:
    """Somebody's best plan on the board: fewest layers, then the smaller perplexity, then the earlier one."""

    person: str
    name: str
    plan: str
    layers: int
    ratio: float
    kept: float
    at: float
