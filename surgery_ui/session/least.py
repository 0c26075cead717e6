"""The search for the least important layer of a plan, as far as a session has to remember it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Least:
    """One search, and what came of it.

    Attributes:
        model: key of the model.
        sweep: number of the sweep that deletes each layer of the plan.
        before: the plan, in notation.
        after: the plan without the layer; None until it has been removed.
        said: what was removed and what that cost, or why nothing was.
        help: how to read that.
    """

    model: tuple[str, ...]
    sweep: int
    before: str
    after: str | None = None
    said: str = ""
    help: str = ""
