"""The recipes that come along: experiments of papers, each with its question, by its key.

They lie in `recipes/`, one file each, whose name is the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from surgery_core.errors import RecipeError
from surgery_core.recipes.recipe import Recipe

_PACKAGE = Path(__file__).resolve().parents[1]
_SHIPPED = _PACKAGE / "shipped" / "recipes"
RECIPES_FOLDER = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parent / "recipes"
"""Where they lie: in the installed package, or in the repository."""
NO_RECIPES = ("sources.toml",)
"""Files there that are none: where the papers' figures were read."""
TOPICS = (
    "Which layers can go?", "Does their order matter?", "What if layers run again?", "Does a model use its depth?",
    "What becomes of its skills?",
)  # fmt: skip
"""Topics in the order of lists; others follow, and recipes without one come last."""
FIRST = ("delete-each", "first-layer", "swap-against-delete", "repeat-each", "depth-map", "skill-by-layer")
"""Keys of those that a topic begins with: what they ask can be understood at once. The others follow by their titles."""


@dataclass(frozen=True)
class Card:
    """A recipe that comes along.

    Attributes:
        key: by which the command line and links know it.
        recipe: itself.
        text: of its file.
    """

    key: str
    recipe: Recipe
    text: str


def gallery(folder: Path | None = None) -> tuple[Card, ...]:
    """Return the recipes that come along, in the order of lists.

    Args:
        folder: where they lie; by default `RECIPES_FOLDER`.

    Raises:
        RecipeError: when a file there is no recipe; it is named.
    """
    paths = sorted((RECIPES_FOLDER if folder is None else folder).glob("*.toml"))
    cards = [_card(path, path.stat().st_mtime_ns) for path in paths if path.name not in NO_RECIPES]
    return tuple(sorted(cards, key=_place))


def card_of(key: str) -> Card:
    """Return the recipe with this key.

    Raises:
        RecipeError: when there is none; it names those that there are.
    """
    cards = gallery()
    for card in cards:
        if card.key == key:
            return card
    known = ", ".join(card.key for card in cards) or "none"
    raise RecipeError(f"There is no recipe {key!r:.80}; there are {known}; or give a file that ends in .toml.")


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a file, or the one that comes along under this key.

    Raises:
        RecipeError: when there is neither, or the file is no recipe.
    """
    path = Path(name)
    is_key = path.name == name and not path.suffix and not path.is_file()
    return card_of(name).recipe if is_key else Recipe.load(path)


@lru_cache(maxsize=256)
def _card(path: Path, changed: int) -> Card:
    """Return a card; `changed` tells a file from what it was before."""
    try:
        return Card(path.stem, Recipe.load(path), path.read_text(encoding="utf-8"))
    except RecipeError as error:
        raise RecipeError(f"{path.name}: {error}", error.field, error.line) from error


def by_topic(cards: Sequence[Card]) -> dict[str, list[Card]]:
    """Return cards by their topics, in the order of lists."""
    found: dict[str, list[Card]] = {topic: [] for topic in TOPICS}
    for card in cards:
        found.setdefault(card.recipe.topic, []).append(card)
    rest = found.pop("", [])
    return {topic: some for topic, some in (*found.items(), ("", rest)) if some}


def _place(card: Card) -> tuple[int, str, int, str]:
    topic = card.recipe.topic
    known = TOPICS.index(topic) if topic in TOPICS else len(TOPICS) + (topic == "")
    first = FIRST.index(card.key) if card.key in FIRST else len(FIRST)
    return known, topic, first, card.recipe.title.lower()
