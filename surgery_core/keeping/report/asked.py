"""What a report is to show, besides what its recipe measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from surgery_core.errors import ReportError, SettingsError
from surgery_core.sweeps.kinds import SweepOptions

PARTS = MappingProxyType(
    {
        "plan": "The plan as a picture",
        "writing": "Text before and after",
        "scores": "Perplexity of every text",
        "lens": "What each layer would say next",
        "skills": "Skills",
        "sweep": "A sweep",
    }
)
"""Parts of a report that can be left out, in the order in which they stand, with their titles."""
USUAL = ("plan", "writing", "scores")
"""Parts where nothing is chosen; a lens and a sweep come along where the recipe has a text for one, or a kind is named."""
LENSES = ("logit", "tuned")


@dataclass(frozen=True)
class AskedSweep:
    """A sweep over the recipe's texts.

    Attributes:
        kind: key of the kind.
        options: of the kind.
        start: notation of the plan that every plan of it changes; None for the unchanged model.
    """

    kind: str
    options: SweepOptions = SweepOptions()  # noqa: RUF009 - it is frozen
    start: str | None = None


@dataclass(frozen=True)
class Asked:
    """What a report shows.

    Attributes:
        parts: some of `PARTS`.
        lens: what reads the layers: `"logit"`, or `"tuned"` for the lens that came with the model.
        sweep: the sweep of the part of that name.
        unproved: whether to go on where the plan does not pass its checks.

    Raises:
        SettingsError: for parts that there are not.
    """

    parts: tuple[str, ...] = USUAL
    lens: str = "logit"
    sweep: AskedSweep | None = None
    unproved: bool = False

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise SettingsError(f"A report has no part {part!r}; there are {', '.join(PARTS)}.")
        if self.lens not in LENSES:
            raise SettingsError(f"A report reads layers through no {self.lens!r}; choose one of {', '.join(LENSES)}.")
        if ("sweep" in self.parts) != (self.sweep is not None):
            raise SettingsError("The part sweep needs a kind of sweep, and a kind needs the part; give --sweep KIND.")

    def plain(self) -> dict[str, Any]:
        """Return it as values that JSON and TOML hold."""
        held: dict[str, Any] = {"parts": list(self.parts), "lens": self.lens, "unproved": self.unproved}
        if self.sweep is not None:
            swept = asdict(self.sweep)
            options = {key: value for key, value in swept["options"].items() if value is not None}
            options["factors"] = list(options["factors"])
            held["sweep"] = {"kind": swept["kind"], "options": options}
            held["sweep"] |= {} if swept["start"] is None else {"start": swept["start"]}
        return held

    @classmethod
    def of(cls, held: Mapping[str, Any]) -> Asked:
        """Return what a file says was asked.

        Raises:
            ReportError: where it says nothing that can be read.
        """
        try:
            swept = held.get("sweep")
            sweep = None
            if swept is not None:
                options = swept["options"] | {"factors": tuple(swept["options"]["factors"])}
                sweep = AskedSweep(str(swept["kind"]), SweepOptions(**options), swept.get("start"))
            return cls(tuple(held["parts"]), held["lens"], sweep, bool(held["unproved"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ReportError(f"What the report shows cannot be read ({error}); make the report again.") from error
