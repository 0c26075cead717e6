"""The public surface: complete, documented, and free until it is used."""

from __future__ import annotations

import inspect
import pickle
import pkgutil
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

ALIASES = {"BaseInterpretabilityBench": "Bench"}


def test_what_is_promised_is_listed() -> None:
    assert set(surgery_core.__all__) >= DESIGNED
    assert surgery_core.__all__ == sorted(surgery_core.__all__)


@pytest.mark.parametrize("name", surgery_core.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(surgery_core, name)
    assert not inspect.ismodule(value)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__name__ == ALIASES.get(name, name)
        assert value.__module__ == "surgery_core"
        assert inspect.getdoc(value)


def test_no_room_has_the_name_of_what_is_exported() -> None:
    # importing a room or module sets it as an attribute of the package, in place of what was there
    rooms = {found.name for found in pkgutil.iter_modules(surgery_core.__path__)}
    assert not rooms & set(surgery_core.__all__)


def test_an_exported_class_is_pickled_by_its_public_name() -> None:
    plan = surgery_core.LayerPlan.parse("0-4,6,5", 7)
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
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
