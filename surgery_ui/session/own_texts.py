"""The sets of texts of a session: those that come along, and the person's own, which lie on the server by their ids."""

from __future__ import annotations

from dataclasses import replace

from surgery_core.errors import TextError
from surgery_core.recipes.recipe import Recipe
from surgery_core.text import FIRST_SET, TextSet, text_sets
from surgery_core.text_sources.found import Limits
from surgery_ui.session.state import state
from surgery_ui.words.labels import free
from surgery_ui.work import plan_jobs as cached

LIMITS = Limits(texts=1_000, bytes=2_000_000)
"""How much a page scores; the command line takes more."""
RESERVED = ("Pick some", "My own", "The bundled texts")
"""What pages offer beside the sets; no set is called so."""
MOST = 8
"""Sets of one's own that a session has at a time."""


def all_sets() -> dict[str, TextSet]:
    """Return all sets by their names: those that come along, then the person's own that are still on the server."""
    own = {name: found for name in state.own_sets if (found := find(name)) is not None}
    return text_sets() | own


def find(name: str) -> TextSet | None:
    """Return a set by its name, with the title that this session gave it; None where the server does not have it."""
    if name in text_sets():
        return text_sets()[name]
    found = cached.own_set(name)
    if found is None:
        return None
    if name not in state.own_sets:
        # of a link that somebody else made
        state.own_sets = state.own_sets | {name: _free(found.title)}
    return replace(found, title=state.own_sets[name])


def add(chosen: TextSet) -> str:
    """Keep a set and return its name; a title that another has gets a number.

    Raises:
        TextError: when the session has as many as it may have, or the set is more than a page scores.
    """
    if len(chosen.texts) > LIMITS.texts or chosen.n_bytes > LIMITS.bytes:
        raise TextError(
            f"{chosen.title} has {len(chosen.texts):,} texts and {chosen.n_bytes:,} bytes; a page scores at most "
            f"{LIMITS.texts:,} and {LIMITS.bytes:,}. The command line takes more."
        )
    known = [name for name in state.own_sets if cached.own_set(name) is not None]
    if len(known) >= MOST and chosen.name not in known:
        raise TextError(f"There are {MOST} sets of your own, which are the most. Remove one first.")
    cached.keep_own_set(chosen)
    others = {name: state.own_sets[name] for name in known if name != chosen.name}
    state.own_sets = others
    state.own_sets = others | {chosen.name: _free(chosen.title)}
    return chosen.name


def set_of(recipe: Recipe) -> TextSet | None:
    """Return the set of texts that a recipe scores; None where it names others, or one that is not on this server."""
    if recipe.text_set is not None:
        return find(recipe.text_set.name or recipe.text_set.digest[:32])
    if recipe.texts is None:
        return text_sets()[FIRST_SET]
    return next((one for one in text_sets().values() if tuple(t.title for t in one.texts) == recipe.texts), None)


def remove(name: str) -> None:
    """Forget a set; where it is chosen nothing changes before another is."""
    state.own_sets = {other: title for other, title in state.own_sets.items() if other != name}


def missing(name: str) -> str:
    """Return the sentence for an address that names a set which the server does not have."""
    return (
        f"The chosen texts ({name[:8]} ...) are not on this server; the short texts are scored instead. Upload them again, or "
        "open the recipe that has them."
    )


def _free(title: str) -> str:
    """Return a title that no other set has."""
    return free(title, {one.title for one in text_sets().values()} | set(state.own_sets.values()) | set(RESERVED))
