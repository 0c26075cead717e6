"""The app's sources as syntax trees, for tests of what they may say."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of every module of the app and of its pages, by its path."""
    paths = [*(ROOT / "surgery_ui").rglob("*.py"), *(ROOT / "pages").glob("*.py")]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(paths)}


def calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def name_of(call: ast.Call) -> str:
    """Return the last part of the name of what is called."""
    return ast.unparse(call.func).rsplit(".", 1)[-1]
