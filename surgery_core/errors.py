"""Every error that Model Surgery raises on purpose.

    SurgeryError
    ├── InputError (also ValueError)       something that a person typed, chose or uploaded
    │   ├── PlanError                      an index, an order, a length
    │   │   └── NotationError              a plan's text; points at the character
    │   ├── TextError                      a text to score, read or continue
    │   ├── SettingsError                  a generation or run setting
    │   ├── RecipeError                    a recipe file
    │   ├── LensError                      a lens file, or a lens of another model
    │   ├── SweepFileError                 a results file: broken, of another sweep, or on a full disk
    │   ├── ExperimentError                a bench's tool or its record of an experiment
    │   └── ReportError                    a report, recipe or card whose figures cannot be read
    ├── ModelError
    │   ├── ModelLoadError                 missing, gated, too large, broken, not causal, no network
    │   ├── AnatomyError (also ValueError) the model has no such part
    │   └── RefusedPlanError               this plan cannot be trusted on this model (also PlanError)
    └── Stopped                            the caller asked for the work to stop

Each message is a sentence or two for the person who caused it: the value, what is allowed, the next step.
"""

from __future__ import annotations

from typing import Protocol


class NearestPlan(Protocol):
    """A plan, as far as an error has to know one: its text, and how deep the model is that it is for."""

    @property
    def n_layers(self) -> int:
        """Return the depth of that model."""

    @property
    def notation(self) -> str:
        """Return the plan as text."""


class SurgeryError(Exception):
    """Base of every error in this package."""


class InputError(SurgeryError, ValueError):
    """A value that a person gave is not usable."""


class PlanError(InputError):
    """An index, an order or a length does not fit the plan or the model."""


class NotationError(PlanError):
    """A plan's text does not parse.

    Attributes:
        text: what was parsed.
        position: 0-based index of the offending character; `len(text)` means the end.
        reason: what is wrong there and what is allowed.
    """

    def __init__(self, text: str, position: int, reason: str) -> None:
        self.text = text
        self.position = position
        self.reason = reason
        place = f"character {position + 1}" if position < len(text) else "the end"
        super().__init__(f"At {place} of {_shorten(text)!r}: {reason}")

    def __reduce__(self) -> tuple[type[NotationError], tuple[str, int, str]]:
        return type(self), (self.text, self.position, self.reason)

    def pointer(self) -> str:
        """Return the text with a caret under the offending character, on two lines."""
        return f"{self.text}\n{' ' * self.position}^"


class TextError(InputError):
    """A text cannot be scored, read or continued."""


class SettingsError(InputError):
    """A setting is out of its range."""


class RecipeError(InputError):
    """A recipe file cannot be read or contradicts itself.

    Attributes:
        field: which of its fields is wrong, as `study.times` or `plans[1].plan`; empty where it is not one of them.
        line: where that stands in the file, from 1; None where it does not stand there.
    """

    def __init__(self, message: str, field: str = "", line: int | None = None) -> None:
        super().__init__(message)
        self.field, self.line = field, line


class SweepFileError(InputError):
    """A file of sweep results cannot be read, continued or written."""


class ExperimentError(InputError):
    """A bench has no such tool, or an experiment's record cannot be written or read.

    Attributes:
        result: what the experiment returned, where it ran and only its record could not be written.
    """

    def __init__(self, message: str, result: object = None) -> None:
        self.result = result
        super().__init__(message)


class ReportError(InputError):
    """A file has no figures that can be run again, or they cannot be read."""


class LensError(InputError):
    """A lens cannot be read, or is not for this model."""


class ModelError(SurgeryError):
    """A model cannot do what was asked."""


class ModelLoadError(ModelError):
    """A model cannot be loaded."""


class AnatomyError(ModelError, ValueError):
    """A part of the model was not found."""


class RefusedPlanError(ModelError, PlanError):
    """The plan would not give a trustworthy result on this model.

    Attributes:
        reason: why, without the nearest plan.
        nearest: the nearest plan that is allowed, where one was looked for and found; named in the message too.
    """

    def __init__(self, message: str, nearest: NearestPlan | None = None) -> None:
        self.reason, self.nearest = message, nearest
        where = (
            f" The nearest plan that is allowed is {str(nearest) or 'the one without layers'}."
            if nearest is not None
            else ""
        )
        super().__init__(message + where)


class Stopped(SurgeryError):
    """The work was stopped because the caller asked for it."""


def _shorten(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
