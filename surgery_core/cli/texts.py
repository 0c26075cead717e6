"""Which texts a command is about: options that name a set, files, or a data set, and the one place that reads them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from surgery_core.errors import SettingsError

if TYPE_CHECKING:
    from surgery_core.text import Text, TextSet
    from surgery_core.text_sources.found import FoundTexts

SHOWN = 10
"""Problems that are written out; of more their number is."""


def add_sources(group: argparse._ActionsContainer, *names: str) -> None:
    """Add the options that say where texts come from; `names` are further names of `--texts`."""
    group.add_argument(
        "--texts", *names, nargs="+", action="extend", metavar="PATH",
        help="your own texts: files, folders, .zip, .jsonl, .csv (default: the bundled texts)",
    )  # fmt: skip
    group.add_argument("--dataset", metavar="NAME:CONFIG:SPLIT", help="texts of a data set; needs the package datasets")
    group.add_argument("--column", metavar="NAME", help="field or column with the texts (default: text)")


def add_scored(group: argparse._ActionsContainer, *names: str) -> None:
    """Add the options that say which texts are scored, and how."""
    add_sources(group, *names)
    group.add_argument("--text-set", metavar="NAME", help="which texts to score: short (the default) or stories")
    group.add_argument(
        "--as-papers", action="store_true",
        help="join the texts and cut them into windows of 2048 tokens, as published perplexities are taken",
    )  # fmt: skip
    group.add_argument(
        "--margin", type=float, metavar="PERCENT",
        help="perplexities that differ by less count as the same (default: 2)",
    )  # fmt: skip


def add_calibration(group: argparse._ActionsContainer) -> None:
    """Add the options that stitch what a plan leaves out, and say on which texts."""
    group.add_argument(
        "--stitch", action="store_true",
        help="make up for the layers missing behind each cut by a projection fitted before it; in a plan a ~ says where",
    )  # fmt: skip
    group.add_argument(
        "--stitch-texts", nargs="+", action="extend", metavar="PATH",
        help="what stitches are fitted on: files, folders, .zip, .jsonl, .csv (default: the bundled stories)",
    )  # fmt: skip


def calibration_of(arguments: argparse.Namespace) -> tuple[Text, ...] | None:
    """Return the texts that stitches are fitted on; None for the usual ones. What was not read is said.

    Raises:
        TextError: when there is no text in what was named.
    """
    if not arguments.stitch_texts:
        return None
    from surgery_core.text_sources.files import open_texts

    found = open_texts(arguments.stitch_texts, None)
    _say(found)
    return found.as_set("calibration").scored()


def margin_of(arguments: argparse.Namespace) -> float | None:
    """Return the share of the perplexity within which models count as the same; None where it was not given.

    Raises:
        SettingsError: when it is not between 0 and 100 percent.
    """
    from surgery_core.statistics.verdict import checked_margin

    return None if arguments.margin is None else checked_margin(arguments.margin / 100)


def chosen_set(arguments: argparse.Namespace) -> TextSet | None:
    """Return the set of texts that the options name; None where they name none. What was not read is said.

    Raises:
        SettingsError: when two options name texts, or a set of that name is not there.
        TextError: when there is no text in what was named.
    """
    named = [name for name in ("texts", "dataset", "text_set") if getattr(arguments, name, None)]
    if len(named) > 1:
        both = " and ".join(f"--{name.replace('_', '-')}" for name in named)
        raise SettingsError(f"{both} both name texts; give one of them.")
    if arguments.column and not {"texts", "dataset"} & set(named):
        raise SettingsError("--column names the field of --texts or --dataset; give one of these with it.")
    if not named:
        return None
    return text_set(arguments.text_set) if named == ["text_set"] else _read(arguments)


def text_set(name: str | None) -> TextSet:
    """Return a set of texts by its name, by default the short ones.

    Raises:
        SettingsError: when there is none of that name.
    """
    from surgery_core.text import FIRST_SET, text_sets

    known = text_sets()
    if (name or FIRST_SET) not in known:
        raise SettingsError(f"--text-set is {name!r}; there are {', '.join(known)}.")
    return known[name or FIRST_SET]


def cut_of(arguments: argparse.Namespace) -> str:
    """Return how the texts are scored."""
    from surgery_core.text import EACH, PAPERS

    return PAPERS if arguments.as_papers else EACH


def scored_texts(arguments: argparse.Namespace) -> tuple[Text, ...]:
    """Return the texts that the options name, as they are scored. Errors as `chosen_set`."""
    return (chosen_set(arguments) or text_set(None)).scored(cut_of(arguments))


def _read(arguments: argparse.Namespace) -> TextSet:
    from surgery_core.text_sources.dataset import read_dataset
    from surgery_core.text_sources.files import open_texts

    if arguments.dataset:
        title, found = arguments.dataset, read_dataset(arguments.dataset, arguments.column)
    else:
        title = ", ".join(Path(path).name or path for path in arguments.texts[:3])
        title += ", ..." if len(arguments.texts) > 3 else ""
        found = open_texts(arguments.texts, arguments.column)
    chosen = found.as_set(title)
    _say(found)
    return chosen


def _say(found: FoundTexts) -> None:
    """Write what was not read to standard error."""
    for problem in found.problems[:SHOWN]:
        sys.stderr.write(f"left out: {problem}\n")
    if len(found.problems) > SHOWN:
        sys.stderr.write(f"left out: {len(found.problems) - SHOWN:,} more like these\n")
