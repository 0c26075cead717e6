"""A sweep that a report shows or a script runs: options that begin with `--sweep`, over what the recipe says."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from surgery_core.cli.sweep import numbers
from surgery_core.errors import SettingsError

if TYPE_CHECKING:
    from surgery_core.keeping.report.asked import AskedSweep
    from surgery_core.recipes.recipe import Recipe

_SWEEP: dict[str, tuple[Callable[[str], Any], str]] = {
    "start": (str, "PLAN"), "layer": (int, "N"), "max_length": (int, "N"), "times": (int, "N"),
    "factors": (numbers, "F,F"), "seed": (int, "N"), "length": (int, "N"), "damping": (float, "F"), "best": (int, "N"),
    "prompt": (str, "TEXT"),
}  # fmt: skip
"""Options of such a sweep by their names, with what reads them."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what says what such a sweep does; `--sweep` itself is the command's own."""
    how = parser.add_argument_group("what that sweep does, as with the command sweep")
    for name, (kind, metavar) in _SWEEP.items():
        how.add_argument(f"--sweep-{name.replace('_', '-')}", type=kind, metavar=metavar)
    how.add_argument("--sweep-skills", action="store_true", default=None)


def asked_sweep(arguments: argparse.Namespace, recipe: Recipe, *, shown: bool) -> AskedSweep | None:
    """Return the sweep that is asked for: what options say over what the recipe says.

    Args:
        arguments: with `sweep`, its kind or None.
        recipe: the experiment.
        shown: whether there is to be one; without a kind it is the recipe's, or deletes each layer.

    Raises:
        SettingsError: for options of a sweep where there is none, or ones that it cannot have.
    """
    from surgery_core.keeping.report.asked import AskedSweep
    from surgery_core.sweeps.options import SweepOptions

    given = {name: getattr(arguments, f"sweep_{name}") for name in (*_SWEEP, "skills")}
    given = {name: value for name, value in given.items() if value is not None}
    if not shown:
        named = ["--sweep", *(f"--sweep-{name.replace('_', '-')}" for name in given)][arguments.sweep is None :]
        if named:
            raise SettingsError(
                f"{named[0]} is of a sweep, and none is asked for: a report shows one, a script with --page sweep."
            )
        return None
    choice = recipe.sweep if arguments.sweep is None else None
    known = {field.name for field in fields(SweepOptions)}
    own = {name: given.pop(name) for name in list(given) if name in known}
    options = replace(SweepOptions() if choice is None else choice.options, **own)
    if choice is None:
        return AskedSweep(arguments.sweep or "delete", options, **given)
    start = recipe.plan if choice.start is None else choice.start
    prompt = choice.prompt or None
    mine = AskedSweep(choice.kind, options, start, choice.skills, prompt, best=choice.best, texts=choice.texts)
    return replace(mine, **given)
