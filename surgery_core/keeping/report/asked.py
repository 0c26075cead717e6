"""What a report is to show, besides what its recipe measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from surgery_core.errors import ReportError, SettingsError
from surgery_core.sweeps.options import SweepOptions

if TYPE_CHECKING:
    from surgery_core.sweeps.request import SweepRequest
    from surgery_core.sweeps.rows import SweepRow

PARTS = MappingProxyType(
    {
        "plan": "The plan as a picture",
        "writing": "Text before and after",
        "scores": "Perplexity of every text",
        "plans": "Plans side by side",
        "lens": "What each layer would say next",
        "skills": "Skills",
        "sweep": "A sweep",
        "swap": "A word swapped",
        "study": "What a paper saw, and what is measured here",
    }
)
"""Parts of a report that can be left out, in the order in which they stand, with their titles."""
USUAL = ("plan", "writing", "scores")
"""Parts where nothing is chosen; plans, a lens, a sweep, a swap and a study come along where the recipe has them."""
LENSES = ("logit", "tuned", "jacobian")


@dataclass(frozen=True)
class AskedSweep:
    """A sweep over the recipe's texts.

    Attributes:
        kind: key of the kind.
        options: of the kind.
        start: notation of the plan that every plan of it changes; None for the unchanged model.
        skills: whether every plan is asked the skills too.
        prompt: what every plan continues, for the variety of its text; None for no text.
        new_tokens: length of that text in tokens.
        best: look only for so many plans of the least loss; None for all of them.
        texts: titles of those of the recipe's texts that it scores; None for all of them.
    """

    kind: str
    options: SweepOptions = SweepOptions()  # noqa: RUF009 - it is frozen
    start: str | None = None
    skills: bool = False
    prompt: str | None = None
    new_tokens: int = 64
    best: int | None = None
    texts: tuple[str, ...] | None = None

    @classmethod
    def of(cls, request: SweepRequest, texts: tuple[str, ...] | None = None) -> AskedSweep:
        """Return what a sweep was asked to do, over the report's texts of these titles."""
        start, measures = None if request.start.is_identity else str(request.start), request.measures
        return cls(
            request.kind, request.options, start, bool(measures.skills), measures.prompt, measures.new_tokens,
            measures.best, texts,
        )  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """Return it as values that JSON and TOML hold, without what is as usual."""
        options = {key: value for key, value in asdict(self.options).items() if value is not None}
        further = {key: value for key, value in asdict(self).items() if key not in ("kind", "options")}
        usual = asdict(AskedSweep(self.kind))
        held = {key: list(v) if isinstance(v, tuple) else v for key, v in further.items() if v != usual[key]}
        return {"kind": self.kind, "options": options | {"factors": list(options["factors"])}} | held

    @classmethod
    def read(cls, held: Mapping[str, Any]) -> AskedSweep:
        """Return what such values say; errors as those of a dataclass."""
        options = held["options"] | {"factors": tuple(held["options"]["factors"])}
        texts = None if held.get("texts") is None else tuple(map(str, held["texts"]))
        return cls(**{**held, "kind": str(held["kind"]), "options": SweepOptions(**options), "texts": texts})


@dataclass(frozen=True, eq=False)
class Swept:
    """A sweep: what it was asked, and its rows in order, the starting plan's first."""

    request: SweepRequest
    rows: tuple[SweepRow, ...]


@dataclass(frozen=True)
class Asked:
    """What a report shows.

    Attributes:
        parts: some of `PARTS`.
        lens: what reads the layers: `"logit"`, or `"tuned"` or `"jacobian"` for one that came with the model.
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
            held["sweep"] = self.sweep.plain()
        return held

    @classmethod
    def of(cls, held: Mapping[str, Any]) -> Asked:
        """Return what a file says was asked.

        Raises:
            ReportError: where it says nothing that can be read.
        """
        try:
            sweep = AskedSweep.read(held["sweep"]) if held.get("sweep") is not None else None
            return cls(tuple(held["parts"]), held["lens"], sweep, bool(held["unproved"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ReportError(f"What the report shows cannot be read ({error}); make the report again.") from error
