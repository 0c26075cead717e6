"""The tray: up to six plans of the open model that a person keeps to see them side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from surgery_core.errors import PlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.words import subject
from surgery_ui.session import plans
from surgery_ui.session.state import ModelKey, state
from surgery_ui.words import labels
from surgery_ui.work.kinds import TRAY

MOST = TRAY
MAX_NAME = 40
"""Characters of a name."""


@dataclass(frozen=True)
class Kept:
    """One plan of the tray.

    Attributes:
        name: under which it stands; no two of a model alike.
        plan: the plan.
    """

    name: str
    plan: LayerPlan


def kept() -> tuple[Kept, ...]:
    """Return the plans that are kept of the open model."""
    return state.trays.get(_key(), ())


def is_full() -> bool:
    """Whether there is no room for another."""
    return len(kept()) >= MOST


def holds(plan: LayerPlan) -> bool:
    """Whether a plan is among them."""
    return any(one.plan == plan for one in kept())


def add(plan: LayerPlan, name: str = "") -> None:
    """Keep a plan, under a name that is made of what it does where none is given. One that is there stays as it is.

    Raises:
        PlanError: when there are as many as fit.
    """
    if holds(plan):
        return
    if is_full():
        raise PlanError(f"{MOST} plans stand side by side at most; remove one first.")
    wanted = clean(name) or (labels.UNCHANGED if plan.is_identity else subject(plan))
    _set([*kept(), Kept(labels.free(wanted, {one.name for one in kept()}), plan)])


def remove(name: str) -> None:
    """Let go of a plan."""
    _set([one for one in kept() if one.name != name])


def rename(name: str, new: str) -> None:
    """Give a plan another name; an empty one is none."""
    others = {one.name for one in kept() if one.name != name}
    if clean(new):
        _set([replace(one, name=labels.free(clean(new), others)) if one.name == name else one for one in kept()])


def clean(name: str) -> str:
    """Return a name on one line, no longer than fits."""
    return " ".join(name.split())[:MAX_NAME].strip()


def written() -> str:
    """Return the tray as text, for a link: a line a plan, its name and its notation with a tab between."""
    return as_text((one.name, str(one.plan)) for one in kept())


def as_text(found: Iterable[tuple[str, str]]) -> str:
    """Return names and notations as `read` reads them."""
    return "\n".join(f"{clean(name)}\t{notation}" for name, notation in found)


def read(text: str, n_layers: int) -> tuple[list[Kept], list[str]]:
    """Return the plans of a text that `written` made, and a sentence for each line that is none for this model."""
    found: list[Kept] = []
    problems, beyond = [], 0
    for line in filter(None, text.split("\n")):
        name, tab, notation = line.partition("\t")
        if not tab:
            problems.append(
                f"Of the link's plans side by side, {line[:40]!r} was left out: each line is a name, a tab and a plan."
            )
            continue
        try:
            plan = LayerPlan.parse(notation, n_layers)
        except PlanError as error:
            problems.append(f"The plan “{clean(name)}” was left out. {error}")
            continue
        if any(one.plan == plan for one in found):
            continue
        if len(found) == MOST:
            beyond += 1
            continue
        wanted = clean(name) or subject(plan)
        found.append(Kept(labels.free(wanted, {one.name for one in found}), plan))
    if beyond:
        problems.append(f"{MOST} plans stand side by side at most; {beyond} more of the link's were left out.")
    return found, problems[:MOST]


def take(found: Iterable[Kept]) -> None:
    """Put these plans into the tray, in place of those that are there."""
    _set(list(found))


def _set(new: list[Kept]) -> None:
    state.edited = True
    state.trays = {**state.trays, _key(): tuple(new)}


def _key() -> ModelKey:
    return plans.open_model().info.key
