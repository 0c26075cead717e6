"""The command line: `python -m surgery_core {info,run,gallery,sweep,lens,train-lens,fit-lens,heal,skills,preflight,export,
keep,report,verify}`.

A command reads its arguments, makes one call into the library and returns what to write; `main` writes it as text,
JSON or CSV. An error is one sentence on standard error, and the exit code is 2; a preflight that fails and figures that do not
agree have code 1.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from surgery_core import __version__
from surgery_core.cli import asked_sweep, commands
from surgery_core.cli import gallery as gallery_command
from surgery_core.cli import heal as heal_command
from surgery_core.cli import jacobian as jacobian_command
from surgery_core.cli import lens as lens_command
from surgery_core.cli import report as report_command
from surgery_core.cli import sweep as sweep_command
from surgery_core.cli import texts as texts_options
from surgery_core.cli.output import Output, emit
from surgery_core.errors import SurgeryError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

Command = Callable[[argparse.Namespace], Output]


COMMANDS = (
    "info", "run", "gallery", "sweep", "lens", "train-lens", "fit-lens", "heal", "skills", "preflight", "export", "keep",
    "report", "verify",
)  # fmt: skip
"""Names of the commands."""
PROGRAM = "python -m surgery_core"


def main(argv: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Run the command line and return the exit code: 0, 1 for a no, 2 for an error, 130 when interrupted."""
    _accept_any_character()
    arguments = parser_of(program).parse_args(argv)
    command: Command = arguments.command
    try:
        output = command(arguments)
        emit(output, arguments.format)
        sys.stdout.flush()
        return output.code
    except SurgeryError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader, such as `head`, has seen enough; keep Python from complaining about it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _accept_any_character() -> None:
    """Let a terminal or pipe that is not UTF-8 show escapes where it lacks a character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def parser_of(program: str) -> argparse.ArgumentParser:
    """Return the parser of all commands, for a program of this name."""
    parser = argparse.ArgumentParser(
        prog=program,
        description="Delete, move, repeat and replace layers of a causal language model, and see what changes.",
        epilog='A plan is written like "0-4,6,5,(7-9)x2,10.mlp"; docs/glossary.md explains the notation.',
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    menu = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_info(menu)
    _add_run(menu)
    _add_gallery(menu)
    _add_sweep(menu)
    _add_lens(menu)
    _add_train_lens(menu)
    _add_fit_lens(menu)
    _add_heal(menu)
    _add_skills(menu)
    _add_preflight(menu)
    _add_export(menu)
    _add_keep(menu)
    _add_report(menu)
    _add_verify(menu)
    return parser


def _add(menu: Commands, name: str, command: Command, text: str, *, several: bool = False) -> argparse.ArgumentParser:
    parser = menu.add_parser(name, help=text, description=text)
    parser.set_defaults(command=command)
    where = parser.add_argument_group("model")
    about = "bundled name, folder, GGUF file, or hub id org/name or org/name:file.gguf (default: fable)"
    if several:
        where.add_argument(
            "--model", dest="models", nargs="+", action="extend", metavar="NAME", help=f"{about}; or several"
        )
    else:
        where.add_argument("--model", metavar="NAME", help=about)
    where.add_argument("--revision", help="branch, tag or commit of a hub model")
    where.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, spread (default: the best one found)"
    )
    where.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    _add_form(parser)
    return parser


def _add_form(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="format", action="store_const", const="json", help="write JSON")
    form.add_argument("--csv", dest="format", action="store_const", const="csv", help="write CSV")
    parser.set_defaults(format="text")


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plan",
        metavar="PLAN",
        help='the operated model, such as "0-4,7-11", or a .yaml of mergekit (default: unchanged)',
    )
    parser.add_argument("--unproved", action="store_true", help="go on with a plan that does not pass its checks")
    texts_options.add_calibration(parser)


def _add_chat(where: argparse._ActionsContainer) -> None:
    where.add_argument(
        "--chat",
        action="store_const",
        const=True,
        help="the prompt is a message, put to the model by its chat template",
    )
    where.add_argument("--system", metavar="TEXT", help="what the model is told before the message; with --chat")


def _add_info(menu: Commands) -> None:
    parser = _add(menu, "info", commands.info, "Show a model's facts, or the models that lie ready.")
    parser.add_argument("--list", action="store_true", help="list the models that can be opened by name")


def _add_run(menu: Commands) -> None:
    text = "Operate a model; show its text and its scores before and after. Or run a recipe with all that it has."
    parser = _add(menu, "run", commands.run, text)
    _add_recipe(parser)
    _add_experiment(parser).add_argument(
        "--save-recipe", metavar="FILE", help="write this experiment as a recipe before running it"
    )


def _add_gallery(menu: Commands) -> None:
    text = "List the experiments of papers that come along; or run all of them and write what they came to."
    gallery_command.add_options(_add(menu, "gallery", gallery_command.gallery, text))


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    text = "a recipe's file, or its key in the gallery; or say with options what to measure"
    parser.add_argument("file", nargs="?", metavar="RECIPE", help=text)


def _add_experiment(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that say what to measure, and return their group."""
    _add_plan(parser)
    what = parser.add_argument_group("what to measure")
    what.add_argument("--prompt", action="append", metavar="TEXT", help="a beginning to continue (repeatable)")
    what.add_argument(
        "--text", action="append", metavar="FILE", help="a text to score, - for standard input (repeatable)"
    )
    texts_options.add_scored(what)
    what.add_argument("--recipe", metavar="FILE", help="take model, plan, texts, prompts and settings from a recipe")
    how = parser.add_argument_group("how prompts are continued")
    how.add_argument("--max-new-tokens", type=int, metavar="N", help="length in tokens (default: 64)")
    how.add_argument("--temperature", type=float, metavar="T", help="0 is greedy (default: 0)")
    how.add_argument("--top-k", type=int, metavar="K", help="choose among K tokens (default: 0, no limit)")
    how.add_argument("--top-p", type=float, metavar="P", help="choose among the likeliest that sum to P (default: 1)")
    how.add_argument("--seed", type=int, metavar="N", help="of the choice (default: 0)")
    _add_chat(how)
    return what


def _add_sweep(menu: Commands) -> None:
    text = "Try one kind of edit everywhere: which layers matter? Rows come as they are known."
    sweep_command.add_options(_add(menu, "sweep", sweep_command.sweep, text, several=True))


def _add_lens(menu: Commands) -> None:
    parser = _add(menu, "lens", lens_command.lens, "Show what each layer would predict next.")
    _add_plan(parser)
    _add_chat(parser)
    lens_command.add_options(parser)


def _add_train_lens(menu: Commands) -> None:
    parser = _add(menu, "train-lens", lens_command.train_lens, "Train a tuned lens for a model and save it.")
    parser.add_argument("--to", required=True, metavar="FOLDER", help="where the lens is written")
    parser.add_argument("--text", action="append", metavar="FILE", help="what to train on (default: the bundled texts)")
    texts_options.add_sources(parser)
    parser.add_argument("--steps", type=int, metavar="N", help="steps of training (default: 150)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the order of the texts (default: 0)")


def _add_fit_lens(menu: Commands) -> None:
    parser = _add(
        menu, "fit-lens", jacobian_command.fit_lens, "Fit a Jacobian lens for a model, or for a plan, and save it."
    )
    _add_plan(parser)
    jacobian_command.add_options(parser)


def _add_heal(menu: Commands) -> None:
    text = (
        "Train what is left after a cut a little, towards the base's own predictions, and save it as a checkpoint of its "
        "own. Part of the texts is never trained on; figures are of those."
    )
    heal_command.add_options(_add(menu, "heal", heal_command.heal, text))


def _add_skills(menu: Commands) -> None:
    parser = _add(menu, "skills", commands.skills, "Show which skills survive: accuracy before and after.")
    _add_plan(parser)


def _add_preflight(menu: Commands) -> None:
    parser = _add(menu, "preflight", commands.preflight, "Find out whether surgery on a model can be trusted.")
    parser.add_argument(
        "--plan", metavar="PLAN", help="the plan to check (default: without the first layer, backwards)"
    )


def _add_export(menu: Commands) -> None:
    parser = _add(
        menu,
        "export",
        commands.export,
        "Save the operated model as a checkpoint of its own, in the number format of the one that it comes from, or in that of "
        "--dtype; or, from a GGUF file, as a GGUF file without packing its weights anew.",
    )
    _add_plan(parser)
    parser.add_argument(
        "--to", required=True, metavar="FOLDER", help="a new or empty folder, or from a GGUF file a new FILE.gguf"
    )
    parser.add_argument("--no-figures", action="store_true", help="leave the scores out of the model card; faster")
    parser.add_argument(
        "--push", metavar="REPO", help="push it to the hub as org/name, which you are logged in to write"
    )
    parser.add_argument("--public", action="store_true", help="with --push: a repository that everyone sees")


def _add_keep(menu: Commands) -> None:
    text = (
        "Write an experiment as a file: recipe (.toml), script (.py), notebook (.ipynb), the plan's picture (.svg, .png, "
        ".html), the table of scores (.csv, .json, .parquet, .md) or a passthrough merge (.yaml)."
    )
    parser = _add(menu, "keep", commands.keep, text)
    _add_experiment(parser)
    parser.add_argument("--to", required=True, metavar="FILE", help="its ending says what is written")
    parser.add_argument(
        "--page", default="surgery", choices=("surgery", "compare", "lens", "sweep", "skills", "models"),
        help="which page a script or notebook reproduces (default: surgery)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    reads = parser.add_argument_group("how a script of the Lens page reads")
    reads.add_argument("--lens", metavar="LENS", help="logit (the default), tuned for the model's own, or a folder")
    reads.add_argument("--follow", choices=("layer", "position"), help="what translators follow (default: layer)")
    reads.add_argument("--inside", action="store_true", help="read inside layers too")
    reads.add_argument("--start", type=int, metavar="N", help="begin at this token (default: 0)")
    what = parser.add_argument_group("what a script of the Sweep page tries")
    what.add_argument("--sweep", metavar="KIND", help="a kind of sweep (default: the recipe's, or delete)")
    asked_sweep.add_options(parser)


def _add_report(menu: Commands) -> None:
    text = (
        "Write an experiment as a report that can be run again: a page that needs no network (.html), or the recipe with its "
        "figures (.toml)."
    )
    parser = _add(menu, "report", report_command.report, text)
    _add_recipe(parser)
    report_command.add_options(parser, _add_experiment(parser))


def _add_verify(menu: Commands) -> None:
    text = (
        "Run what a report, a recipe with figures, or an exported checkpoint's card states again, and say of each figure "
        "whether it agrees within its tolerance. The exit code is 0 where all do, 1 where one does not, 2 for a file that "
        "cannot be read."
    )
    parser = menu.add_parser("verify", help="Run a report's figures again, and say which agree.", description=text)
    parser.set_defaults(command=report_command.verify)
    parser.add_argument("file", metavar="FILE", help="a report (.html), a recipe (.toml), a card (.md) or its folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: the best one found)")
    parser.add_argument("--dtype", help="another number format than the figures were made with")
    _add_form(parser)
