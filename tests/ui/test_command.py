"""`model-surgery`: the app by itself, the library's commands behind it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from surgery_core.cli.options import COMMANDS, parser_of
from surgery_ui import command
from surgery_ui.session.first import FIRST_VARIABLE
from surgery_ui.work.kinds import TABLE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the arguments that Streamlit is started with, instead of starting it."""
    from streamlit.web import cli

    calls: list[list[str]] = []
    monkeypatch.setenv(FIRST_VARIABLE, "")
    monkeypatch.setattr(cli, "main", lambda args, **options: calls.append(args))
    return calls


def test_by_itself_it_serves_the_app_on_this_machine(served: list[list[str]]) -> None:
    assert command.main([]) == 0
    assert served == [["run", str(ROOT / "app.py"), "--server.address=localhost", "--"]]


def test_port_address_and_folders(served: list[list[str]], tmp_path: Path) -> None:
    command.main(["--port", "9000", "--address", "0.0.0.0", "--no-browser", str(tmp_path)])
    assert served[0][2:] == [
        "--server.address=0.0.0.0", "--server.port=9000", "--server.headless=true", "--", str(tmp_path),
    ]  # fmt: skip


def test_a_model_by_name_or_by_folder(served: list[list[str]], tiny_folder: Path, tmp_path: Path) -> None:
    command.main(["--model", "org/name"])
    assert os.environ[FIRST_VARIABLE] == "org/name"
    assert served[0][-1] == "--"
    command.main([str(tmp_path), "--model", str(tiny_folder)])
    assert served[1][-2:] == [str(tiny_folder), str(tmp_path)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["swep"], "there is no folder 'swep', and no such command; commands: info, run, gallery, sweep"),
        (["--port", "0"], "'0' is no port; give a number from 1 to 65535"),
        (["--port", "x"], "'x' is no port"),
        (
            ["--address", "nowhere.invalid"],
            "'nowhere.invalid' is no address of this machine; give localhost, or 0.0.0.0",
        ),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(
    words: list[str], said: str, served: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert served == []


def test_every_command_is_the_librarys(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for main in (command.main, __import__("surgery_core.cli.options", fromlist=["main"]).main):
        assert main(["info", "--list", "--json"]) == 0
        outputs.append(json.loads(capsys.readouterr().out))
    assert outputs[0] == outputs[1]
    with pytest.raises(SystemExit):
        command.main(["sweep", "--help"])
    assert capsys.readouterr().out.startswith("usage: model-surgery sweep ")


def test_all_commands_are_known() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "surgery_core", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert tuple(re.findall(r"^    ([a-z-]+)\b", help_text, re.MULTILINE)) == COMMANDS


def test_help_and_version_start_nothing(served: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("--help", "--version"):
        with pytest.raises(SystemExit) as ended:
            command.main([word])
        assert ended.value.code == 0
    assert "model-surgery [options] [FOLDER ...]" in capsys.readouterr().out
    assert served == []


def test_the_container_starts_it_for_everyone_who_can_reach_it(served: list[list[str]]) -> None:
    said = re.search(r"^CMD (\[.+\])$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert said
    program, *words = json.loads(said[1])
    assert program == "model-surgery"
    command.main(words)
    assert served[0][2:] == ["--server.address=0.0.0.0", "--server.port=8501", "--server.headless=true", "--"]


def test_the_header_of_a_space_is_one_and_names_the_containers_port() -> None:
    from huggingface_hub import SpaceCard

    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    header = re.search(r"```yaml\n(---\n.+?\n---)\n```", page, re.DOTALL)
    assert header
    data = SpaceCard(header[1] + "\n").data
    assert (data.sdk, data.app_port, data.license) == ("docker", 8501, "apache-2.0")
    assert len(data.short_description) <= 60
    assert "EXPOSE 8501" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


ON_THE_COMMAND_LINE = {
    "model": "info",
    "text": "run --prompt Once",
    "base": "run",
    "table": "run",
    "comparison": "run --plan 0,3",
    "lens": "lens --prompt Once --inside --pick a --follow position",
    "distances": "lens --prompt Once --plan 0,3 --before",
    "averages": "lens --averages --before --plan 0,3",
    "quality": "lens --quality --tuned lens",
    "preflight": "preflight",
    "proof": "preflight --plan 0,3",
    "nearest": "run --plan 0,3",
    "checkpoint": "export --plan 0,3 --to folder",
    "gguf": "export --plan 0,3 --to x.gguf",
    "report": "report recipe.toml --to x.html",
    "mergekit": "keep --plan 0,3 --to x.yaml",
    "counts": "run --texts folder --json",
    "speeds": "sweep",
    "costs": "sweep",
    "reading": "sweep",
    "stitches": "run --plan 0,3 --stitch",
    "skills": "skills --plan 0,3",
    "sweep": "sweep --kind delete",
    "search": "sweep --kind greedy",
    "importance": "sweep --kind importance",
    "study": "run delete-each",
    "lens-training": "train-lens --to lens",
    "healing": "heal --plan 0,3 --texts folder --minutes 1 --out folder",
    "lens-fetch": "lens --tuned org/name",
}
"""By the kind of work that a page asks for, the command that does it without one. What work costs a command tells by its
progress bar, and which plan is the nearest that is allowed by its refusal."""


def test_the_command_line_does_whatever_pages_do() -> None:
    assert ON_THE_COMMAND_LINE.keys() == {kind.key for kind in TABLE}
    for words in ON_THE_COMMAND_LINE.values():
        parser_of("model-surgery").parse_args(words.split())
