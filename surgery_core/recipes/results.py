"""What the parts of a recipe of version 2 came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from surgery_core.measure.generation import Generation
from surgery_core.measure.results import Comparison
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.parts import SweepChoice
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.swap_choice import SwapChoice
from surgery_core.studies.finding import Finding, Outcome
from surgery_core.sweeps.rows import SweepRow


@dataclass(frozen=True)
class PlanResult:
    """One of the plans that stand side by side, compared with the unchanged model.

    Attributes:
        name: what it is called.
        plan: itself.
        comparison: over the recipe's texts.
    """

    name: str
    plan: LayerPlan
    comparison: Comparison

    def row(self) -> dict[str, Any]:
        """Return its line of a table: figures over all texts, with intervals and the verdict."""
        found, ratio = self.comparison.verdict(), self.comparison.interval("ratio")
        return {
            "name": self.name,
            "plan": str(self.plan),
            "layers": len(self.plan),
            "perplexity": self.comparison.operated.perplexity,
            "ratio": self.comparison.ratio,
            "low": ratio.low,
            "high": ratio.high,
            "top1": self.comparison.top1,
            "kl": self.comparison.kl,
            "verdict": found.word,
            "sentence": found.sentence,
            "n_units": found.n_units,
            "unit": found.unit,
        }


@dataclass(frozen=True)
class SweptRows:
    """What a recipe's sweep measured.

    Attributes:
        choice: what was tried.
        start: the plan that each changed.
        rows: of that plan (number -1) and then of each point, in the order of their numbers.
        note: how it ran, where that is worth a word.
    """

    choice: SweepChoice
    start: LayerPlan
    rows: tuple[SweepRow, ...]
    note: str = ""

    def plain(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        about = {"kind": self.choice.kind, "options": asdict(self.choice.options), "best": self.choice.best}
        return about | {"start": str(self.start), "note": self.note, "rows": [row.record() for row in self.rows]}


@dataclass(frozen=True)
class SwapResult:
    """What a text became, and what with one word swapped for another.

    Attributes:
        choice: what was swapped.
        before: written by the unchanged model.
        after: by the plan; None where that is the unchanged model.
        swapped: by the side that the choice names, with the swap.
    """

    choice: SwapChoice
    before: Generation
    after: Generation | None
    swapped: Generation

    @property
    def written(self) -> dict[str, Generation]:
        """Return the texts by side: `before`, `after` where there is one, `swapped`."""
        after = {} if self.after is None else {"after": self.after}
        return {"before": self.before} | after | {"swapped": self.swapped}

    @property
    def side(self) -> str:
        """Return the side that the swapped text stands beside: the choice's, or `before` where there is no other."""
        return "before" if self.after is None else self.choice.side

    @property
    def says(self) -> str:
        """Return in a sentence what was swapped, and where."""
        one, side = self.choice, "the unchanged model" if self.side == "before" else "the plan"
        tokens = "all tokens" if one.positions is None else f"token {', '.join(map(str, one.positions))}"
        return (
            f"Behind slot {one.slot} of {side}, at {tokens}: {one.source!r} and {one.target!r} change places, "
            f"strength {one.strength:g}."
        )

    def plain(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        texts = {side: asdict(text) for side, text in self.written.items()}
        return {"choice": asdict(self.choice), "says": self.says} | texts


@dataclass(frozen=True, eq=False)
class StudyResult:
    """What a recipe's study found.

    Attributes:
        key: of the study.
        finding: its figures and picture.
        outcome: whether the claim holds here; None where the recipe has none.
        seconds: how long it took.
    """

    key: str
    finding: Finding
    outcome: Outcome | None
    seconds: float

    def plain(self, recipe: Recipe) -> dict[str, Any]:
        """Return everything as plain values, for JSON.

        Args:
            recipe: whose study it is.
        """
        found, claim, paper = self.finding, recipe.claim, recipe.paper
        meaning = "" if self.outcome is None or recipe.meaning is None else recipe.meaning.of(self.outcome)
        return {
            "key": self.key,
            "figure": asdict(found.figure),
            "others": [asdict(one) for one in found.others],
            "outcome": self.outcome,
            "claim": None if claim is None else claim.table(),
            "meaning": meaning,
            "paper": None if paper is None else asdict(paper) | {"link": paper.link},
            "note": found.note,
            "picture": asdict(found.picture),
            "frame": [{str(key): value for key, value in row.items()} for row in found.frame.to_dict("records")],
            "seconds": self.seconds,
        }
