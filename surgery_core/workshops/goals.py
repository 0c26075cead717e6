"""Goals of tasks: what a plan, its figures or what was looked at have to be, and what is still missing.

A goal is checked on a person's own run: on figures that were computed for their plan here, never on numbers that a
browser sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from surgery_core.plans.plan import LayerPlan

COMPARED = ("ratio_at_most", "ratio_at_least", "kept_at_least")
ASKED = ("skill", "skill_at_most", "skill_at_least")


@dataclass(frozen=True)
class Run:
    """What a person has before them.

    Attributes:
        plan: of the strip.
        ratio: its perplexity over the bundled texts, divided by the unchanged model's; None where it is not known.
        kept: share of the unchanged model's likeliest tokens that stay likeliest, 0 to 1; None likewise.
        skills: accuracy by skill, 0 to 1; empty where nothing was asked.
        page: where they are, as in the address: `""` is the Surgery page.
        sweeps: kinds of the sweeps that they have measured to the end.
    """

    plan: LayerPlan
    ratio: float | None = None
    kept: float | None = None
    skills: Mapping[str, float] = field(default_factory=dict)
    page: str = ""
    sweeps: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Goal:
    """What a task asks for; everything that is set has to hold at once.

    Attributes:
        plans: notations of which the plan has to be one.
        gone: layers that no longer run, exactly these.
        runs_at_most: layers that run at most, each as often as it runs.
        runs_at_least: layers that run at least.
        changed: whether the plan has to be another than the unchanged model's.
        whole: whether all layers have to be there still, in whatever order.
        ratio_at_most, ratio_at_least: bounds on the perplexity, as a multiple of the unchanged model's.
        kept_at_least: share of likeliest tokens that stay, 0 to 1.
        skill, skill_at_most, skill_at_least: name of a skill, and bounds on its accuracy, 0 to 1.
        page: where the person has to be: `lens`, `sweep`, `skills`, `gallery`, `compare`, `models`.
        sweep: kind of a sweep that has to be measured.
    """

    plans: tuple[str, ...] = ()
    gone: tuple[int, ...] | None = None
    runs_at_most: int | None = None
    runs_at_least: int | None = None
    changed: bool = False
    whole: bool = False
    ratio_at_most: float | None = None
    ratio_at_least: float | None = None
    kept_at_least: float | None = None
    skill: str | None = None
    skill_at_most: float | None = None
    skill_at_least: float | None = None
    page: str | None = None
    sweep: str | None = None

    @property
    def needs_comparison(self) -> bool:
        """Whether figures over the bundled texts are needed to tell."""
        return any(getattr(self, name) is not None for name in COMPARED)

    @property
    def needs_skills(self) -> bool:
        """Whether answers to the prompts of a skill are needed to tell."""
        return self.skill is not None


def runs(plan: LayerPlan) -> int:
    """Return how many layers run in a plan, each as often as it runs."""
    return sum(len(slot.layers) for slot in plan)


def missing(goal: Goal, run: Run) -> list[str]:
    """Return what a run lacks, as sentences; none where the goal is reached."""
    return [*_of_plan(goal, run.plan), *_of_figures(goal, run), *_of_skill(goal, run), *_of_place(goal, run)]


def _of_plan(goal: Goal, plan: LayerPlan) -> Iterator[str]:
    n_layers, count = plan.n_layers, runs(plan)
    if goal.plans and plan not in [LayerPlan.parse(text, n_layers) for text in goal.plans]:
        yield f"The plan is {plan or 'no layers'}, which is not the one that is asked for."
    if goal.gone is not None and plan.deleted != tuple(sorted(goal.gone)):
        yield f"{_gone(plan)}; that is not what is asked for."
    if goal.runs_at_most is not None and count > goal.runs_at_most:
        yield f"{_layers(count)} run; at most {goal.runs_at_most} may."
    if goal.runs_at_least is not None and count < goal.runs_at_least:
        yield f"{_layers(count)} run; at least {goal.runs_at_least} have to."
    if goal.changed and plan.is_identity:
        yield "Nothing is changed yet."
    if goal.whole and plan.deleted:
        yield f"{_gone(plan)}; every layer has to be there."


def _of_figures(goal: Goal, run: Run) -> Iterator[str]:
    if not goal.needs_comparison:
        return
    if run.ratio is None or run.kept is None:
        yield "Its perplexity is not known yet."
        return
    # a figure that is not a number holds no bound
    if goal.ratio_at_most is not None and not run.ratio <= goal.ratio_at_most:
        yield f"Its perplexity is {run.ratio:.3f} times the unchanged model's; at most {goal.ratio_at_most:g} is asked for."
    if goal.ratio_at_least is not None and not run.ratio >= goal.ratio_at_least:
        yield f"Its perplexity is {run.ratio:.3f} times the unchanged model's; at least {goal.ratio_at_least:g} is asked for."
    if goal.kept_at_least is not None and not run.kept >= goal.kept_at_least:
        yield f"{run.kept:.1%} of the likeliest tokens stay; at least {goal.kept_at_least:.0%} is asked for."


def _of_skill(goal: Goal, run: Run) -> Iterator[str]:
    if goal.skill is None:
        return
    found = run.skills.get(goal.skill)
    name = goal.skill.replace("_", " ")
    if found is None:
        yield f"The prompts of the skill “{name}” were not asked yet."
    elif goal.skill_at_most is not None and not found <= goal.skill_at_most:
        yield f"{found:.0%} of the prompts of “{name}” are still right; at most {goal.skill_at_most:.0%} is asked for."
    elif goal.skill_at_least is not None and not found >= goal.skill_at_least:
        yield f"{found:.0%} of the prompts of “{name}” are right; at least {goal.skill_at_least:.0%} is asked for."


def _of_place(goal: Goal, run: Run) -> Iterator[str]:
    if goal.page is not None and run.page != goal.page:
        yield f"Open the {goal.page.capitalize()} page."
    if goal.sweep is not None and goal.sweep not in run.sweeps:
        yield "The sweep has not been measured to its end yet."


def _gone(plan: LayerPlan) -> str:
    names = ", ".join(f"L{index}" for index in plan.deleted)
    return f"{names or 'No layer'} {'is' if len(plan.deleted) < 2 else 'are'} gone"


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


KINDS: Mapping[str, type] = {
    one.name: {"plans": list, "gone": list, "changed": bool, "whole": bool, "skill": str, "page": str, "sweep": str}.get(
        one.name, int if one.name.startswith("runs") else float
    )
    for one in fields(Goal)
}  # fmt: skip
"""Of every field of a goal, the type that it has in a file."""


def goal_of(table: Mapping[str, Any]) -> Goal:
    """Return the goal of a checked table."""
    lists = {name: tuple(table[name]) for name in ("plans", "gone") if name in table}
    return Goal(**{**table, **lists})
