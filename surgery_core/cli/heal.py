"""The command `heal`: train what is left after a cut a little, and save it as a checkpoint."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from surgery_core.cli.commands import load, named_plan
from surgery_core.cli.output import Output, table
from surgery_core.cli.texts import add_sources, chosen_set

if TYPE_CHECKING:
    from surgery_core.suture.heal_report import HealReport
    from surgery_core.suture.healing import Healing, HealProgress
    from surgery_core.text import Text


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `heal` has besides the model."""
    parser.add_argument("--plan", metavar="PLAN", required=True, help='what is left, such as "0-3,7-11"')
    parser.add_argument("--unproved", action="store_true", help="go on with a plan that does not pass its checks")
    parser.add_argument("--out", metavar="FOLDER", help="a new or empty folder for the healed checkpoint")
    parser.add_argument(
        "--resume", metavar="FOLDER", help="where it is written how the training stands; one that stands there goes on"
    )
    add_sources(parser)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, metavar="N", help="of training (default: 3)")
    length.add_argument("--steps", type=int, metavar="N", help="instead; then the same seed gives the same result")
    parser.add_argument("--rank", type=int, metavar="N", help="of the low-rank updates (default: 32)")
    parser.add_argument("--learning-rate", type=float, metavar="X", help="of Adam at its highest (default: 0.004)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the order of the texts (default: 0)")
    parser.add_argument("--no-stitch", action="store_true", help="train from the plain cut")


def heal(arguments: argparse.Namespace) -> Output:
    """Heal a plan; save it where that is asked for, and return what came of it. Ctrl+C ends it with the best so far."""
    from surgery_core.keeping.healed import export_healed
    from surgery_core.proof.export import require_empty
    from surgery_core.proof.preflight import prove
    from surgery_core.suture.heal import heal as healed
    from surgery_core.suture.heal_report import heal_report

    if arguments.out is not None:
        require_empty(arguments.out)
    settings, texts, loaded = _settings(arguments), _texts(arguments), load(arguments)
    plan = named_plan(loaded, arguments)
    if not (arguments.unproved or plan.is_identity):
        prove(loaded.model, loaded.tokenizer, plan.unstitched, suggest=True)
    minutes = 3.0 if arguments.minutes is None else arguments.minutes
    with _interrupted() as stop:
        view = healed(
            loaded.model, plan, loaded.tokenizer, texts, minutes=minutes, steps=arguments.steps, settings=settings,
            folder=arguments.resume, stop=stop, on_progress=_Lines() if arguments.format == "text" else None,
        )  # fmt: skip
    report = heal_report(view)
    folder = None if arguments.out is None else str(export_healed(loaded, view, arguments.out))
    return Output(_text(report, folder), report.rows(), {"folder": folder} | report.plain())


def _settings(arguments: argparse.Namespace) -> Healing:
    from surgery_core.suture.healing import Healing

    given: dict[str, Any] = {name: getattr(arguments, name) for name in ("rank", "learning_rate", "seed")}
    return Healing(
        **{name: value for name, value in given.items() if value is not None}, stitch=not arguments.no_stitch
    )


def _texts(arguments: argparse.Namespace) -> tuple[Text, ...]:
    from surgery_core.suture.calibration import calibration_texts

    chosen = chosen_set(arguments)
    return calibration_texts() if chosen is None else chosen.scored()


def _text(report: HealReport, folder: str | None) -> str:
    rows = [{name: value for name, value in row.items() if not name.endswith("_said")} for row in report.rows()]
    verdicts = [f"{side.name}: {side.to_before.sentence}" for side in report.sides if side.to_before is not None]
    saved = [] if folder is None else [f"Saved in {folder}."]
    return "\n\n".join([report.sentence, table(rows), "\n".join(verdicts), *saved])


class _Lines:
    """Writes a line to standard error for every new reading of the texts held out."""

    def __init__(self) -> None:
        self._shown = 0

    def __call__(self, now: HealProgress) -> None:
        """Write what is new."""
        for read in now.held[self._shown :]:
            left = "" if now.seconds_left != now.seconds_left else f", {now.seconds_left:,.0f} s left"
            sys.stderr.write(
                f"step {read.step:,} ({now.share:.0%}{left}): held-out loss {read.nats:.4f} nats, KL {read.kl:.4f}\n"
            )
        self._shown = len(now.held)


@contextmanager
def _interrupted() -> Iterator[threading.Event]:
    """Have the first Ctrl+C set an event inside the block; a second one ends the program."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)
        sys.stderr.write("Ending with the best so far; press Ctrl+C again to leave at once.\n")

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
