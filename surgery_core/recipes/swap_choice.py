"""A recipe's `[swap]`: which token stands for which, behind which slot of which side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from surgery_core.lenses.swap_bounds import MOST_STRENGTH
from surgery_core.recipes.fields import check, check_fields, wrong

Side = Literal["before", "after"]
SIDES: tuple[Side, ...] = ("before", "after")
_FOLLOWED = ("layer", "position")
_KINDS: dict[str, type] = {
    "slot": int, "source": str, "target": str, "side": str, "strength": float, "positions": list, "follow": str, "lens": str,
}  # fmt: skip


@dataclass(frozen=True)
class SwapChoice:
    """A word swapped where a Jacobian lens reads it, while the text of the lens is continued.

    Attributes:
        slot: whose output is changed, counted in running order from 0.
        source: the token that stands there, as text.
        target: the token that takes its place.
        side: whether the slot is of the unchanged model, `"before"`, or of the plan, `"after"`.
        strength: 1 for a whole swap; from -10 to 10.
        positions: which tokens of the text, counted from 0; None for all, written ones too.
        follow: which matrix of the lens belongs to a slot after surgery, that of its `"layer"` or of its `"position"`.
        lens: file or folder of a lens, or the hub id of a model that the collection has one for; empty for the lens that
            came with the model.
    """

    slot: int
    source: str
    target: str
    side: Side = "after"
    strength: float = 1.0
    positions: tuple[int, ...] | None = None
    follow: Literal["layer", "position"] = "layer"
    lens: str = ""

    def __post_init__(self) -> None:
        if self.slot < 0:
            raise wrong("swap.slot", f"is {self.slot}; slots are counted from 0")
        for name in ("source", "target"):
            if not getattr(self, name):
                raise wrong(f"swap.{name}", "is empty; write one token as the model writes it")
        if self.source == self.target:
            raise wrong("swap.target", f"is {self.target!r:.60}, as the source; write another token")
        if self.side not in SIDES:
            raise wrong("swap.side", f"is {self.side!r:.60}; there are {' and '.join(SIDES)}")
        if self.follow not in _FOLLOWED:
            raise wrong("swap.follow", f"is {self.follow!r:.60}; there are {' and '.join(_FOLLOWED)}")
        if not -MOST_STRENGTH <= self.strength <= MOST_STRENGTH:
            raise wrong("swap.strength", f"is {self.strength}; it must be from {-MOST_STRENGTH} to {MOST_STRENGTH}")
        if self.positions is not None and (not self.positions or min(self.positions) < 0):
            raise wrong("swap.positions", f"is {list(self.positions)}; give some from 0 on, or leave it out for all")

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> SwapChoice:
        """Return what a table says. Errors as `Recipe.loads`."""
        check_fields(table, _KINDS, "swap.")
        for name in ("slot", "source", "target"):
            if name not in table:
                raise wrong(f"swap.{name}", "is missing; add it")
        given = dict(table)
        if "positions" in given:
            given["positions"] = tuple(
                check(v, int, f"swap.positions[{at}]") for at, v in enumerate(given["positions"])
            )
        if "strength" in given:
            given["strength"] = float(given["strength"])
        return cls(**given)

    def table(self) -> dict[str, Any]:
        """Return the table of a recipe's file, without what is left at its default."""
        held = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}
        return held | ({} if self.positions is None else {"positions": list(self.positions)})
