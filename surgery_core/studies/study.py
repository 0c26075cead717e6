"""A study, and what it is given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from surgery_core.errors import SettingsError
from surgery_core.stopping import Progress
from surgery_core.studies.finding import Finding
from surgery_core.text import Text

Option = int | float | str | list[Any]


@dataclass(frozen=True)
class StudySetup:
    """What a study runs on.

    Attributes:
        model: the base; it is not changed.
        tokenizer: its tokenizer.
        texts: what is read.
        options: of the study, all of them: those that were not given have their defaults.
        seed: of everything random.
        lens: the model's tuned lens, or None where there is none.
        stop: when set, the study ends with `Stopped`.
        on_progress: called with (steps done, steps in all).
    """

    model: nn.Module
    tokenizer: Any
    texts: tuple[Text, ...]
    options: Mapping[str, Option] = field(default_factory=dict)
    seed: int = 0
    lens: Any = None
    stop: threading.Event | None = None
    on_progress: Progress | None = None


@dataclass(frozen=True)
class Study:
    """One question.

    Attributes:
        key: stable name, for recipes and the command line.
        title: what a menu says.
        about: one sentence: what is measured, and what the figure is.
        options: names and defaults of what can be set.
        run: what measures it.
    """

    key: str
    title: str
    about: str
    run: Callable[[StudySetup], Finding]
    options: Mapping[str, Option] = field(default_factory=dict)


def settled(study: Study, given: Mapping[str, Any]) -> dict[str, Option]:
    """Return all options of a study: those that were given, and the others at their defaults.

    Raises:
        SettingsError: for an unknown option, or one of another type than its default.
    """
    for name, value in given.items():
        if name not in study.options:
            known = ", ".join(study.options) or "none"
            raise SettingsError(f"The study {study.key!r} has no option {name!r}; there are: {known}.")
        default = study.options[name]
        kinds = (int, float) if isinstance(default, float) else type(default)
        if isinstance(value, bool) != isinstance(default, bool) or not isinstance(value, kinds):
            raise SettingsError(
                f"The option {name!r} of the study {study.key!r} cannot be {value!r}; by default it is {default!r}."
            )
    return {**study.options, **given}
