"""The wheel, installed in an environment of its own and started in an empty folder, is the whole app."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from surgery_ui.work.channel import PATH
from tests.browser.conftest import ROOT, served
from tests.browser.driver import await_plan, figures, order, settle, type_notation

MEGABYTES = 16
"""Most that the wheel may weigh."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of this repository."""
    folder = tmp_path_factory.mktemp("dist")
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the command of an environment with this wheel, which borrows everything else from the one of the tests."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    site = next(home.glob("lib/python*/site-packages"))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["--python", str(home / "bin" / "python"), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    return home / "bin" / "model-surgery"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return how to start a program in an empty folder, with nothing of this repository around."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MODEL_SURGERY", "PYTHONPATH"))}
    home = tmp_path_factory.mktemp("home")
    return {"cwd": tmp_path_factory.mktemp("empty"), "env": kept | {"HOME": str(home)}}


@pytest.fixture(scope="module")
def address(
    chromium: Any, program: Path, elsewhere: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    log = tmp_path_factory.mktemp("log") / "log.txt"
    with served(lambda port: [str(program), "--port", str(port), "--no-browser"], log, **elsewhere) as found:
        yield found


def test_the_wheel_holds_the_app_and_the_model_and_little_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.stat().st_size < MEGABYTES * 2**20
    for file in ("app.py", ".streamlit/config.toml", *(f"pages/{path.name}" for path in (ROOT / "pages").glob("*.py"))):
        assert f"surgery_ui/shipped/{file}" in names
    assert "surgery_ui/shipped/glossary.md" in names
    assert "surgery_core/shipped/models/fable/model.safetensors" in names
    for path in (ROOT / "workshops").glob("*.toml"):
        assert f"surgery_core/shipped/workshops/{path.name}" in names
    for path in (ROOT / "recipes").rglob("*.*"):
        assert f"surgery_core/shipped/{path.relative_to(ROOT).as_posix()}" in names
    assert "surgery_core/shipped/models/fable/lens/params.safetensors" in names
    assert {"surgery_core/data/texts.toml", "surgery_core/py.typed", "surgery_core/__init__.pyi"} <= set(names)
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"surgery_core", "surgery_ui"}
    assert not [name for name in names if re.search(r"__pycache__|\.pyc|tests/|\.pt$", name)]


def test_the_wheel_needs_what_the_requirements_say(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    needed = re.findall(r"^Requires-Dist: (.+)$", metadata, re.MULTILINE)
    needed = [one for one in needed if "extra ==" not in one]  # what somebody may want besides
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert sorted(name.lower().replace("_", "-") for name in needed) == sorted(
        name.lower().replace("_", "-") for name in pinned
    )


def test_its_commands_are_those_of_the_library(program: Path, elsewhere: dict[str, Any]) -> None:
    run = subprocess.run([program, "info", "--list", "--json"], capture_output=True, text=True, check=True, **elsewhere)
    (fable,) = json.loads(run.stdout)
    assert (fable["name"], fable["kind"], fable["n_layers"]) == ("fable", "bundled", 12)
    assert fable["path"].startswith(str(program.parents[1]))


def test_the_app_is_drawn_and_works(chromium: Any, address: str, expected: Any, elsewhere: dict[str, Any]) -> None:
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    sockets: list[Any] = []
    page.on("websocket", lambda socket: sockets.append(socket))
    page.goto(address)
    settle(page)
    assert {socket.url.rpartition("/")[2] for socket in sockets if not socket.is_closed()} == {"stream", PATH}
    assert order(page) == [f"L{layer}" for layer in range(12)]
    type_notation(page, "0-4,6,5,7-11")
    await_plan(page, "0-4,6,5,7-11")
    assert figures(page) == expected("0-4,6,5,7-11")
    colour = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stSidebar]')).backgroundColor")
    assert colour == "rgb(247, 249, 249)", "the settings beside app.py are not read"
    context.close()
    assert list(elsewhere["cwd"].iterdir()) == []


@pytest.mark.parametrize("page_name", ["lens", "sweep", "skills", "models", "glossary"])
def test_every_page_is_drawn_from_a_cold_link(chromium: Any, address: str, page_name: str) -> None:
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.goto(f"{address}/{page_name}?plan=0-4,6,5,7-11")
    settle(page)
    assert order(page)[5:7] == ["L6", "L5"]
    assert page.get_by_test_id("stAlertContentError").count() == 0
    if page_name == "lens":
        page.get_by_text("Tuned lens", exact=True).first.wait_for()
    context.close()
