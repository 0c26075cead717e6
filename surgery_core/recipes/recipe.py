"""Recipes: a whole experiment as a small TOML file.

    version = 1
    title = "Without the middle"
    model = "fable"
    plan = "0-4,7-11"
    seed = 0
    texts = ["A walk in the wood"]       # titles of bundled texts; leave out for all of them
    prompts = ["Once upon a time"]
    cut = "papers"                       # joined and cut into windows; leave out to score each text for itself
    lens = "Once upon a time"            # what the app's Lens page reads

    [generation]
    max_new_tokens = 64
    temperature = 0.0
    chat = false                         # true: prompts are messages to an instruct model

    [[own_texts]]
    title = "Mine"
    text = "The text itself."

    [figures.values]                     # what it came to, for `verify`; a recipe is read without them
    "perplexity after" = 85.8

Instead of `texts` it may name a set: one that comes along by its name, or one's own by its digest, with the texts
themselves where they are few:

    [text_set]
    name = "stories"

    [text_set]
    title = "My letters"
    digest = "6d0c..."
    number = 2
    texts = [{ title = "One", text = "..." }, { title = "Two", text = "..." }]

A recipe says what is measured. Where and how fast it runs (device, dtype) is said when it is run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from surgery_core.errors import InputError, NotationError, RecipeError
from surgery_core.plans.parser import parse_slots
from surgery_core.recipes.chosen_set import ChosenSet
from surgery_core.recipes.fields import check, check_fields, read_titled, wrong
from surgery_core.text import CUTS, EACH, Text, read_text
from surgery_core.whole_files import write_whole

if TYPE_CHECKING:
    from surgery_core.plans.generation_settings import GenerationSettings

VERSION = 1
MAX_RECIPE_BYTES = 5_000_000
_ANY_DEPTH = 1_000_000
_GENERATION: dict[str, type] = {
    "max_new_tokens": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "chat": bool,
    "system": str,
}
_TOP: dict[str, type] = {
    "version": int,
    "title": str,
    "note": str,
    "model": str,
    "revision": str,
    "plan": str,
    "seed": int,
    "texts": list,
    "text_set": dict,
    "cut": str,
    "prompts": list,
    "lens": str,
    "generation": dict,
    "own_texts": list,
    "figures": dict,
}


@dataclass(frozen=True)
class Recipe:
    """One experiment: a model, a plan, and what to measure.

    Attributes:
        model: the name that `load_model` takes.
        plan: the operated model's anatomy in the plan notation; `""` is the model with no layers.
        title: what a list of recipes shows.
        note: what to look for, in a sentence or two.
        revision: a branch, tag or commit of a hub model, or None for its main branch.
        texts: titles of bundled texts to score, or None for all of them.
        own_texts: texts of one's own to score.
        text_set: instead of `texts`, a whole set of them.
        cut: how the set is scored: `"each"` text for itself, or as `"papers"` do it (`surgery_core.text.as_papers`).
        prompts: beginnings that the model continues before and after.
        lens: a text that the app's Lens page reads; `run_recipe` leaves it alone.
        max_new_tokens: length of each continuation, in tokens.
        temperature: 0 for the likeliest token each time; above, the spread of the choice.
        top_k: choose among this many tokens; 0 for no limit.
        top_p: choose among the likeliest tokens that sum to this probability, in (0, 1].
        seed: of the choice of tokens.
        chat: whether prompts are messages, put to the model by its chat template.
        system: what the model is told before each message; only with `chat`.
    """

    model: str
    plan: str
    title: str = ""
    note: str = ""
    revision: str | None = None
    texts: tuple[str, ...] | None = None
    own_texts: tuple[Text, ...] = ()
    prompts: tuple[str, ...] = ()
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    chat: bool = False
    system: str = ""
    lens: str = ""
    text_set: ChosenSet | None = None
    cut: str = EACH

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise wrong("model", "is empty; write a model's name such as fable")
        try:
            parse_slots(self.plan, _ANY_DEPTH)
        except NotationError as error:
            raise wrong("plan", f"does not parse. {error}") from error
        try:
            _ = self.settings
        except InputError as error:
            raise wrong("generation", f"is out of range. {error}") from error
        if self.cut not in CUTS:
            raise wrong("cut", f"is {self.cut!r}; there are {' and '.join(CUTS)}")
        if self.text_set is not None and self.texts is not None:
            raise wrong("text_set", "stands beside texts; leave one of the two out")
        for text in self.own_texts:
            try:
                read_text(text.text, text.title)
            except InputError as error:
                raise wrong("own_texts", f"has a text that cannot be read. {error}") from error

    @property
    def settings(self) -> GenerationSettings:
        """Return how the prompts are continued."""
        from surgery_core.plans.generation_settings import GenerationSettings

        return GenerationSettings(
            self.max_new_tokens, self.temperature, self.top_k, self.top_p, self.seed, self.chat, self.system
        )

    @classmethod
    def loads(cls, text: str) -> Recipe:
        """Read a recipe from TOML.

        Raises:
            RecipeError: names the field that is unknown, missing, of the wrong type or out of range.
        """
        try:
            table = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"The recipe is not valid TOML: {error}.") from error
        return _recipe(table)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe from a file.

        Raises:
            RecipeError: when the file is missing, too large, not UTF-8, or not a recipe.
        """
        try:
            data = Path(path).read_bytes()
            if len(data) > MAX_RECIPE_BYTES:
                raise RecipeError(
                    f"The recipe {str(path)!r} is larger than {MAX_RECIPE_BYTES:,} bytes; shorten its texts."
                )
            return cls.loads(data.decode("utf-8"))
        except OSError as error:
            raise RecipeError(f"The recipe {str(path)!r} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError:
            raise RecipeError(f"The recipe {str(path)!r} is not UTF-8 text; save it as UTF-8.") from None

    def dumps(self) -> str:
        """Return the recipe as TOML; `loads` reads it back to an equal recipe."""
        return tomli_w.dumps(_table(self))

    def dump(self, path: str | Path) -> None:
        """Write the recipe to a file, whole or not at all.

        Raises:
            RecipeError: when the file cannot be written.
        """
        try:
            write_whole(path, self.dumps().encode("utf-8"))
        except (OSError, UnicodeEncodeError) as error:
            raise RecipeError(f"The recipe cannot be written to {str(path)!r}: {error}.") from error


def _recipe(table: Mapping[str, Any]) -> Recipe:
    check_fields(table, _TOP, "")
    if table.get("version") != VERSION:
        raise wrong("version", f"must be {VERSION}, the only version that this program knows")
    for name in ("model", "plan"):
        if name not in table:
            raise wrong(name, "is missing; every recipe has one")
    generation = table.get("generation", {})
    check_fields(generation, _GENERATION, "generation.")
    values = {key: value for key, value in table.items() if key not in ("version", "generation", "figures")}
    for name in ("texts", "prompts"):
        if name in values:
            values[name] = tuple(check(item, str, f"{name}[{at}]") for at, item in enumerate(values[name]))
    if "text_set" in values:
        values["text_set"] = ChosenSet.read(values["text_set"])
    values["own_texts"] = tuple(
        read_titled(item, f"own_texts[{at}]") for at, item in enumerate(table.get("own_texts", ()))
    )
    return Recipe(**values, **{key: _GENERATION[key](value) for key, value in generation.items()})


def _table(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as TOML's types, in the order of the file, without what is left at its default."""
    values = {field.name: getattr(recipe, field.name) for field in fields(Recipe) if _is_set(recipe, field.name)}
    generation = {name: values.pop(name) for name in _GENERATION if name in values}
    own_texts = [{"title": text.title, "text": text.text} for text in values.pop("own_texts", ())]
    if "text_set" in values:
        values["text_set"] = values["text_set"].table()
    table = {"version": VERSION, **{name: values[name] for name in _TOP if name in values}}
    return table | ({"generation": generation} if generation else {}) | ({"own_texts": own_texts} if own_texts else {})


def _is_set(recipe: Recipe, name: str) -> bool:
    default = next(field.default for field in fields(Recipe) if field.name == name)
    return bool(getattr(recipe, name) != default)
