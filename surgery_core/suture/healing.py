"""How a heal is done, where it stands, and what was read of the texts held out: plain records."""

from __future__ import annotations

import math
from dataclasses import dataclass

from surgery_core.errors import SettingsError

MOST_MINUTES = 600.0
MOST_STEPS = 100_000


@dataclass(frozen=True)
class Healing:
    """How low-rank updates are trained.

    Attributes:
        rank: of each update, 1 to 512; never more than the smaller side of what it is added to.
        learning_rate: of Adam, falling linearly to 0.
        tokens_per_step: tokens of one step, 16 to 65,536.
        window: tokens of one piece of text, at most the model's context.
        before: layers before the first cut that are trained too; all behind it are. The gap is made up for near where it is,
            and what lies further ahead costs time and gave less back (`docs/suture.md`).
        seed: of the order of the texts and of what the updates begin with.
        checks: how often the texts held out are read, besides at the beginning.
        stitch: whether cuts are stitched first where they can be.
    """

    rank: int = 32
    learning_rate: float = 4e-3
    tokens_per_step: int = 512
    window: int = 256
    before: int = 3
    seed: int = 0
    checks: int = 12
    stitch: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= 512:
            raise SettingsError(f"A rank of {self.rank} cannot be trained; give 1 to 512.")
        if not 0 < self.learning_rate < 1:
            raise SettingsError(f"The learning rate is {self.learning_rate}; it must be above 0 and below 1.")
        if not 16 <= self.tokens_per_step <= 2**16 or self.window < 2:
            raise SettingsError(
                f"A step of {self.tokens_per_step:,} tokens in pieces of {self.window} cannot be made; give steps of 16 to "
                "65,536 tokens and pieces of at least 2."
            )
        if self.before < 0 or self.checks < 1:
            raise SettingsError(
                f"{self.before} layers before the cut and {self.checks} checks cannot be; give 0 layers or more, and at "
                "least one check."
            )


@dataclass(frozen=True)
class Span:
    """How long a heal goes on: so many steps, or else so many seconds.

    The learning rate follows it, so that a slower machine makes fewer steps and still ends at 0.
    """

    steps: int | None
    seconds: float

    @classmethod
    def of(cls, minutes: float, steps: int | None) -> Span:
        """Return the span of a heal that is bounded by steps, or where there are none by minutes.

        Raises:
            SettingsError: for more or less than is allowed.
        """
        if steps is not None and not 1 <= steps <= MOST_STEPS:
            raise SettingsError(f"{steps:,} steps cannot be trained; give 1 to {MOST_STEPS:,}.")
        if steps is None and not 0 < minutes <= MOST_MINUTES:
            raise SettingsError(
                f"{minutes:g} minutes cannot be trained; give more than 0 and at most {MOST_MINUTES:g}."
            )
        return cls(steps, math.inf if steps is not None else 60 * minutes)

    def share(self, step: int, seconds: float) -> float:
        """Return which share of it is over, 0 to 1."""
        done = seconds / self.seconds if self.steps is None else step / self.steps
        return min(1.0, done)


@dataclass(frozen=True)
class HeldOut:
    """What was read of the texts held out after so many steps: mean loss and mean KL(base || this), in nats a token."""

    step: int
    nats: float
    kl: float


@dataclass(frozen=True)
class HealProgress:
    """Where a heal stands.

    Attributes:
        step: steps done.
        share: of the time or of the steps that is over, 0 to 1.
        seconds, seconds_left: of training so far, and about how many more.
        kl: mean KL(base || this) in nats a token on the last step's text, before its update.
        held: every reading of the texts held out, the first one before any training.
    """

    step: int
    share: float
    seconds: float
    seconds_left: float
    kl: float
    held: tuple[HeldOut, ...]

    @property
    def best(self) -> HeldOut:
        """Return the reading with the least loss: that state would be kept now."""
        return best_of(self.held)


def best_of(held: tuple[HeldOut, ...]) -> HeldOut:
    """Return the reading with the least loss, of equal ones the first; one that is no number is the last choice."""
    return min(held, key=lambda one: math.inf if math.isnan(one.nats) else one.nats)
