"""The public surface: complete, documented, and free until it is used."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import surgery_core

SOURCE = Path(surgery_core.__file__)

DESIGNED = {
    "ModelSurgery",
    "LayerPlan",
    "operate",
    "inspect_model",
    "load_model",
    "score",
    "compare",
    "generate",
    "Generation",
    "LogitLens",
    "read_lens",
    "Recipe",
    "run_recipe",
}


def type_checking_imports() -> dict[str, str]:
    """Return name -> module of the imports that only type checkers see."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: node.module.removeprefix("surgery_core.")
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def test_what_is_promised_what_is_listed_and_what_type_checkers_see_agree() -> None:
    assert set(surgery_core.__all__) >= DESIGNED
    assert set(surgery_core.__all__) == set(surgery_core._HOME)
    assert type_checking_imports() == surgery_core._HOME
    assert surgery_core.__all__ == sorted(surgery_core.__all__)


@pytest.mark.parametrize("name", surgery_core.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(surgery_core, name)
    assert not inspect.ismodule(value)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__name__ == name
        assert inspect.getdoc(value)


def test_functions_win_over_submodules_of_the_same_name() -> None:
    for module in ("operate", "generate"):
        importlib.import_module(f"surgery_core.{module}")
        assert inspect.isfunction(getattr(surgery_core, module))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        surgery_core.nothing  # noqa: B018
    assert set(surgery_core.__all__) <= set(dir(surgery_core))


def loaded_after(code: str) -> set[str]:
    """Return the top-level packages that are loaded after `code` ran in a new process."""
    probe = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", probe], cwd=SOURCE.parent.parent, capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import surgery_core",
        "from surgery_core import LayerPlan; LayerPlan.parse('0-4,6,5', 7)",
        "import surgery_core.plans.presets, surgery_core.recipes.recipe, surgery_core.text, surgery_core.cli.options",
    ],
)
def test_planning_and_the_command_line_load_neither_torch_nor_transformers(code: str) -> None:
    assert not loaded_after(code) & {"torch", "transformers", "streamlit"}
