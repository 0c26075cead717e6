"""Who may import whom: the library knows no Streamlit, the pages know no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def imported(path: Path) -> set[str]:
    """Return the top-level packages that a file imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def sources(*folders: str) -> list[str]:
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert files, f"no sources in {folders}: has a folder moved?"
    return sorted(path.relative_to(ROOT).as_posix() for path in files)


@pytest.mark.parametrize("file", sources("surgery_core"))
def test_the_library_imports_neither_streamlit_nor_the_pages(file: str) -> None:
    assert not imported(ROOT / file) & {"streamlit", "surgery_ui", "pages"}


@pytest.mark.parametrize("file", sources("pages"))
def test_pages_import_neither_torch_nor_transformers(file: str) -> None:
    assert not imported(ROOT / file) & {"torch", "transformers"}


PURE = ("errors.py", "text.py", "models/checkpoint.py", "recipes/recipe.py")


@pytest.mark.parametrize("file", [*sources("surgery_core/plans"), *(f"surgery_core/{name}" for name in PURE)])
def test_planning_and_describing_never_import_torch_at_the_top(file: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    top = ast.Module([node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))], [])
    names = {alias.name for node in top.body if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in top.body if isinstance(node, ast.ImportFrom)}
    assert not {name for name in names if name.partition(".")[0] in ("torch", "transformers", "huggingface_hub")}


def test_the_whole_library_runs_without_streamlit() -> None:
    modules = [
        file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for file in sources("surgery_core")
        if not file.endswith("__main__.py")
    ]
    code = f"import sys; sys.modules['streamlit'] = None; import {', '.join(modules)}"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True)


def test_no_two_files_of_tests_have_one_name() -> None:
    """One `pytest` over all of them, the README's command, could not tell them apart."""
    from collections import Counter

    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
