"""The command `gallery`: the recipes that come along, listed or all run."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from surgery_core.cli.output import Output, progress, table
from surgery_core.errors import RecipeError, SettingsError

if TYPE_CHECKING:
    from surgery_core.recipes.gallery import Card
    from surgery_core.recipes.outcomes import Outcomes


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `gallery` can be told."""
    parser.add_argument(
        "--write",
        metavar="FOLDER",
        help="run all of them on --model and write what they came to, such as recipes/outcomes",
    )
    parser.add_argument("--only", nargs="+", action="extend", metavar="KEY", help="with --write: run only these")
    parser.add_argument(
        "--most-texts", type=int, metavar="N", help="with --write: read only the first N texts of each recipe"
    )
    parser.add_argument(
        "--document", metavar="FILE", help="write the page that puts all outcomes side by side, such as docs/gallery.md"
    )


def gallery(arguments: argparse.Namespace) -> Output:
    """List the recipes; run them and write outcomes or the page of them, where that is asked for."""
    from surgery_core.recipes.gallery import gallery as all_cards

    cards = all_cards()
    written = _measured(arguments, cards) if arguments.write else []
    if not arguments.write and (arguments.only or arguments.most_texts is not None):
        raise SettingsError("--only and --most-texts are for a run of the gallery; add --write FOLDER.")
    written += _document(arguments, cards) if arguments.document else []
    rows = [{"key": card.key, "title": card.recipe.title, "question": card.recipe.question} for card in cards]
    if written:
        facts = [{"file": str(path)} for path in written]
        return Output("\n".join(f"Saved {path}" for path in written), facts, facts)
    return Output(f"{table(rows)}\n\nRun one with: run KEY", rows, rows)


def _measured(arguments: argparse.Namespace, cards: tuple[Card, ...]) -> list[Path]:
    from surgery_core.cli.commands import load
    from surgery_core.recipes.measuring import measure
    from surgery_core.recipes.outcomes import outcomes_file, read_outcomes, write_outcomes

    wanted = set(arguments.only or (card.key for card in cards))
    if unknown := wanted - {card.key for card in cards}:
        raise RecipeError(f"There is no recipe {sorted(unknown)[0]!r}; `gallery` lists them.")
    if arguments.most_texts is not None and arguments.most_texts < 1:
        raise SettingsError(f"--most-texts is {arguments.most_texts}; give 1 or more.")
    loaded, folder = load(arguments), Path(arguments.write)
    before = read_outcomes(loaded.info.name, folder)
    if before is not None:  # of recipes that are no more nothing stays
        keys = {card.key for card in cards}
        before = replace(
            before, by_key={key: one for key, one in before.by_key.items() if key in keys},
            refused={key: why for key, why in before.refused.items() if key in keys},
        )  # fmt: skip

    def done(found: Outcomes, key: str) -> None:
        write_outcomes(found, folder)
        kept = found.by_key.get(key)
        said = found.refused.get(key, "") if kept is None else f"{kept.outcome or 'no claim'}, {kept.seconds:.0f} s"
        sys.stderr.write(f"{key}: {said}\n")

    with progress("Running the gallery") as update:
        measure(
            [card for card in cards if card.key in wanted], loaded, before, most_texts=arguments.most_texts,
            on_progress=update, on_done=done,
        )  # fmt: skip
    return [outcomes_file(loaded.info.name, folder)]


def _document(arguments: argparse.Namespace, cards: tuple[Card, ...]) -> list[Path]:
    from surgery_core.recipes.document import document
    from surgery_core.recipes.outcomes import all_outcomes
    from surgery_core.whole_files import write_whole

    folder = Path(arguments.write) if arguments.write else None
    try:
        return [write_whole(arguments.document, document(cards, all_outcomes(folder)).encode("utf-8"))]
    except OSError as error:
        raise RecipeError(f"{arguments.document} cannot be written: {error.strerror}; give another file.") from error
