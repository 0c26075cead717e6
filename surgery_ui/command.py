"""The command `model-surgery`: by itself it starts the app; with a command it is `python -m surgery_core`."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from surgery_core import __version__
from surgery_core.cli.options import COMMANDS
from surgery_core.cli.options import main as run_command
from surgery_core.errors import SurgeryError
from surgery_ui.session.first import FIRST_VARIABLE
from surgery_ui.work.limits import FILE_VARIABLE

PROGRAM = "model-surgery"
HERE = Path(__file__).parent
APP = HERE / "shipped" / "app.py" if (HERE / "shipped").is_dir() else HERE.parent / "app.py"
"""What Streamlit runs: in the installed package, or in the repository. Its settings lie beside it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, or start the app and serve it until it is interrupted; return the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0] in COMMANDS:
        return run_command(given, PROGRAM)
    arguments = _parser().parse_args(given)
    if arguments.model:
        _open_first(arguments)
    if arguments.limits:
        os.environ[FILE_VARIABLE] = arguments.limits
    if arguments.room is not None and (refused := _make_room(arguments)):
        sys.stderr.write(f"error: {refused}\n")
        return 2
    return _serve(_options(arguments), arguments.folders)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [options] [FOLDER ...]\n       {PROGRAM} COMMAND ...",
        description="Start the app: layer experiments on language models, in the browser.",
        epilog=f"Commands that need no browser: {', '.join(COMMANDS)}. `{PROGRAM} COMMAND --help` tells of each.",
    )
    parser.add_argument("folders", nargs="*", type=_folder, metavar="FOLDER", help="checkpoints, or folders of them")
    parser.add_argument("--model", metavar="NAME", help="what opens at first: a name, a folder or a hub id org/name")
    parser.add_argument("--port", type=_port, metavar="N", help="port of the server (default: 8501, or the next free)")
    parser.add_argument(
        "--address",
        type=_address,
        default="localhost",
        metavar="HOST",
        help="who may connect: localhost (default), 0.0.0.0 for all",
    )
    parser.add_argument(
        "--room",
        nargs="?",
        const="",
        metavar="WORKSHOP",
        help="make a room and print its code and your key; with a workshop: a name that comes along, or a file",
    )
    parser.add_argument(
        "--limits", metavar="FILE", help="what visitors may do (default: surgery.toml, where it lies here)"
    )
    parser.add_argument("--no-browser", action="store_true", help="only serve; open no browser")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _folder(text: str) -> str:
    if Path(text).expanduser().is_dir():
        return text
    raise argparse.ArgumentTypeError(
        f"there is no folder {text!r}, and no such command; commands: {', '.join(COMMANDS)}"
    )


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and 1 <= int(text) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port; give a number from 1 to 65535")


def _address(text: str) -> str:
    try:
        family, kind, *_, address = socket.getaddrinfo(text, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except (OSError, UnicodeError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no address of this machine; give localhost, or 0.0.0.0 for all who can reach it"
        ) from None
    return text


def _open_first(arguments: argparse.Namespace) -> None:
    """Let new sessions open a model: a folder is offered before all others, anything else goes by its name."""
    folder = Path(arguments.model).expanduser()
    if (folder / "config.json").is_file():
        arguments.folders.insert(0, str(folder))
    else:
        os.environ[FIRST_VARIABLE] = arguments.model


def _make_room(arguments: argparse.Namespace) -> str:
    """Make a room, print how to join and how to steer it; return what is wrong, or nothing."""
    from surgery_core.workshops.workshop import WORKSHOPS_FOLDER, load_workshop
    from surgery_ui.rooms.store import Rooms
    from surgery_ui.work.limits import ROOMS_FILE, limits

    try:
        text = ""
        if arguments.room:
            known = WORKSHOPS_FOLDER / f"{arguments.room}.toml"
            path = known if known.is_file() else Path(arguments.room)
            load_workshop(path)
            text = path.read_text(encoding="utf-8-sig")
        code, key = Rooms(limits().state_folder / ROOMS_FILE).create(text)
    except SurgeryError as error:
        return str(error)
    everybody = arguments.address in ("0.0.0.0", "::")
    base = (
        f"http://{socket.gethostname() if everybody else arguments.address}:{arguments.port or 8501}/room?room={code}"
    )
    sys.stdout.write(
        f"Room {code}\n  people join at   {base}\n  you steer it at  {base}&key={key}\n  Keep that second address to yourself.\n"
    )
    sys.stdout.flush()
    return ""


def _options(arguments: argparse.Namespace) -> list[str]:
    given = [f"--server.address={arguments.address}"]
    given += [f"--server.port={arguments.port}"] if arguments.port else []
    return [*given, "--server.headless=true"] if arguments.no_browser else given


def _serve(options: list[str], folders: list[str]) -> int:
    from streamlit.web import cli

    try:
        cli.main(["run", str(APP), *options, "--", *folders], prog_name="streamlit")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
