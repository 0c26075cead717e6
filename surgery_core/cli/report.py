"""The commands `report` and `verify`."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from surgery_core.cli import asked_sweep
from surgery_core.cli.commands import usually_stitched
from surgery_core.cli.output import Output, progress, table

if TYPE_CHECKING:
    from surgery_core.keeping.report.asked import Asked
    from surgery_core.keeping.report.verify import Checked, Verification
    from surgery_core.recipes.recipe import Recipe


def add_options(parser: argparse.ArgumentParser, what: argparse._ArgumentGroup) -> None:
    """Add what only `report` has."""
    parser.add_argument(
        "--to", required=True, metavar="FILE", help="report.html, or a .toml for the recipe with figures"
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    shown = parser.add_argument_group("what the report shows")
    shown.add_argument("--title", help="its title (default: the recipe's)")
    shown.add_argument("--comment", help="a sentence or two below it (default: the recipe's note)")
    shown.add_argument(
        "--with", dest="parts", metavar="PARTS",
        help="some of plan, writing, scores, plans, lens, skills, sweep, swap, study, with commas, or all (default: plan, "
        "writing, scores; plans, sweep, swap and study where the recipe has them, lens where it has a text for it)",
    )  # fmt: skip
    shown.add_argument(
        "--lens", choices=("logit", "tuned", "jacobian"), help="show what each layer would say, read through this lens"
    )
    shown.add_argument(
        "--sweep", metavar="KIND",
        help="show a sweep of this kind over the same texts (default where there is to be one: the recipe's, or delete)",
    )  # fmt: skip
    asked_sweep.add_options(parser)


def report(arguments: argparse.Namespace) -> Output:
    """Write a report, and return where it lies and what it states."""
    from surgery_core.keeping.report.stating import figures_of
    from surgery_core.keeping.report.written import write_report

    recipe = _recipe(arguments)
    asked = _asked(arguments, recipe)
    with progress("Measuring") as update:
        path, found = write_report(
            recipe, arguments.to, asked, device=arguments.device, dtype=arguments.dtype, force=arguments.force,
            on_progress=update,
        )  # fmt: skip
    figures = figures_of(found)
    rows = [{"figure": one.name, "value": one.value, "tolerance": one.tolerance.words} for one in figures]
    said = f"Saved {path}: {len(figures)} figures. `verify {path}` runs them again."
    return Output(said, rows, {"file": str(path), "made": found.made, "figures": [one.plain() for one in figures]})


def verify(arguments: argparse.Namespace) -> Output:
    """Run a file's figures again, and return which agree."""
    from surgery_core.keeping.report.verify import verify as check

    with progress("Running it again") as update:
        found = check(arguments.file, device=arguments.device, dtype=arguments.dtype, on_progress=update)
    rows = [asdict(line) for line in found.lines]
    content = {"agrees": found.holds, "sentences": list(found.sentences), "figures": rows}
    return Output(_text(found), rows, content, code=0 if found.holds else 1)


def _recipe(arguments: argparse.Namespace) -> Recipe:
    recipe, _ = usually_stitched(arguments)
    title = recipe.title if arguments.title is None else arguments.title
    return replace(recipe, title=title, note=recipe.note if arguments.comment is None else arguments.comment)


def _asked(arguments: argparse.Namespace, recipe: Recipe) -> Asked:
    from surgery_core.keeping.report.asked import PARTS, USUAL, Asked

    sweep = arguments.sweep or recipe.sweep is not None
    if arguments.parts is None:
        also = {"plans": recipe.plans, "lens": recipe.lens or arguments.lens, "sweep": sweep, "swap": recipe.swap}
        also |= {"study": recipe.study}
        # of a recipe about the unchanged model nothing stands there before and after
        parts = [*(() if recipe.plan is None else USUAL), *(part for part, wanted in also.items() if wanted)]
    else:
        parts = list(dict.fromkeys(part.strip() for part in arguments.parts.split(",") if part.strip()))
        parts = list(PARTS) if "all" in parts else parts
        parts += [part for part in ("lens", "sweep") if getattr(arguments, part) and part not in parts]
    swept = asked_sweep.asked_sweep(arguments, recipe, shown="sweep" in parts)
    return Asked(tuple(parts), arguments.lens or "logit", swept, arguments.unproved)


def _text(found: Verification) -> str:
    lines = [
        {"figure": line.name, "stated": line.stated, "now": line.now, "tolerance": line.tolerance, "": _outcome(line)}
        for line in found.lines
    ]
    wrong = [line for line in found.lines if not line.holds]
    told = [f"{line.name}: {_outcome(line)}; stated {line.stated}, now {line.now}." for line in wrong]
    n = len(found.lines)
    end = f"All {n} agree." if not wrong else f"{len(wrong)} of {n} do not agree:\n" + "\n".join(told)
    return "\n\n".join([table(lines), *found.sentences, end])


def _outcome(line: Checked) -> str:
    word = line.outcome if line.holds else line.outcome.upper()
    return f"{word}, {line.why}" if line.why else word
