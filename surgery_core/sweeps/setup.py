"""What a sweep is about, handed to whatever runs it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from surgery_core.errors import SettingsError
from surgery_core.measure.encoding import Encoded
from surgery_core.measure.skills import Skill
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.shared_beginnings import DEFAULT_MEMORY
from surgery_core.stopping import raise_if_stopped
from surgery_core.surgery.ingredients import Ingredients
from surgery_core.surgery.view import operate
from surgery_core.suture.stitcher import Stitcher


@dataclass(frozen=True)
class SweepMeasures:
    """What is measured of every plan, besides its loss.

    Attributes:
        agreement: KL(base || operated), top-1 and top-5 kept.
        skills: labelled prompts to answer; run whole, which takes longer.
        prompt: a beginning to continue greedily, for distinct-n of the text; None for no text.
        new_tokens: length of that text in tokens.
        best: look only for so many plans of the least loss; others are left as soon as they are surely not among them
            (`surgery_core.statistics.race`), with the figures of the texts until then. None to measure all to the end.
    """

    agreement: bool = True
    skills: tuple[Skill, ...] = ()
    prompt: str | None = None
    new_tokens: int = 64
    best: int | None = None

    def __post_init__(self) -> None:
        if self.best is not None and self.best < 1:
            raise SettingsError(f"The best {self.best} plans cannot be looked for; give 1 or more, or leave it out.")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the keys of `METRICS` that rows then have."""
        agreement = ("kl", "top1", "top5") if self.agreement else ()
        skills = ("skill_accuracy",) if self.skills else ()
        text = ("distinct_2",) if self.prompt is not None else ()
        return ("perplexity", "bits_per_byte", "loss_change", *agreement, *skills, *text)


@dataclass(frozen=True, eq=False)
class SweepSetup:
    """What a sweep is about.

    Attributes:
        model: the base; it is not changed.
        tokenizer: its tokenizer.
        encoded: what is scored, as tokens.
        measures: what is measured of every plan.
        ingredients: donors and means that plans name.
        memory: bytes of hidden states that may be kept.
        stop: when set, the sweep ends.
        stitcher: fits the stitches of plans that have some; None where none has.
    """

    model: nn.Module
    tokenizer: Any
    encoded: Encoded
    measures: SweepMeasures = field(default_factory=SweepMeasures)
    ingredients: Ingredients = field(default_factory=Ingredients)
    memory: int = DEFAULT_MEMORY
    stop: threading.Event | None = None
    stitcher: Stitcher | None = None

    def operate(self, plan: LayerPlan) -> Any:
        """Return the model that a plan describes. Errors as `operate`."""
        if self.stitcher is not None and plan != plan.unstitched:
            return self.stitcher.view(plan)
        return operate(self.model, plan, **self.ingredients.named)

    def look(self) -> None:
        """Stop the work where that was asked for.

        Raises:
            Stopped: when `stop` was set.
        """
        raise_if_stopped(self.stop, "The sweep was stopped.")
