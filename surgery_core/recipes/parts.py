"""The tables of a recipe of version 2: plans side by side, a sweep, a study; what a paper saw, and what an answer means."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from surgery_core.errors import InputError, NotationError
from surgery_core.plans.parser import parse_slots
from surgery_core.recipes.fields import check, check_fields, require, wrong
from surgery_core.sweeps.kinds import sweep_kind
from surgery_core.sweeps.options import SweepOptions

if TYPE_CHECKING:
    from surgery_core.studies.finding import Claim, Outcome
    from surgery_core.studies.study import Option, Study

ANY_DEPTH = 1_000_000
"""Depth under which a plan is read whose model is not open yet."""
MOST_PLANS = 6
"""Plans that stand side by side at most."""
HOW_READ = {"text": "", "abstract": "read in its abstract", "second hand": "read second hand"}
"""How a paper's figure was read, in the paper's text, in its abstract, or in what somebody else wrote about it; and what
is said of that beside it."""
_ARXIV = re.compile(r"\d{4}\.\d{4,5}(v\d+)?")

Frozen = int | float | str | tuple["Frozen", ...]


def check_plan(plan: str, where: str) -> None:
    """Refuse a plan whose notation does not parse.

    Raises:
        RecipeError: names the field.
    """
    try:
        parse_slots(plan, ANY_DEPTH)
    except NotationError as error:
        raise wrong(where, f"does not parse. {error}") from error


@dataclass(frozen=True)
class NamedPlan:
    """One of the plans that stand side by side.

    Attributes:
        name: what it is called.
        plan: in the notation.
    """

    name: str
    plan: str

    @classmethod
    def read(cls, row: object, where: str) -> NamedPlan:
        """Return what a table says. Errors as `Recipe.loads`."""
        table = check(row, dict, where)
        check_fields(table, {"name": str, "plan": str}, f"{where}.")
        if "plan" not in table:
            raise wrong(f"{where}.plan", "is missing; add it")
        require(table, ("name",), where)
        check_plan(table["plan"], f"{where}.plan")
        return cls(**table)


@dataclass(frozen=True)
class SweepChoice:
    """What is tried everywhere.

    Attributes:
        kind: key of a kind of sweep.
        options: what the kind may need.
        best: look only for so many plans of the least loss; None for all of them.
        start: notation of the plan that every plan of it changes; None for the recipe's own.
        skills: whether every plan is asked the skills too.
        prompt: what every plan continues, for the variety of its text; empty for no text.
        texts: titles of those of the recipe's texts that it scores; None for all of them.
    """

    kind: str
    options: SweepOptions = field(default_factory=SweepOptions)
    best: int | None = None
    start: str | None = None
    skills: bool = False
    prompt: str = ""
    texts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.start is not None:
            check_plan(self.start, "sweep.start")
        try:
            sweep_kind(self.kind)
        except InputError as error:
            raise wrong("sweep.kind", f"is not known. {error}") from error
        if self.best is not None and self.best < 1:
            raise wrong("sweep.best", f"is {self.best}; give 1 or more, or leave it out")
        if self.texts is not None and (not self.texts or len(set(self.texts)) < len(self.texts)):
            raise wrong("sweep.texts", "must have one title or more, each once; leave it out for all texts")

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> SweepChoice:
        """Return what a table says. Errors as `Recipe.loads`."""
        own = {"best": int, "start": str, "skills": bool, "prompt": str, "texts": list}
        options_of = {
            "layer": int,
            "max_length": int,
            "times": int,
            "factors": list,
            "seed": int,
            "length": int,
            "damping": float,
        }
        check_fields(table, {"kind": str} | options_of | own, "sweep.")
        require(table, ("kind",), "sweep")
        given = {name: value for name, value in table.items() if name in options_of}
        if "factors" in given:
            given["factors"] = tuple(_number(v, f"sweep.factors[{at}]") for at, v in enumerate(given["factors"]))
        try:
            options = SweepOptions(**given)
        except InputError as error:
            said = {"times": "times", "damped": "damping"}
            field = next((field for word, field in said.items() if word in str(error)), "factors")
            raise wrong(f"sweep.{field}", f"is wrong. {error}") from error
        further = {name: table[name] for name in own if name in table}
        if "texts" in further:
            further["texts"] = tuple(check(t, str, f"sweep.texts[{at}]") for at, t in enumerate(further["texts"]))
        return cls(table["kind"], options, **further)

    def table(self) -> dict[str, Any]:
        """Return the table of a recipe's file."""
        usual = SweepOptions()
        given = {one.name: getattr(self.options, one.name) for one in fields(SweepOptions)}
        changed = {name: value for name, value in given.items() if value != getattr(usual, name)}
        bare = SweepChoice(self.kind)
        further = {name: getattr(self, name) for name in ("best", "start", "skills", "prompt", "texts")}
        held = {name: value for name, value in further.items() if value != getattr(bare, name)}
        return {"kind": self.kind} | changed | held | ({} if self.texts is None else {"texts": list(self.texts)})


@dataclass(frozen=True)
class StudyChoice:
    """Which study is run, and with which of its options.

    Attributes:
        name: the study's key.
        given: its options that are not left at their defaults, by name; lists as tuples.
    """

    name: str
    given: tuple[tuple[str, Frozen], ...] = ()

    def __post_init__(self) -> None:
        from surgery_core.studies.study import settled

        study = self.study
        for name, value in self.given:
            try:
                settled(study, {name: _thawed(value)})
            except InputError as error:
                raise wrong(f"study.{name}", f"is wrong. {error}") from error

    @property
    def study(self) -> Study:
        """Return the study itself.

        Raises:
            RecipeError: when there is none of that name.
        """
        from surgery_core.studies.every import study_of

        try:
            return study_of(self.name)
        except InputError as error:
            raise wrong("study.name", f"is not known. {error}") from error

    @property
    def options(self) -> dict[str, Option]:
        """Return all options of the study, as it takes them."""
        from surgery_core.studies.study import settled

        return settled(self.study, {name: _thawed(value) for name, value in self.given})

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> StudyChoice:
        """Return what a table says. Errors as `Recipe.loads`."""
        require(table, ("name",), "study")
        check(table["name"], str, "study.name")
        given = ((name, _frozen(value, f"study.{name}")) for name, value in table.items() if name != "name")
        return cls(table["name"], tuple(given))

    def table(self) -> dict[str, Any]:
        """Return the table of a recipe's file."""
        return {"name": self.name} | {name: _thawed(value) for name, value in self.given}


@dataclass(frozen=True)
class Paper:
    """What a paper saw. All of it is the paper's.

    Attributes:
        title: of the paper, or of what else it is.
        says: what it saw, in a sentence of our own.
        read: how: a key of `HOW_READ`.
        by: its authors and year.
        arxiv: its number there.
        url: its address, where it is not on arXiv.
        where: the section, table or figure.
        figure: the number, as the paper gives it; empty where none was read in the paper itself.
    """

    title: str
    says: str
    read: str
    by: str = ""
    arxiv: str = ""
    url: str = ""
    where: str = ""
    figure: str = ""

    def __post_init__(self) -> None:
        if self.read not in HOW_READ:
            raise wrong("paper.read", f"is {self.read!r:.60}; there are {', '.join(HOW_READ)}")
        if self.arxiv and not _ARXIV.fullmatch(self.arxiv):
            raise wrong("paper.arxiv", f"is {self.arxiv!r:.60}; write it like 2406.19384")
        if self.url and not re.fullmatch(r"https?://[^\s\"'<>()\[\]]+", self.url):
            raise wrong("paper.url", f"is {self.url!r:.80}; write an address that begins with https://")
        if self.figure and self.read == "second hand":
            raise wrong("paper.figure", "stands beside a source that was read second hand; leave the number out")

    @property
    def link(self) -> str:
        """Return where it can be read; empty where that is not known."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else self.url

    @classmethod
    def read_table(cls, table: Mapping[str, Any]) -> Paper:
        """Return what a table says. Errors as `Recipe.loads`."""
        check_fields(table, {one.name: str for one in fields(cls)}, "paper.")
        require(table, ("title", "says", "read"), "paper")
        return cls(**table)


@dataclass(frozen=True)
class Claimed:
    """What holds here if what the paper saw holds here too.

    Attributes:
        says: in a sentence.
        at_least, at_most: between which ends the study's figure lies then; infinite for no end.
    """

    says: str
    at_least: float = -math.inf
    at_most: float = math.inf

    def __post_init__(self) -> None:
        if not self.at_least <= self.at_most:
            raise wrong(
                "claim.at_least", f"is {self.at_least:g}, and at_most is {self.at_most:g}; it must not be above it"
            )
        if math.isinf(self.at_least) and math.isinf(self.at_most):
            raise wrong("claim", "has no end; write at_least, at_most or both")

    @property
    def claim(self) -> Claim:
        """Return what decides the outcome."""
        from surgery_core.studies.finding import Claim

        return Claim(self.at_least, self.at_most)

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> Claimed:
        """Return what a table says. Errors as `Recipe.loads`."""
        check_fields(table, {"says": str, "at_least": float, "at_most": float}, "claim.")
        require(table, ("says",), "claim")
        ends = {name: _number(table[name], f"claim.{name}") for name in ("at_least", "at_most") if name in table}
        return cls(table["says"], **ends)

    def table(self) -> dict[str, Any]:
        """Return the table of a recipe's file."""
        ends = {"at_least": self.at_least, "at_most": self.at_most}
        return {"says": self.says} | {name: end for name, end in ends.items() if math.isfinite(end)}


@dataclass(frozen=True)
class Meaning:
    """What each outcome means, in plain sentences.

    Attributes:
        seen: where the claim holds here too.
        unseen: where it does not.
        open: where there are too few texts to say.
    """

    seen: str
    unseen: str
    open: str

    def of(self, outcome: Outcome) -> str:
        """Return what an outcome means."""
        return {"seen here too": self.seen, "not seen here": self.unseen}.get(outcome, self.open)

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> Meaning:
        """Return what a table says. Errors as `Recipe.loads`."""
        names = [one.name for one in fields(cls)]
        check_fields(table, dict.fromkeys(names, str), "meaning.")
        require(table, names, "meaning")
        return cls(**table)


def read_expected(table: Mapping[str, Any]) -> tuple[tuple[str, Outcome], ...]:
    """Return which outcome is expected on which model.

    Raises:
        RecipeError: when one is none.
    """
    from typing import get_args

    from surgery_core.studies.finding import Outcome

    known = get_args(Outcome)
    for model, outcome in table.items():
        if outcome not in known:
            raise wrong(f"expected.{model}", f"is {outcome!r:.60}; there are {', '.join(known)}")
    return tuple(table.items())


def _number(value: object, where: str) -> float:
    """Return a finite number."""
    number = float(check(value, float, where))
    if not math.isfinite(number):
        raise wrong(where, f"is {number}; give a finite number")
    return number


def _frozen(value: Any, where: str) -> Frozen:
    if isinstance(value, list):
        return tuple(_frozen(item, f"{where}[{at}]") for at, item in enumerate(value))
    if not isinstance(value, (int, float, str)):
        raise wrong(where, f"is {value!r:.60}; give a number, a text or a list of them")
    return value


def _thawed(value: Frozen) -> Any:
    return [_thawed(item) for item in value] if isinstance(value, tuple) else value
