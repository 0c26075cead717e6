"""What the README promises can be typed as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from surgery_core.cli.options import main
from tests.core.test_boundary import imported
from tests.tiny import build_model, build_tokenizer

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def test_the_library_in_ten_lines_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    exec(compile(code, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert out.startswith("0-4,6,5,7,9-11\n")
    assert "perplexity_after" in out
    assert re.search(r"top-1 agreement \d+%, KL \d+\.\d+ nats a token", out)


def commands() -> list[str]:
    lines = [line for block in blocks("") for line in block.splitlines()]
    return [line for line in lines if line.startswith("python -m surgery_core ")]


def test_the_readme_shows_every_command() -> None:
    assert {shlex.split(line)[3] for line in commands()} == {
        "info",
        "run",
        "gallery",
        "sweep",
        "lens",
        "train-lens",
        "fit-lens",
        "heal",
        "skills",
        "preflight",
        "export",
        "keep",
        "report",
        "verify",
    }


SHORT = {
    "train-lens": ["--steps", "1"],
    "heal": ["--steps", "1", "--no-stitch"],
    "greedy": ["--texts", "story.txt"],
}
"""What ends a line that would take minutes, by its first or its last word."""


def _small_fable(folder: Path) -> Path:
    """Return a folder with a random model of the bundled one's name and depth: what is tried is that each line runs."""
    small = folder / "models" / "fable"
    build_model("llama", num_hidden_layers=12).save_pretrained(small)
    build_tokenizer().save_pretrained(small)
    return small


def test_its_command_lines_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "story.txt").write_text(
        "There was once a fox who wanted to be a king, and nobody knew why it was so.", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(_small_fable(tmp_path).parent))
    for line in commands():
        words = shlex.split(line)[3:]
        assert main([*words, *SHORT.get(words[0], []), *SHORT.get(words[-1], [])]) == 0
        assert capsys.readouterr().out.strip()


def test_the_two_commands_name_files_that_are_there() -> None:
    start, tests = (block for block in blocks("") if "pip install" in block)
    assert start == "python -m pip install -r requirements.txt && streamlit run app.py\n"
    assert tests == "python -m pip install -r requirements-dev.txt && pytest\n"
    assert all((ROOT / file).is_file() for file in ("requirements.txt", "app.py", "requirements-dev.txt"))


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name
)
def test_links_between_pages_lead_somewhere(file: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", file.read_text(encoding="utf-8"))
    missing = [t for t in targets if not t.startswith("http") and not (file.parent / t).exists()]
    assert missing == []


def test_requirements_are_pinned_and_cover_what_the_sources_import() -> None:
    # what only some need is imported where it is used
    files = ("requirements.txt", "requirements-scale.txt")
    text = "\n".join((ROOT / file).read_text() for file in files)
    pins = re.findall(r"^([\w-]+)(==\S+)?$", text, re.MULTILINE)
    assert all(version for _, version in pins)
    names = {name.lower().replace("-", "_") for name, _ in pins}
    files = [
        *(ROOT / "surgery_core").rglob("*.py"),
        *(ROOT / "surgery_ui").rglob("*.py"),
        *(ROOT / "pages").glob("*.py"),
    ]
    needed = {name for file in files for name in imported(file)} - set(sys.stdlib_module_names)
    called = {"yaml": "pyyaml", "vl_convert": "vl_convert_python"}
    assert {called.get(name, name) for name in needed} - {"surgery_core", "surgery_ui"} <= names


def brought_by(file: str) -> set[str]:
    """Return the distributions that a requirements file installs, with all that those need."""
    found: set[str] = set()
    waiting = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith(("#", "-"))]
    while waiting:
        wanted = Requirement(waiting.pop())
        name = canonicalize_name(wanted.name)
        if name in found or (wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += metadata.requires(name) or []
    return found


SAVE = """
import sys
from importlib.machinery import PathFinder
class Without:
    find_distributions = PathFinder.find_distributions
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in {blocked!r} else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Without if one is PathFinder else one for one in sys.meta_path]
import altair, pandas
from surgery_ui.sweep_page.saving import rendered
chart = altair.Chart(pandas.DataFrame({{"x": [1], "y": [2]}})).mark_bar().encode(x="x:O", y="y:Q")
print([len(rendered(chart, kind, {{}})) > 100 for kind in ("svg", "png", "html")])
"""


def test_charts_are_saved_with_nothing_but_what_the_first_command_installs() -> None:
    there = brought_by("requirements.txt")
    blocked = {
        module
        for module, owners in metadata.packages_distributions().items()
        if not there & {canonicalize_name(owner) for owner in owners}
    }
    assert {"pytest", "playwright", "ray"} <= blocked
    command = [sys.executable, "-c", SAVE.format(blocked=blocked)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "[True, True, True]", result.stderr


def test_the_package_says_which_version_it_is() -> None:
    command = [sys.executable, "-m", "surgery_core", "--version"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split()[-1] in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
