"""What stands in a file for a machine: recipe, figures with tolerances, versions; and how to find it there again.

report.html    a script element of JSON, the last one of the page
README.md      the same in a comment of a checkpoint's card
recipe.toml    a table `[figures]` behind the recipe itself; or one of bare numbers, `[figures.values]`
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import tomli_w

from surgery_core.bounded import read_json, read_toml
from surgery_core.errors import ReportError
from surgery_core.keeping.report.asked import Asked
from surgery_core.keeping.report.figures import Stated, read_figure, seal_of
from surgery_core.keeping.report.findings import Findings
from surgery_core.keeping.report.stating import figures_of
from surgery_core.recipes.recipe import Recipe

FORMAT = 1
_OPEN, _CLOSE = '<script type="application/json" id="evidence">', "</script>"
_CARD_OPEN, _CARD_CLOSE = "<!-- model-surgery-figures", "-->"
_MADE = ("surgery_core", "torch", "transformers", "python", "model", "revision", "dtype", "device")


@dataclass(frozen=True)
class Evidence:
    """What was stated.

    Attributes:
        recipe: what was measured.
        asked: what the report shows.
        made: with what; of `made_with`.
        figures: every figure.
        page: digest of the rest of the page, where it is one.
        edited: what is not as it was written, by its name.
        loose: figures that stand in a recipe as bare numbers, with half a unit of their last digit.
    """

    recipe: Recipe
    asked: Asked
    made: Mapping[str, str]
    figures: tuple[Stated, ...]
    page: str = ""
    edited: tuple[str, ...] = ()
    loose: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Findings) -> Evidence:
        """Return what a report states of what was measured."""
        return cls(found.report.recipe, found.asked, found.made, figures_of(found))

    @property
    def seal(self) -> str:
        """Return what shows that recipe, settings or versions were edited."""
        return seal_of([self.recipe.dumps(), self.asked.plain(), dict(self.made), self.page])

    def plain(self) -> dict[str, Any]:
        """Return everything but the recipe as values that JSON and TOML hold."""
        return {
            "format": FORMAT, "asked": self.asked.plain(), "made": dict(self.made), "page": self.page, "seal": self.seal,
            "stated": [one.plain() for one in self.figures],
        }  # fmt: skip


def page_block(evidence: Evidence) -> str:
    """Return evidence as a script element of JSON."""
    return f"{_OPEN}{_json(evidence)}{_CLOSE}"


def card_block(evidence: Evidence) -> str:
    """Return evidence as a comment, which a page that shows Markdown leaves out."""
    return f"{_CARD_OPEN}\n{_json(evidence)}\n{_CARD_CLOSE}"


def recipe_with_figures(evidence: Evidence) -> str:
    """Return a recipe with its figures as TOML; `Recipe.loads` reads the recipe of it."""
    return evidence.recipe.dumps() + "\n" + tomli_w.dumps({"figures": evidence.plain()})


def read_page(text: str) -> tuple[Evidence, str]:
    """Return what a report states, and the page without that.

    Raises:
        ReportError: where there is nothing to read.
    """
    start = text.rfind(_OPEN)
    end = text.find(_CLOSE, start)
    if start < 0 or end < 0:
        raise ReportError("The page holds no figures of Model Surgery; give a report that `report` wrote.")
    held = text[start + len(_OPEN) : end]
    return _of_json(held), text[:start] + text[end + len(_CLOSE) :]


def read_card(text: str) -> Evidence:
    """Return what a checkpoint's card states.

    Raises:
        ReportError: where there is nothing to read.
    """
    found = re.search(rf"{_CARD_OPEN}\n(.*?)\n{_CARD_CLOSE}", text, re.DOTALL)
    if found is None:
        raise ReportError(
            "The card holds no figures that can be run again: it was written with --no-figures, of an unchanged model, or by "
            "another program. Export the checkpoint again."
        )
    return _of_json(found[1])


def read_recipe(text: str) -> Evidence:
    """Return what a recipe states.

    Raises:
        RecipeError: when it is none.
        ReportError: when it has no figures.
    """
    recipe = Recipe.loads(text)
    held = read_toml(text).get("figures")
    if not held:
        raise ReportError(
            "The recipe has no figures to compare with. Write it with `report RECIPE --to FILE.toml`, or add a table "
            '[figures.values] with lines such as "perplexity after" = 12.3.'
        )
    if "values" in held and "stated" not in held:
        return Evidence(recipe, Asked(), {}, (), loose=_loose(held["values"]))
    return _of_plain(held, recipe)


def _json(evidence: Evidence) -> str:
    written = json.dumps({"recipe": evidence.recipe.dumps()} | evidence.plain(), ensure_ascii=True, allow_nan=False)
    # neither a script element nor a comment can be closed by what a person typed
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _of_json(text: str) -> Evidence:
    try:
        held = read_json(text)
        recipe = held["recipe"]
    except (ValueError, TypeError, KeyError) as error:
        raise ReportError(f"The figures in the file cannot be read ({error}); make the report again.") from error
    return _of_plain(held, Recipe.loads(str(recipe)))


def _of_plain(held: Mapping[str, Any], recipe: Recipe) -> Evidence:
    if held.get("format") != FORMAT:
        raise ReportError(
            f"The figures are of format {held.get('format')!r}, and this version reads {FORMAT}; use a newer one."
        )
    made, stated = held.get("made"), held.get("stated")
    if not isinstance(made, Mapping) or not isinstance(stated, list) or not set(_MADE) <= set(made):
        raise ReportError("The figures in the file are not complete; make the report again.")
    pairs = [read_figure(one) for one in stated]
    names = [one.name for one, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ReportError(f"The figure {twice!r} stands in the file twice; make the report again.")
    facts = {str(name): str(value) for name, value in made.items()}
    found = Evidence(
        recipe, Asked.of(held.get("asked", {})), facts, tuple(one for one, _ in pairs), str(held.get("page"))
    )
    edited = tuple(one.name for one, seal in pairs if one.seal != seal)
    whole = () if held.get("seal") == found.seal else (SETTINGS,)
    return Evidence(found.recipe, found.asked, facts, found.figures, found.page, (*whole, *edited))


SETTINGS = "recipe, settings and versions"
"""What an edit of these is called."""


def _loose(values: Any) -> dict[str, tuple[float, float]]:
    found = {}
    for name, value in values.items() if isinstance(values, Mapping) else ():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ReportError(f"The figure {name!r} in [figures.values] must be a number, not {value!r}.")
        exponent = Decimal(repr(value)).as_tuple().exponent
        half = 0.5 * 10.0 ** min(exponent, 0) if isinstance(exponent, int) else 0.0
        found[str(name)] = (float(value), half)
    if not found:
        raise ReportError('The table [figures.values] is empty; add a line such as "perplexity after" = 12.3.')
    return found
