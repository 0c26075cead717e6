"""Workshops as TOML files: steps, each with a text, a goal, a ladder of hints, a question.

    version = 1
    title = "What a layer does"
    minutes = 20
    model = "fable"
    about = "A first look, for people who have never seen the inside of a language model."

    [[steps]]
    title = "Take one out"
    text = "Click L5 in the sidebar and press Delete. Read what the model writes now."
    hints = ["The chips in the sidebar are the layers.", "Click L5, then Delete.", "Show me"]
    show = "0-4,6-11"                    # the plan that the last hint puts in the strip
    question = "What has changed in the text?"

    [steps.goal]                         # `goals.Goal` has all of its fields
    gone = [5]

    [challenge]                          # one board for the room
    title = "As few layers as you can"
    ratio_at_most = 1.25

A step without a goal is done when its question is answered, or when it is ticked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surgery_core.bounded import Unreadable, read_toml
from surgery_core.errors import PlanError, RecipeError
from surgery_core.measure.skills import load_skills
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.fields import check, check_fields, require, wrong
from surgery_core.recipes.lines import line_of
from surgery_core.sweeps.kinds import KINDS as SWEEPS
from surgery_core.workshops.goals import ASKED, KINDS, Goal, goal_of

_PACKAGE = Path(__file__).resolve().parents[1]
_SHIPPED = _PACKAGE / "shipped" / "workshops"
WORKSHOPS_FOLDER = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parent / "workshops"
"""Where those lie that come along: in the installed package, or in the repository."""
VERSION = 1
MAX_BYTES = 500_000
MAX_STEPS = 60
HINTS = 3
"""Most hints of a step: a nudge, a suggestion, and the last one, which shows how."""
MAX_TEXT = 4_000
"""Longest text of a step, in characters."""
PAGES = ("lens", "sweep", "skills", "gallery", "compare", "models")
_OF = "workshop"
_FILE = {"version": int, "title": str, "minutes": int, "model": str, "about": str, "steps": list, "challenge": dict}
_STEP = {"title": str, "text": str, "goal": dict, "hints": list, "show": str, "question": str}
_CHALLENGE = {"title": str, "text": str, "ratio_at_most": float, "kept_at_least": float}


@dataclass(frozen=True)
class Step:
    """One task.

    Attributes:
        title: a few words.
        text: what to do, as Markdown.
        goal: what the person's own run has to be; None where there is nothing to check.
        hints: at most three, from a nudge to how it is done.
        show: the plan that the last hint puts in the strip, or None.
        question: asked for a free answer, or empty.
    """

    title: str
    text: str
    goal: Goal | None = None
    hints: tuple[str, ...] = ()
    show: str | None = None
    question: str = ""


@dataclass(frozen=True)
class Challenge:
    """A board: as few layers as possible while the bounds hold.

    Attributes:
        title: a few words.
        text: what to do.
        goal: the bounds.
    """

    title: str
    text: str
    goal: Goal


@dataclass(frozen=True)
class Workshop:
    """Tasks in order.

    Attributes:
        title, about: what it is, for whom.
        minutes: how long it takes.
        model: the name of the model that it is for.
        steps: its tasks.
        challenge: its board, if it has one.
    """

    title: str
    about: str
    minutes: int
    model: str
    steps: tuple[Step, ...]
    challenge: Challenge | None = None

    @classmethod
    def read(cls, text: str) -> Workshop:
        """Read a workshop from the text of its file.

        Raises:
            RecipeError: names the field, its line, and what is allowed.
        """
        if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            raise RecipeError(f"The workshop is larger than {MAX_BYTES:,} bytes.")
        try:
            table = read_toml(text)
        except Unreadable as error:
            raise RecipeError(f"The workshop {error}.") from None
        try:
            return _workshop(table)
        except RecipeError as error:
            line = line_of(text, error.field or "")
            raise RecipeError(f"Line {line}: {error}" if line else str(error), error.field) from None


def load_workshop(path: str | Path) -> Workshop:
    """Read a workshop's file. Errors as `Workshop.read`, and where the file cannot be read."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise RecipeError(f"{path} cannot be read ({error.strerror}).") from None
    try:
        return Workshop.read(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not text (byte {error.start + 1}).") from None


def workshops() -> dict[str, Workshop]:
    """Return the workshops that come along, by the names of their files, the shortest first."""
    found = {path.stem: load_workshop(path) for path in WORKSHOPS_FOLDER.glob("*.toml")}
    return dict(sorted(found.items(), key=lambda item: (item[1].minutes, item[0])))


def _workshop(table: Mapping[str, Any]) -> Workshop:
    check_fields(table, _FILE, "", _OF)
    require(table, ("version", "title", "minutes", "model", "steps"), "", _OF)
    if table["version"] != VERSION:
        raise wrong("version", f"is {table['version']}; this program reads {VERSION}", _OF)
    if not 1 <= table["minutes"] <= 600:
        raise wrong("minutes", f"is {table['minutes']}; give 1 to 600", _OF)
    if not 1 <= len(table["steps"]) <= MAX_STEPS:
        raise wrong("steps", f"has {len(table['steps'])} steps; give 1 to {MAX_STEPS}", _OF)
    steps = tuple(_step(one, f"steps[{at}]") for at, one in enumerate(table["steps"]))
    challenge = _challenge(table["challenge"]) if "challenge" in table else None
    return Workshop(table["title"], table.get("about", ""), table["minutes"], table["model"], steps, challenge)


def _step(item: object, where: str) -> Step:
    table = check(item, dict, where, _OF)
    check_fields(table, _STEP, f"{where}.", _OF)
    require(table, ("title", "text"), where, _OF)
    for name in ("text", "question"):
        if len(table.get(name, "")) > MAX_TEXT:
            raise wrong(
                f"{where}.{name}", f"has {len(table[name]):,} characters; at most {MAX_TEXT:,} are allowed", _OF
            )
    hints = [check(one, str, f"{where}.hints[{at}]", _OF) for at, one in enumerate(table.get("hints", ()))]
    if len(hints) > HINTS:
        raise wrong(f"{where}.hints", f"has {len(hints)} hints; at most {HINTS} are allowed", _OF)
    if "show" in table:
        _check_plan(table["show"], f"{where}.show")
    goal = _goal(table["goal"], f"{where}.goal") if "goal" in table else None
    return Step(table["title"], table["text"], goal, tuple(hints), table.get("show"), table.get("question", ""))


def _goal(table: Mapping[str, Any], where: str) -> Goal:
    check_fields(table, KINDS, f"{where}.", _OF)
    if not table:
        raise wrong(where, "is empty; say what is to be reached, or leave it out", _OF)
    for at, text in enumerate(table.get("plans", ())):
        _check_plan(check(text, str, f"{where}.plans[{at}]", _OF), f"{where}.plans[{at}]")
    for at, index in enumerate(table.get("gone", ())):
        if check(index, int, f"{where}.gone[{at}]", _OF) < 0:
            raise wrong(f"{where}.gone[{at}]", f"is {index}; layers are numbered from 0", _OF)
    for name in ("kept_at_least", "skill_at_most", "skill_at_least"):
        if not 0 <= table.get(name, 0) <= 1:
            raise wrong(f"{where}.{name}", f"is {table[name]}; give a share from 0 to 1", _OF)
    for name in ("ratio_at_most", "ratio_at_least", "runs_at_most", "runs_at_least"):
        if table.get(name, 1) < (0 if name.startswith("runs") else 1e-6):
            raise wrong(f"{where}.{name}", f"is {table[name]}; give a positive number", _OF)
    _choice(table, "page", PAGES, where)
    _choice(table, "sweep", tuple(kind.key for kind in SWEEPS), where)
    _choice(table, "skill", tuple(skill.name for skill in load_skills()), where)
    if "skill" not in table and (bound := [name for name in ASKED if name in table]):
        raise wrong(f"{where}.{bound[0]}", "needs a skill; name one", _OF)
    return goal_of(table)


def _choice(table: Mapping[str, Any], name: str, allowed: tuple[str, ...], where: str) -> None:
    if name in table and table[name] not in allowed:
        raise wrong(f"{where}.{name}", f"is {table[name]!r}; choose one of {', '.join(allowed)}", _OF)


def _check_plan(text: str, where: str) -> None:
    try:
        LayerPlan.parse(text, 1024)
    except PlanError as error:
        raise wrong(where, f"is no plan: {error}", _OF) from None


def _challenge(table: Mapping[str, Any]) -> Challenge:
    check_fields(table, _CHALLENGE, "challenge.", _OF)
    require(table, ("title",), "challenge", _OF)
    bounds = {name: table[name] for name in ("ratio_at_most", "kept_at_least") if name in table}
    if not bounds:
        raise wrong("challenge", "has no bound; give ratio_at_most or kept_at_least", _OF)
    return Challenge(table["title"], table.get("text", ""), _goal(bounds, "challenge"))
