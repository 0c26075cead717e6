"""Which texts a recipe scores, and which of them its sweep does."""

from __future__ import annotations

from collections.abc import Sequence

from surgery_core.errors import RecipeError
from surgery_core.recipes.recipe import Recipe
from surgery_core.text import PAPERS, Text, TextSet, as_papers, bundled_texts, text_sets


def texts_of(recipe: Recipe, given: TextSet | None = None) -> tuple[Text, ...]:
    """Return the texts that a recipe scores: its set or the bundled ones that it names, cut as it says; then its own.

    Args:
        recipe: what is scored.
        given: the set that it names by its digest, where it does not hold the texts themselves.

    Raises:
        RecipeError: when it names one that is not bundled, or a set that is not there; says which there are.
        TextError: when there is nothing to score.
    """
    if recipe.text_set is not None:
        return (*recipe.text_set.found(given).scored(recipe.cut), *recipe.own_texts)
    if recipe.texts == ():
        return (as_papers(recipe.own_texts),) if recipe.cut == PAPERS and recipe.own_texts else recipe.own_texts
    named = _named(_bundled_titles() if recipe.texts is None else recipe.texts)
    return (as_papers(named), *recipe.own_texts) if recipe.cut == PAPERS else (*named, *recipe.own_texts)


def _bundled_titles() -> tuple[str, ...]:
    return tuple(text.title for text in bundled_texts())


def _named(titles: tuple[str, ...]) -> tuple[Text, ...]:
    bundled = {text.title: text for one in text_sets().values() for text in one.texts}
    unknown = [title for title in titles if title not in bundled]
    if unknown:
        raise RecipeError(
            f"The recipe names the text {unknown[0]!r}, which is not bundled; there are: {', '.join(list(bundled)[:12])}, "
            "and those of the other sets (`text_sets`)."
        )
    return tuple(bundled[title] for title in titles)


def swept_texts(recipe: Recipe, titles: Sequence[str] | None, given: TextSet | None = None) -> tuple[Text, ...]:
    """Return the texts that a sweep of a recipe scores, cut as the recipe says.

    Args:
        recipe: whose texts they are.
        titles: of those that are chosen, of its set or its own; None for all that the recipe scores.
        given: as `texts_of`.

    Raises:
        RecipeError: when the recipe has no text of a title, or two of them. Else as `texts_of`.
    """
    if titles is None:
        return texts_of(recipe, given)
    known = _uncut(recipe, given)
    chosen = tuple(_of_title(known, title) for title in titles)
    return (as_papers(chosen),) if recipe.cut == PAPERS else chosen


def titles_of(recipe: Recipe, texts: Sequence[Text]) -> tuple[str, ...] | None:
    """Return the titles under which `swept_texts` finds these texts; None where they are all, or others, of a recipe."""
    texts = tuple(texts)
    if texts == texts_of(recipe):
        return None
    known = _uncut(recipe, None)
    parts = _joined_from(texts[0].text, known) if len(texts) == 1 and texts[0].window is not None else texts
    titles = tuple(text.title for text in parts)
    try:
        return titles if titles and swept_texts(recipe, titles) == texts else None
    except RecipeError:
        return None


def _uncut(recipe: Recipe, given: TextSet | None) -> tuple[Text, ...]:
    """Return the texts that a recipe has, each for itself."""
    if recipe.text_set is not None:
        return (*recipe.text_set.found(given).texts, *recipe.own_texts)
    return (*_named(_bundled_titles() if recipe.texts is None else recipe.texts), *recipe.own_texts)


def _of_title(known: Sequence[Text], title: str) -> Text:
    found = [text for text in known if text.title == title]
    if not found:
        there = ", ".join(text.title for text in known[:12])
        raise RecipeError(
            f"The recipe's sweep names the text {title!r}, which the recipe does not score; there are: {there}.",
            "sweep.texts",
        )
    if len(found) > 1:
        raise RecipeError(
            f"The recipe's sweep names the text {title!r}, and the recipe has {len(found)} of that title; give each its own.",
            "sweep.texts",
        )
    return found[0]


def _joined_from(joined: str, known: Sequence[Text]) -> tuple[Text, ...]:
    """Return the texts, in their order, that `as_papers` joined; none where they are others."""
    parts: list[Text] = []
    for text in known:
        if joined == text.text:
            return (*parts, text)
        if joined.startswith(f"{text.text}\n\n"):
            parts.append(text)
            joined = joined.removeprefix(f"{text.text}\n\n")
    return ()
